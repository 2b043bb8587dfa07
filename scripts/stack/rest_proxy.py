"""/rest/v1: the Data API behind Supabase's API keys. PostgREST itself knows only tokens."""

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from scripts.stack.keys import Keys

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "host"}


class RestProxy:
    """Passes requests on to PostgREST at `url`, as the role their key stands for."""

    def __init__(self, keys: Keys, url: str) -> None:
        self.roles = {keys["publishable_key"]: "anon", keys["secret_key"]: "service_role"}
        self.keys = keys
        self.client = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)

    async def handle(self, request: Request) -> Response:
        key = request.headers.get("apikey") or request.query_params.get("apikey")
        role = self.roles.get(key or "")
        if role is None:
            message = "Invalid API key" if key else "No API key found in request"
            return JSONResponse({"message": message}, status_code=401)
        if role == "service_role" and "Mozilla/" in request.headers.get("user-agent", ""):
            # As hosted: a secret key in a browser is a leak.
            words = "Forbidden use of secret API key in browser"
            return JSONResponse({"message": words}, status_code=401)
        outgoing = self.client.build_request(
            request.method,
            request.path_params["path"],
            params=[pair for pair in request.query_params.multi_items() if pair[0] != "apikey"],
            headers=self._headers(request, key or "", role),
            content=request.stream() if request.method in {"POST", "PUT", "PATCH"} else None,
        )
        try:
            answer = await self.client.send(outgoing, stream=True)
        except httpx.TransportError:
            words = "The Data API is not reachable"
            return JSONResponse({"message": words}, status_code=503)
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP},
            background=BackgroundTask(answer.aclose),
        )

    def _headers(self, request: Request, key: str, role: str) -> list[tuple[str, str]]:
        # "apikey" stays behind; an own token of a user wins over the key, as hosted.
        kept = [
            (name, value)
            for name, value in request.headers.items()
            if name not in HOP_BY_HOP | {"apikey", "authorization"}
        ]
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        token = bearer if bearer and bearer != key else self.keys.role_token(role)
        return [*kept, ("authorization", f"Bearer {token}")]
