"""From open alerts to one mail per kind and reader."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final
from uuid import uuid4

from shared import log
from shared.db import Database
from shared.email import Email
from shared.http.caller import Caller
from shared.postman import sealed_message
from shared.vault import Vault

SHOWN: Final = 20  # alerts of one kind in one mail; the list has all
_DETAIL_LIMIT: Final = 200
_SUBJECT_LIMIT: Final = 80
_COLOURS: Final = {"critical": "#b3261e", "warning": "#8a5a00", "info": "#12803c"}

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">\
<title>{title}</title></head>
<body style="margin:0;padding:24px 12px;background:#f4f5f1;color:#17211b;\
font:16px/1.5 system-ui,'Segoe UI',Roboto,sans-serif">
<div style="max-width:640px;margin:0 auto;padding:28px;background:#fff;border-radius:12px">
<p style="margin:0;font-weight:600;color:{colour}">{severity}{tenant}</p>
<h1 style="margin:0 0 12px;font-size:20px">{title}</h1>
{advice}
{items}
{rest}
</div>
<p style="max-width:640px;margin:16px auto 0;font-size:13px;color:#5b6a61">{footer}</p>
</body>
</html>
"""
_ITEM: Final = (
    '<div style="padding:10px 0;border-top:1px solid #dfe4dd;overflow-wrap:anywhere">'
    "<b>{subject}</b><br>"
    '<span style="font-size:14px;color:#5b6a61">{facts}</span></div>'
)
_FOOTER: Final = (
    "Alerts of this kind share one mail per quarter of an hour. GET /alerts lists what is open;"
    " POST /alerts/{id}/resolve closes one."
)


class Digests:
    """Lives as long as the app. operator: who hears of all alerts; empty: nobody does."""

    def __init__(self, database: Database, vault: Vault, sender: str, operator: str) -> None:
        self._database, self._vault = database, vault
        self._sender, self._operator = sender, operator

    async def take(self, caller: Caller) -> int:
        """Render and keep what must be told now; how many digests there were."""
        taken = await self._database.call("messages.take_alerts", {"most_shown": SHOWN}, caller)
        if not taken:
            return 0
        kept = await self._database.call(
            "messages.keep_alerts",
            {"digests": [self._rendered(digest) for digest in taken]},
            caller,
            idempotent=True,
        )
        log.event("alerts_kept", count=kept, rows=len(taken))
        return len(taken)

    def _rendered(self, digest: Mapping[str, Any]) -> dict[str, Any]:
        readers = digest["owners"]
        if readers is None:
            readers = [self._operator] if self._operator else []
        named = ("kind", "destination", "tenant_id", "environment", "alert_ids")
        return {
            **{name: digest[name] for name in named},
            "mails": [self._mail(digest, reader) for reader in readers],
        }

    def _mail(self, digest: Mapping[str, Any], reader: str) -> dict[str, Any]:
        # SQL keeps one digest of a kind and destination at a time, so the key need only be new.
        dedupe_key = f"alert|{digest['kind']}|{uuid4().hex}"
        email = render(digest, reader, self._sender)
        return {
            "dedupe_key": dedupe_key,
            **sealed_message(self._vault, email, dedupe_key, "en"),
        }


def render(digest: Mapping[str, Any], reader: str, sender: str) -> Email:
    """The mail about one digest of messages.take_alerts."""
    alerts: Sequence[Mapping[str, Any]] = digest["alerts"]
    first = alerts[0]["subject"]
    about = first if digest["count"] == 1 else f"{digest['count']} times"
    items = [(alert["subject"], _facts(alert)) for alert in alerts]
    unshown = digest["count"] - len(alerts)
    rest = f"And {unshown} more." if unshown else ""
    tenant = f"{digest['tenant']}, {digest['environment']}" if digest["tenant"] else ""
    advice = digest["advice"] or ""
    return Email(
        sender=sender,
        to=reader,
        subject=_subject(f"[{digest['severity']}] {digest['title']}: {about}"),
        text="\n".join(
            [
                f"{digest['severity'].upper()} {tenant}".strip(),
                digest["title"],
                *([advice] if advice else []),
                "",
                *(f"- {subject}\n  {facts}" for subject, facts in items),
                *([rest] if rest else []),
                "",
                _FOOTER,
                "",
            ]
        ),
        html=_PAGE.format(
            title=escape(digest["title"]),
            colour=_COLOURS[digest["severity"]],
            severity=escape(digest["severity"].capitalize()),
            tenant=escape(f" · {tenant}") if tenant else "",
            advice=f'<p style="margin:0 0 16px">{escape(advice)}</p>' if advice else "",
            items="\n".join(
                _ITEM.format(subject=escape(subject), facts=escape(facts))
                for subject, facts in items
            ),
            rest=f"<p>{rest}</p>" if rest else "",
            footer=escape(_FOOTER),
        ),
        tags={"kind": "alert", "alert": digest["kind"][:256]},
    )


def _facts(alert: Mapping[str, Any]) -> str:
    """One line about an alert: since when, how often, what the raiser noted."""
    facts = [f"since {alert['first_at']} UTC"]
    if alert["occurrences"] > 1:
        facts.append(f"{alert['occurrences']} times, last {alert['last_at']} UTC")
    if alert["tenant_id"]:
        facts.append(f"{alert['tenant_id']} {alert['environment'] or ''}".strip())
    for name, value in alert["details"].items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        facts.append(f"{name}: {shown[:_DETAIL_LIMIT]}")
    return "; ".join(facts)


def _subject(text: str) -> str:
    """A subject is a header: no line may start in it."""
    line = " ".join(text.split())
    return line if len(line) <= _SUBJECT_LIMIT else line[: _SUBJECT_LIMIT - 3].rstrip() + "..."
