"""Alibaba OSS as far as an archive needs it: path-style requests, XML, faults on demand."""

import asyncio
import base64
import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree import ElementTree

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scripts.stack.oss.bucket import Bucket, Stored, flipped
from scripts.stack.oss.signatures import Refused, check
from scripts.stack.oss.signatures import Request as Signed

REGION: Final = "local-1"
BUCKET: Final = "stalela-archive"
_SLOW_S: Final = 3.0
_METHODS: Final = ["GET", "HEAD", "PUT", "POST", "DELETE"]


class Endpoint:
    """One bucket of one account.

    Faults: down, slow, cut, lost_answer; garble (another body arrives than was sent) and damage
    (the storage spoils what arrived well). Each strikes objects whose keys match a pattern.
    """

    def __init__(self, bucket: Bucket, access_key: str, secret: str) -> None:
        self.bucket = bucket
        self._access_key, self._secret = access_key, secret
        self._faults: list[tuple[str, str]] = []
        self._requests: list[str] = []

    def app(self) -> Starlette:
        """The endpoint, and /control beside it, which no bucket may be called."""
        return Starlette(
            routes=[
                Route("/control/health", lambda _: JSONResponse({"status": "ok"})),
                Route("/control/faults", self._arm, methods=["POST"]),
                Route("/control/faults", self._disarm, methods=["DELETE"]),
                Route("/control/rot", self._rot, methods=["POST"]),
                Route("/control/objects", self._objects),
                Route("/control/requests", lambda _: JSONResponse(self._requests)),
                Route("/{path:path}", self._serve, methods=_METHODS),
            ]
        )

    async def _serve(self, request: Request) -> Response:
        self._requests.append(f"{request.method} {request.url.path}")
        name, _, key = request.path_params["path"].partition("/")
        if self._strikes("slow", key):
            await asyncio.sleep(_SLOW_S)
        body = await request.body()
        if body and self._strikes("garble", key):
            body = flipped(body)
        try:
            if self._strikes("down", key):
                raise Refused(503, "ServiceUnavailable", "Please try again later.")
            self._authenticate(request)
            if name != BUCKET:
                raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
            answer = self._object(request, key, body) if key else self._bucket(request, body)
            if self._strikes("lost_answer", key):
                raise Refused(500, "InternalError", "We encountered an internal error.")
        except Refused as refused:
            answer = _error(refused)
        answer.headers["x-oss-request-id"] = uuid.uuid4().hex.upper()
        return answer

    def _authenticate(self, request: Request) -> None:
        raw = request.scope["raw_path"].partition(b"?")[0].decode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = request.scope["query_string"].decode()
        check(
            Signed(request.method, raw, query, headers),
            self._access_key,
            self._secret,
            REGION,
            datetime.now(UTC),
        )

    def _object(self, request: Request, key: str, body: bytes) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        match request.method:
            case "PUT":
                once = headers.get("x-oss-forbid-overwrite") == "true"
                stored = self.bucket.put(key, body, headers, once=once)
                if self._strikes("damage", key):
                    self.bucket.rot(key)
                return Response(headers={"etag": f'"{stored.etag}"'})
            case "GET" | "HEAD":
                stored, kept = self.bucket.read(key)
                sent = kept[: len(kept) // 2] if self._strikes("cut", key) else kept
                content = b"" if request.method == "HEAD" else sent
                return Response(content, headers=_headers(stored, len(kept)))
            case "DELETE":
                self.bucket.delete(key)
                return Response(status_code=204)
        raise Refused(405, "MethodNotAllowed", "The specified method is not allowed.")

    def _bucket(self, request: Request, body: bytes) -> Response:
        query, method = request.query_params, request.method
        if method == "GET" and "worm" in query:
            return self._shown_policy()
        if method == "GET" and query.get("list-type") == "2":
            return _listing(self.bucket.list(query.get("prefix", "")))
        if method == "POST" and "worm" in query:
            days = _document(body).findtext("RetentionPeriodInDays")
            return Response(headers={"x-oss-worm-id": self.bucket.propose(int(days or 0))})
        if method == "POST" and "wormId" in query:
            self.bucket.lock(query["wormId"])
            return Response()
        raise Refused(400, "InvalidArgument", "This endpoint does not know that.")

    def _shown_policy(self) -> Response:
        policy = self.bucket.policy()
        if policy is None:
            raise Refused(404, "NoSuchWORMConfiguration", "There is no retention policy.")
        return _xml(
            "WormConfiguration",
            {
                "WormId": policy.worm_id,
                "State": policy.state,
                "RetentionPeriodInDays": str(policy.days),
                "CreationDate": policy.created_at,
            },
        )

    async def _arm(self, request: Request) -> Response:
        """Arm a fault: {"fault": name, "times": 1, "keys": pattern}."""
        body = json.loads(await request.body())
        self._faults.extend([(body["fault"], body.get("keys", ""))] * body.get("times", 1))
        return JSONResponse({"armed": body["fault"]})

    async def _disarm(self, _request: Request) -> Response:
        self._faults.clear()
        return JSONResponse({"armed": None})

    async def _rot(self, request: Request) -> Response:
        """Damage an object that is kept: {"key": …}."""
        body = json.loads(await request.body())
        self.bucket.rot(body["key"])
        return JSONResponse({"damaged": body["key"]})

    async def _objects(self, request: Request) -> Response:
        stored = self.bucket.list(request.query_params.get("prefix", ""))
        return JSONResponse([{"key": one.key, "size": one.size} for one in stored])

    def _strikes(self, fault: str, key: str) -> bool:
        for armed in self._faults:
            if armed[0] == fault and re.search(armed[1], key):
                self._faults.remove(armed)
                return True
        return False


def _headers(stored: Stored, size: int) -> dict[str, str]:
    return stored.headers | {
        "etag": f'"{stored.etag}"',
        "content-length": str(size),
        "x-oss-object-type": "Normal",
        "last-modified": f"{datetime.fromisoformat(stored.written_at):%a, %d %b %Y %H:%M:%S GMT}",
    }


def _listing(stored: list[Stored]) -> Response:
    root = ElementTree.Element("ListBucketResult")
    ElementTree.SubElement(root, "IsTruncated").text = "false"
    for one in stored:
        node = ElementTree.SubElement(root, "Contents")
        for name, value in {
            "Key": one.key,
            "LastModified": one.written_at,
            "ETag": f'"{one.etag}"',
            "Type": "Normal",
            "Size": str(one.size),
            "StorageClass": "Standard",
        }.items():
            ElementTree.SubElement(node, name).text = value
    return _answer(root, 200)


def _error(refused: Refused) -> Response:
    answer = _xml("Error", {"Code": refused.code, "Message": refused.message}, refused.status)
    # HEAD has no body to say it in.
    answer.headers["x-oss-err"] = base64.b64encode(bytes(answer.body)).decode()
    return answer


def _xml(name: str, members: dict[str, str], status: int = 200) -> Response:
    root = ElementTree.Element(name)
    for member, value in members.items():
        ElementTree.SubElement(root, member).text = value
    return _answer(root, status)


def _answer(root: ElementTree.Element, status: int) -> Response:
    text = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(text, status, media_type="application/xml")


def _document(body: bytes) -> Any:
    try:
        return ElementTree.fromstring(body)  # noqa: S314  a test's own body
    except ElementTree.ParseError:
        raise Refused(400, "MalformedXML", "The XML you provided was not well-formed.") from None
