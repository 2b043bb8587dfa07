"""What Resend says: refusals by name, what a mail must have, how a webhook is signed."""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

RECIPIENTS_MAX = 50
_ADDRESS = re.compile(r"(?:[^<>]*<)?[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+>?")
# Resend's error page: name -> status. `validation_error` has two.
STATUS = {
    "missing_api_key": 401,
    "invalid_api_key": 403,
    "restricted_api_key": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "invalid_idempotency_key": 400,
    "invalid_idempotent_request": 409,
    "concurrent_idempotent_requests": 409,
    "missing_required_field": 422,
    "invalid_from_address": 422,
    "invalid_parameter": 422,
    "rate_limit_exceeded": 429,
    "daily_quota_exceeded": 429,
    "monthly_quota_exceeded": 429,
    "application_error": 500,
    "internal_server_error": 500,
}


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer that is not the mail's id."""

    name: str
    message: str
    status: int = 0

    def body(self) -> dict[str, Any]:
        return {"statusCode": self.code, "message": self.message, "name": self.name}

    @property
    def code(self) -> int:
        return self.status or STATUS[self.name]


def check(mail: dict[str, Any], verified_domains: list[str]) -> None:
    """Raise the Refusal of the first thing that is wrong with a mail."""
    for field in ("from", "to", "subject"):
        if not mail.get(field):
            raise Refusal("missing_required_field", f"Missing `{field}` field.")
    if not (mail.get("html") or mail.get("text")):
        raise Refusal("missing_required_field", "Missing `html` or `text` field.")
    if not _ADDRESS.fullmatch(str(mail["from"])):
        raise Refusal("invalid_from_address", "Invalid `from` field.")
    if not 1 <= len(recipients(mail)) <= RECIPIENTS_MAX:
        raise Refusal("validation_error", "Invalid `to` field: 1 to 50 addresses.", 422)
    if not all(_ADDRESS.fullmatch(address) for address in recipients(mail)):
        raise Refusal("validation_error", "Invalid `to` field.", 422)
    domain = str(mail["from"]).rpartition("@")[2].rstrip(">")
    if verified_domains and domain not in verified_domains:
        raise Refusal("validation_error", f"The {domain} domain is not verified.", 403)


def recipients(mail: dict[str, Any]) -> list[str]:
    """`to` as a list: one address may come as text."""
    to = mail["to"]
    return [to] if isinstance(to, str) else [str(address) for address in to]


def event(kind: str, mail: dict[str, Any]) -> dict[str, Any]:
    """The body of a webhook about a mail; kind: sent, delivered, bounced and so on."""
    data: dict[str, Any] = {
        "email_id": mail["id"],
        "created_at": _iso(mail["created_at"]),
        "from": mail["from"],
        "to": recipients(mail),
        "subject": mail["subject"],
    }
    if kind == "bounced":
        words = "The recipient's address does not exist."
        data["bounce"] = {"type": "Permanent", "subType": "General", "message": words}
    return {
        "type": f"email.{kind}",
        "created_at": _iso(datetime.now(UTC).timestamp()),
        "data": data,
    }


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Svix's and Standard Webhooks' scheme. secret: whsec_ and base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z")
