"""Serves /verify: is this paper what was sealed? For whoever holds it, without an account.

An unknown number and a wrong code are one answer, made by the same work: nobody learns from us
which numbers exist. See judging.py and fiscal.verification_facts.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from functions.verify import models, page
from functions.verify.counting import Channel, Views
from functions.verify.judging import Facts, Question, Verdict, judge
from shared.clock import utc_now
from shared.config import Settings
from shared.db import Database
from shared.errors import DependencyUnavailable, InvalidRequest, NotFound, RateLimited
from shared.http.app import create_app
from shared.http.caller import ApiCaller, Caller, FunctionCaller, VisitorCaller
from shared.http.limits import Refused, TokenBuckets, bucket_name
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router
from shared.signing.jwk import jwk_of

router = Router("verify")

PER_MINUTE: Final = 30  # look-ups from one address
ANSWER_MAX_AGE_S: Final = 30  # credits and revocations show after that
KEYS_MAX_AGE_S: Final = 3600

_HTML: Final = {"text/html": {"schema": {"type": "string"}, "example": "<!doctype html>…"}}


def _pages() -> dict[int | str, dict[str, Any]]:
    """What /i answers: pages, also when it refuses; only what is no request gets a problem."""
    documented = problem_responses(404, 429, 503)
    for answer in documented.values():
        answer["content"] |= _HTML
    return {200: {"content": _HTML}, **documented}


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Verify",
        description="Whether a fiscal document is what was sealed: for people, programs, offline.",
    )
    app.state.database = Database(settings)
    app.state.views = Views(app.state.database)
    # Where limits by address are off, as behind the local gateway, this one is too.
    per_s = PER_MINUTE / 60 if settings.ip_requests_per_s else 0
    app.state.lookups = TokenBuckets(per_s, PER_MINUTE)
    return app


@router.get("/i", response_class=HTMLResponse, responses=_pages())
async def show_verification(
    caller: FunctionCaller,
    request: Request,
    fn: Annotated[str, Query(description="The fiscal number.", examples=[models.NUMBER])] = "",
    ac: Annotated[str, Query(description="The authentication code.", examples=[models.CODE])] = "",
    ts: Annotated[str, Query(description="When the paper says it was sealed.")] = "",
    fa: Annotated[str, Query(description="The fiscal authority id on the paper.")] = "",
    lang: Annotated[str, Query(description="en, fr or sw; else the browser's.")] = "",
) -> Response:
    """The page behind a document's QR code, and a form for who cannot scan it."""
    question = Question.of(fn, ac, ts, fa)
    status, outcome = await _outcome(request, question, caller) if fn or ac else (200, "")
    language = page.language_of(lang, request.headers.get("accept-language", ""))
    body = page.paint(language, question, outcome, utc_now())
    headers = {**page.headers(), "Content-Language": language}
    if status != 200:
        headers["Cache-Control"] = "no-store"
        return Response(body, status, headers, "text/html; charset=utf-8")
    return _cached(request, body, "text/html; charset=utf-8", ANSWER_MAX_AGE_S, headers)


async def _outcome(
    request: Request, question: Question, caller: Caller
) -> tuple[int, models.Verification | str]:
    """The status, and what the page says."""
    try:
        _take_token(request)
        verdict = await _ask(request, question, caller)
    except RateLimited:
        return 429, "too_many"
    except DependencyUnavailable:
        return 503, "unavailable"
    if not verdict:
        return 404, "not_found"
    return 200, _shown(request, verdict, "page")


@router.get("/keys", responses=answers(models.Keys, 503))
async def list_keys(caller: FunctionCaller, request: Request) -> Response:
    """The public keys, to verify documents offline: each as SPKI and as JWK."""
    keys = await _published(request, caller)
    for key in keys:
        key["public_key"]["jwk"] = jwk_of(key["key_id"], key["alg"], key["public_key"]["spki"])
    body = models.Keys.model_validate({"keys": keys}).model_dump_json().encode()
    return _cached(request, body, "application/json", KEYS_MAX_AGE_S)


@router.get("/jwks.json", responses=answers(models.KeySet, 503))
async def get_key_set(caller: FunctionCaller, request: Request) -> Response:
    """The same keys as a JWK Set. Which are retired or revoked is in /keys."""
    keys = await _published(request, caller)
    jwks = [jwk_of(key["key_id"], key["alg"], key["public_key"]["spki"]) for key in keys]
    body = models.KeySet(keys=jwks).model_dump_json().encode()
    return _cached(request, body, "application/json", KEYS_MAX_AGE_S)


@router.post("/qr", responses=answers(models.Verification, 400, 404, 429, 503))
async def verify_qr(
    body: models.Lookup, caller: FunctionCaller, request: Request
) -> models.Verification:
    """Verify what a QR code says. The time and the authority in it must be the document's, too."""
    _take_token(request)
    question = Question.of_qr(body.qr_data)
    if question is None:
        detail = "is not the text of a QR code of ours"
        raise InvalidRequest(
            f"qr_data: {detail}", errors=[{"pointer": "/qr_data", "detail": detail}]
        )
    return _shown(request, _required(await _ask(request, question, caller)), "qr")


@router.post("/batch", responses=answers(models.Verified, 400, 401, 403, 429, 503))
async def verify_batch(body: models.Batch, caller: ApiCaller, request: Request) -> Response:
    """Verify up to 100 documents. Your own say what is wrong with them."""
    questions = [Question.of(asked.fiscal_number, asked.auth_code) for asked in body.invoices]
    verdicts, rate = await _judge_as_caller(request, questions, caller)
    data = [
        _shown(request, verdict, "batch")
        if verdict
        else models.NotFound(fiscal_number=asked.fiscal_number)
        for verdict, asked in zip(verdicts, body.invoices, strict=True)
    ]
    return _json(models.Verified(data=data), rate)


@router.get(
    "/{fiscal_number}", responses=answers(models.Verification, 400, 401, 403, 404, 429, 503)
)
async def verify_document(
    fiscal_number: Annotated[
        str, Path(max_length=64, description="Its number.", examples=[models.NUMBER])
    ],
    auth_code: Annotated[
        str,
        Query(
            min_length=1,
            max_length=400,
            description="The code that stands on it, or its whole signature.",
            examples=[models.CODE],
        ),
    ],
    caller: VisitorCaller,
    request: Request,
) -> Response:
    """Verify a document live: signature, place in the chain, credits since.

    Without a credential an unknown number and a wrong code are the same 404. The document's own
    merchant is told what does not fit.
    """
    question = Question.of(fiscal_number, auth_code)
    if caller.is_anonymous:
        _take_token(request)
        found = _shown(request, _required(await _ask(request, question, caller)), "api")
        body = found.model_dump_json().encode()
        vary = {"Vary": "Authorization"}
        return _cached(request, body, "application/json", ANSWER_MAX_AGE_S, vary)
    (verdict,), rate = await _judge_as_caller(request, [question], caller)
    return _json(_shown(request, _required(verdict), "api"), rate)


async def _ask(request: Request, question: Question, caller: Caller) -> Verdict | None:
    """What anybody may know; None: not found, whatever the reason."""
    db: Database = request.app.state.database
    numbers = {"fiscal_numbers": [question.fiscal_number]}
    (facts,) = await db.call("fiscal.verify", numbers, caller, idempotent=True)
    return _verdict(facts, question)


async def _judge_as_caller(
    request: Request, questions: list[Question], caller: Caller
) -> tuple[list[Verdict | None], Mapping[str, str]]:
    """What this caller may know of each, and the state of its rate limit."""
    db: Database = request.app.state.database
    numbers = {"fiscal_numbers": [question.fiscal_number for question in questions]}
    answer = await db.call("fiscal.verify_as_caller", numbers, caller, idempotent=True)
    verdicts = [
        _verdict(facts, question)
        for facts, question in zip(answer["facts"], questions, strict=True)
    ]
    return verdicts, answer["rate"]


def _verdict(facts: Any, question: Question) -> Verdict | None:
    if facts is None:
        return None  # nothing was ever sealed here
    verdict = judge(Facts.model_validate(facts), question)
    return verdict if verdict.is_shown else None


def _required(verdict: Verdict | None) -> Verdict:
    if verdict is None:
        raise NotFound(
            "no document has this number and this code",
            extras={"headers": {"Cache-Control": "no-store"}},
        )
    return verdict


def _shown(request: Request, verdict: Verdict, channel: Channel) -> models.Verification:
    found = models.Verification.of(verdict)
    views: Views = request.app.state.views
    views.note(found.fiscal_number, channel)
    return found


def _take_token(request: Request) -> None:
    lookups: TokenBuckets = request.app.state.lookups
    empty: Refused | None = lookups.take(bucket_name(request.state.client_address))
    if empty is not None:
        raise RateLimited(
            f"at most {PER_MINUTE} documents a minute are verified for one address",
            retry_after=empty.retry_after,
            extras={"headers": {"RateLimit-Limit": str(empty.limit), "RateLimit-Remaining": "0"}},
        )


async def _published(request: Request, caller: Caller) -> list[dict[str, Any]]:
    db: Database = request.app.state.database
    return list(await db.call("signing.published_keys", {}, caller, idempotent=True))


def _json(answer: models.Verified | models.Verification, headers: Mapping[str, str]) -> Response:
    private = {**headers, "Cache-Control": "private, no-store"}
    return Response(answer.model_dump_json(), 200, private, "application/json")


def _cached(
    request: Request,
    body: bytes,
    media_type: str,
    max_age_s: int,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """200, or 304 for who has these bytes already."""
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    kept = {**(headers or {}), "ETag": tag, "Cache-Control": f"public, max-age={max_age_s}"}
    known = request.headers.get("if-none-match", "")
    if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=304, headers=kept)
    return Response(body, 200, kept, media_type)
