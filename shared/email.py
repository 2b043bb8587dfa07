"""Mail through Resend: one attempt to send what was rendered once, and what its answer means.

    body = email.to_body()                       # kept with the message, sent again byte for byte
    outcome = await mailer.send(message_id, body)

The message's id is the idempotency key: Resend remembers it for 24 hours, so a repetition within
that time sends nothing twice. Without an API key nothing is sent: the outcome is `kept`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from shared.config import Settings

if TYPE_CHECKING:
    import httpx
    from resend.exceptions import ResendError
    from resend.http_client_async import AsyncHTTPClient

_TIMEOUT_S: Final = 10.0
_CONNECT_S: Final = 3.0
RETRY_S: Final = 5  # what a concurrent request with the same key needs at most
CONFIGURATION_PAUSE_S: Final = 900  # a person must change a key or a domain first


class Verdict(StrEnum):
    """What to do with a message after one attempt."""

    SENT = "sent"
    KEPT = "kept"  # there is no API key: nobody was asked
    RETRY = "retry"  # the same body under the same key, later
    FINAL = "final"  # this message will never be taken
    PARK = "park"  # no message is taken at present: a quota, or our configuration


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one attempt.

    code: Resend's name of the error. retry_after_s: not before; pause_s: nor any other message.
    is_unsure: the message may have been taken all the same.
    """

    verdict: Verdict
    email_id: str | None = None
    code: str | None = None
    retry_after_s: int | None = None
    pause_s: int | None = None
    is_unsure: bool = False


@dataclass(frozen=True, slots=True)
class Email:
    """A rendered mail to one person. sender: "Name <address>"."""

    sender: str
    to: str
    subject: str
    text: str
    html: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def to_body(self) -> str:
        """The body of the request, as it is stored and sent."""
        return _dumped(
            {
                "from": self.sender,
                "to": [self.to],
                "subject": self.subject,
                "text": self.text,
                "html": self.html,
                "tags": [{"name": n, "value": v} for n, v in sorted(self.tags.items())],
            }
        )


@dataclass(frozen=True, slots=True)
class MailEvent:
    """What became of a mail, as a webhook tells it. kind: delivered, bounced and so on."""

    event_id: str
    kind: str
    email_id: str
    recipients: Sequence[str]
    occurred_at: datetime


class WebhookRefused(Exception):
    """Not signed by Resend, too old, or not about mail. The message names the reason alone."""


class Mailer:
    """Resend, or nobody without a key. Cheap to make: the SDK is imported by the first use."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.resend_url.rstrip("/")
        self._key = settings.resend_api_key.get_secret_value()
        self._secrets = [secret.get_secret_value() for secret in settings.resend_webhook_secrets]
        self._connections = _Connections()

    async def send(self, message_id: str, body: str) -> Outcome:
        """One attempt. Never raises: not knowing is an outcome."""
        if not self._key:
            return Outcome(Verdict.KEPT)
        import resend

        # The SDK is configured by globals, which it reads before it first waits.
        resend.api_url, resend.api_key = self._url, self._key
        resend.default_async_http_client = cast("AsyncHTTPClient", self._connections)
        try:
            answer = await resend.Emails.send_async(
                json.loads(body), {"idempotency_key": message_id}
            )
        except resend.exceptions.ResendError as refused:
            return _outcome(refused)
        if "id" not in answer:  # 200 of somebody else: a proxy, a page to sign in
            return Outcome(Verdict.RETRY, code="no_id", is_unsure=True)
        return Outcome(Verdict.SENT, email_id=answer["id"])

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> MailEvent:
        """The event of a webhook with a good signature. Raises WebhookRefused."""
        told = self._verified(body, headers)
        try:
            area, _, kind = told["type"].partition(".")
            event = MailEvent(
                event_id=headers.get("svix-id") or headers["webhook-id"],
                kind=kind,
                email_id=told["data"]["email_id"],
                recipients=tuple(str(address) for address in told["data"].get("to") or ()),
                occurred_at=_instant(told["created_at"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise WebhookRefused("not an event about a mail") from None
        if area != "email" or not isinstance(event.email_id, str):
            raise WebhookRefused("not an event about a mail")
        return event

    def _verified(self, body: bytes, headers: Mapping[str, str]) -> Any:
        from resend import Webhooks

        names = ("id", "timestamp", "signature")
        # Svix's names, and those of Standard Webhooks, which mean the same.
        signed = {
            name: headers.get(f"svix-{name}") or headers.get(f"webhook-{name}", "")
            for name in names
        }
        if not all(signed.values()):
            raise WebhookRefused("svix-id, svix-timestamp and svix-signature are needed")
        for secret in self._secrets:
            try:
                # Of the bytes as they came: a body that is no text has no signature either.
                return Webhooks.verify(
                    {
                        "payload": body.decode(),
                        "headers": {
                            "id": signed["id"],
                            "timestamp": signed["timestamp"],
                            "signature": signed["signature"],
                        },
                        "webhook_secret": secret,
                    }
                )
            except (ValueError, TypeError):  # TypeError: a signature that is not ASCII
                continue
        raise WebhookRefused("no signature of ours, or older than five minutes")

    async def aclose(self) -> None:
        """Close the connections. The next attempt opens new ones."""
        await self._connections.aclose()


class _Connections:
    """The SDK's AsyncHTTPClient: kept connections, our time limits, and our bytes."""

    def __init__(self) -> None:
        self._http: httpx.AsyncClient | None = None

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], json: Any = None, **_: object
    ) -> tuple[bytes, int, Mapping[str, str]]:
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
                trust_env=False,  # settings are the only configuration
            )
        answer = await self._http.request(
            method,
            url,
            content=_dumped(json).encode(),
            headers={**headers, "content-type": "application/json"},
        )
        return answer.content, answer.status_code, answer.headers

    async def aclose(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


_NOT_SENT: Final = ("ConnectError", "ConnectTimeout", "PoolTimeout")
_QUOTAS: Final = ("daily_quota_exceeded", "monthly_quota_exceeded")


def _outcome(refused: "ResendError") -> Outcome:
    """What Resend's refusal means (rails reference §12)."""
    code, status = refused.error_type, int(refused.code)
    if code == "HttpClientError":
        # Whether the mail left is known only when no connection came about.
        is_unsure = type(refused.__context__).__name__ not in _NOT_SENT
        return Outcome(Verdict.RETRY, code=code, is_unsure=is_unsure)
    if status == 409 and code == "concurrent_idempotent_requests":
        return Outcome(Verdict.RETRY, code=code, retry_after_s=RETRY_S, is_unsure=True)
    if status == 429:
        if code in _QUOTAS:
            return Outcome(Verdict.PARK, code=code, pause_s=_until_midnight())
        wait_s = _retry_after(refused.headers)
        return Outcome(Verdict.RETRY, code=code, retry_after_s=wait_s, pause_s=wait_s)
    if status in (401, 403):
        return Outcome(Verdict.PARK, code=code, pause_s=CONFIGURATION_PAUSE_S)
    if status >= 500:
        return Outcome(Verdict.RETRY, code=code, is_unsure=True)
    return Outcome(Verdict.FINAL, code=code)


def _retry_after(headers: Mapping[str, str]) -> int:
    text = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return max(1, int(text)) if text.isascii() and text.isdigit() else 1


def _until_midnight() -> int:
    """Seconds until Resend counts anew: its day is UTC's."""
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((midnight - now).total_seconds()) + 1


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
