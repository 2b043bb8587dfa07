"""The page behind a QR code: one request, no script, for any phone, in three languages."""

import csv
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlencode

from functions.verify.judging import Question
from functions.verify.models import CODE, Verification

Language = Literal["en", "fr", "sw"]

LANGUAGES: Final[dict[Language, str]] = {"en": "English", "fr": "Français", "sw": "Kiswahili"}
_HERE: Final = Path(__file__).parent
_MOODS: Final = {"verified": "good", "unavailable": "calm", "too_many": "calm", "test": "warn"}
_YES: Final = "M4 12.5 9.5 18 20 6.5"
_NO: Final = "M6 6 18 18M18 6 6 18"
_MIND: Final = "M12 5v9M12 18.5v.5"
_FRENCH: Final = str.maketrans({",": "\u202f", ".": ","})


class Words(dict[str, str]):
    """Every text of one language by its key, ready for HTML."""

    def __init__(self, language: Language) -> None:
        self.language = language
        with (_HERE / "words.csv").open(newline="", encoding="utf-8") as file:
            super().__init__({row["key"]: escape(row[language]) for row in csv.DictReader(file)})


def language_of(wanted: str, accepted: str) -> Language:
    """The language asked for, or the one most liked by an Accept-Language header; else English."""
    liked: list[tuple[float, int, str]] = []
    for place, entry in enumerate([f"{wanted};q=2", *accepted.split(",")]):
        tag, _, weight = entry.strip().partition(";")
        quality = weight.strip().removeprefix("q=")
        liked.append((-_number(quality), place, tag.strip().lower()[:2]))
    for _, _, code in sorted(liked):
        for language in LANGUAGES:
            if code == language:
                return language
    return "en"


def paint(
    language: Language, question: Question, outcome: Verification | str, now: datetime
) -> bytes:
    """The whole page. outcome: what is known, or the key of what to say; "" before anything."""
    words, texts = _words(language), []
    if outcome:
        texts.append(_result(words, question, outcome))
    # Whoever mistyped corrects it; after any other answer the next document is asked about.
    typed = question if outcome == "not_found" else Question("", "")
    texts.append(_form(words, typed, language, is_first=not outcome))
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex">\n'
        f"<title>{escape(_heading(words, outcome))} · Stalela</title>\n"
        f"<style>{_style()}</style>\n</head>\n"
        f'<body>\n<div class="page">\n{_header(words, question, language)}\n'
        f"<main>\n{''.join(texts)}</main>\n{_footer(words, now)}\n</div>\n</body>\n</html>\n"
    ).encode()


@cache
def headers() -> Mapping[str, str]:
    """What a browser must know: nothing runs, nothing is loaded, the address goes nowhere."""
    style = b64encode(sha256(_style().encode()).digest()).decode()
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Language",
    }


def _heading(words: Words, outcome: Verification | str) -> str:
    return words[_key(outcome)] if outcome else words["title"]


def _key(outcome: Verification | str) -> str:
    """Which words say it."""
    if isinstance(outcome, str):
        return outcome
    if outcome.status == "verified" and outcome.environment == "sandbox":
        return "test"  # whatever else is true of it, nobody shall take it for an invoice
    if outcome.status == "verified" and outcome.credited != "none":
        return f"credited.{outcome.credited}"
    return outcome.status


def _header(words: Words, question: Question, language: Language) -> str:
    links = "".join(
        f'<span aria-current="true" lang="{code}">{name}</span>'
        if code == language
        else f'<a href="?{escape(_query(question, code))}" lang="{code}">{name}</a>'
        for code, name in LANGUAGES.items()
    )
    return (
        f'<header><span class="brand">Stalela</span>'
        f'<nav aria-label="{words["languages"]}">{links}</nav></header>'
    )


def _query(question: Question, language: Language) -> str:
    fields = {
        "fn": question.fiscal_number,
        "ac": question.code,
        "ts": question.sealed_at,
        "fa": question.authority,
        "lang": language,
    }
    return urlencode({name: value for name, value in fields.items() if value})


def _result(words: Words, question: Question, outcome: Verification | str) -> str:
    key = _key(outcome)
    mood = "warn" if key.startswith("credited") else _MOODS.get(key, "bad")
    drawing = {"good": _YES, "bad": _NO}.get(mood, _MIND)
    said = f'<h1 id="verdict">{words[key]}</h1><p>{words[f"{key}.means"]}</p>'
    parts = [
        f'<section class="{mood}" aria-labelledby="verdict">\n',
        f'<div class="verdict">{_icon(drawing)}{said}</div>\n',
    ]
    if isinstance(outcome, Verification):
        parts += ["<dl>\n", *_details(words, outcome), "</dl>\n"]
        if outcome.status == "verified":
            parts.append(_checks(words))
    elif key == "not_found":
        rows = _row(words["number"], question.fiscal_number, "number")
        rows += _row(words["code"], _grouped(question.code), "number")
        parts.append(f"<dl>\n{rows}</dl>\n")
    return "".join((*parts, "</section>\n"))


def _details(words: Words, found: Verification) -> Iterator[str]:
    if found.merchant_name is not None and found.total is not None:
        yield _row(words["seller"], found.merchant_name)
        yield _row(words["outlet"], found.outlet_name or "")
        yield _row(words["total"], f"{_amount(found.total, words)} {found.currency}", kind="total")
        kind = words.get(f"type.{found.invoice_type}", found.invoice_type or "")
        yield _row(words["type"], kind)
    yield _row(words["number"], found.fiscal_number, "number")
    if found.sealed_at is not None:
        yield _row(words["sealed_at"], _moment(datetime.fromisoformat(found.sealed_at), words))
        yield _row(words["authority"], found.fiscal_authority_id or "")
    if found.authority_sync_status not in (None, "NOT_APPLICABLE"):
        yield _row(words["tax_office"], _reported(words, found))


def _reported(words: Words, found: Verification) -> str:
    """Whether the tax authority has it. What it takes to get there is nobody's business here."""
    if found.authority_acknowledged_at is not None:
        since = _moment(datetime.fromisoformat(found.authority_acknowledged_at), words)
        return words["tax_office.SYNCED"].format(moment=since)
    return words.get(f"tax_office.{found.authority_sync_status}", words["tax_office.waiting"])


def _row(label: str, value: str, value_class: str = "", kind: str = "") -> str:
    return (
        f"<div{_class(kind)}><dt>{label}</dt><dd{_class(value_class)}>{escape(value)}</dd></div>\n"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _checks(words: Words) -> str:
    points = "".join(
        f"<li>{_icon(_YES)}{words[f'check.{name}']}</li>" for name in ("signature", "chain", "code")
    )
    return f'<div class="box"><h2>{words["checks"]}</h2><ul>{points}</ul></div>\n'


def _icon(path: str) -> str:
    return (
        '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="3" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        f'<path d="{path}"/></svg>'
    )


def _form(words: Words, question: Question, language: Language, *, is_first: bool) -> str:
    level, title = ("h1", "form.first") if is_first else ("h2", "form.title")
    fields = "".join(
        f'<label for="{name}">{words[key]} <span class="hint">{words[f"form.{key}.hint"]}</span>'
        f'</label><input id="{name}" name="{name}" value="{escape(value)}" maxlength="400" required'
        ' autocomplete="off" autocapitalize="characters" spellcheck="false">'
        for name, key, value in (
            ("fn", "number", question.fiscal_number),
            ("ac", "code", question.code),
        )
    )
    return (
        f'<section class="box"><{level}>{words[title]}</{level}><p>{words["form.intro"]}</p>'
        f'<form action="i" method="get">{fields}'
        f'<input type="hidden" name="lang" value="{language}">'
        f'<button type="submit">{words["form.submit"]}</button></form></section>\n'
    )


def _footer(words: Words, now: datetime) -> str:
    checked = words["checked_at"].format(moment=_moment(now, words))
    return f'<footer><p>{checked}</p><p><a href="keys">{words["keys"]}</a></p></footer>'


def _grouped(code: str) -> str:
    """K56YBV6M60QQ5NM4 as it is printed: K56Y-BV6M-60QQ-5NM4."""
    if len(code) > len(CODE):
        return f"{code[:16]}…"
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


def _amount(text: str, words: Words) -> str:
    """1234567.00 as the language writes it; no-break spaces keep it on one line."""
    whole, point, cents = text.partition(".")
    written = f"{int(whole):,}{point}{cents}"
    return written.translate(_FRENCH) if words.language == "fr" else written


def _moment(at: datetime, words: Words) -> str:
    month = words["months"].split(" ")[at.month - 1]
    return f"{at.day} {month} {at:%Y, %H:%M:%S} UTC"


def _number(quality: str) -> float:
    try:
        return float(quality or 1)
    except ValueError:
        return 0.0


@cache
def _style() -> str:
    return (_HERE / "page.css").read_text()


@cache
def _words(language: Language) -> Words:
    return Words(language)
