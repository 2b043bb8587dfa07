"""The HTML of the page. Everything that came over the wire is escaped."""

from datetime import datetime
from html import escape

from scripts.stack.daraja.books import Prompt
from scripts.stack.daraja.clock import EAT
from scripts.stack.daraja.credentials import BY_SHORT_CODE, MERCHANTS
from scripts.stack.daraja.world import World

SHOWN = 30  # rows of each table; the control API has all

MEANINGS = {
    "0": "paid",
    "1": "too little money",
    "26": "system busy",
    "1001": "subscriber locked",
    "1019": "expired",
    "1032": "cancelled",
    "1037": "no answer",
    "2001": "wrong PIN",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Phones · Daraja simulator</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page/style.css">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<script src="/page/script.js" defer></script>
</head>
<body>
<header>
<h1>Daraja simulator</h1>
<p>Prompts that a payer would see on the phone. No real money moves.</p>
</header>
{problem}
<main id="board">{board}</main>
</body>
</html>
"""

PHONE = """<article class="phone" id="prompt-{id}" aria-labelledby="ask-{id}">
<div class="screen">
<p class="status"><span>{clock}</span><span>+{phone}</span></p>
<form class="dialog" method="post" action="/page/prompts/{id}" autocomplete="off">
<p class="kind">SIM Toolkit</p>
<h3 id="ask-{id}">Pay <b>KSh {amount}</b> to {merchant}?</h3>
<dl>
<div><dt>Account</dt><dd>{reference}</dd></div>
<div><dt>For</dt><dd>{description}</dd></div>
<div><dt>{kind}</dt><dd>{paid_to}</dd></div>
</dl>
<label for="pin-{id}">PIN <small>four digits; 0000 is the wrong one</small></label>
<input id="pin-{id}" name="pin" type="password" inputmode="numeric" pattern="[0-9]{{4}}"
 maxlength="4" required autocomplete="one-time-code" placeholder="••••">
<div class="keys">
<button name="action" value="pay" class="send">Send</button>
<button name="action" value="cancel" formnovalidate>Cancel</button>
<button name="action" value="ignore" formnovalidate class="quiet">Ignore</button>
</div>
<p class="left" data-ends-in="{left}" data-speed="{speed}">{left_text}</p>
</form>
</div>
</article>"""

IDLE = """<div class="phone idle" id="idle"><div class="screen">
<p class="status"><span>{clock}</span><span>idle</span></p>
<p class="wait">No prompt is open.<br>
<small>Confirm a payment with a phone whose last two digits are not a scenario,
for example 0712 345 678, and it appears here.</small></p></div></div>"""


STATEMENT = """<a href="/page/statement/{code}" download>Statement of {code}, today</a> """


def paint_page(world: World, problem: str = "") -> str:
    """The whole document; `problem` is what went wrong with the last form."""
    shown = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return PAGE.format(problem=shown, board=paint_board(world))


def paint_board(world: World) -> str:
    """The sections that change, each element with an id so that a script can compare them."""
    prompts = world.books.prompts(limit=SHOWN)
    waiting = [each for each in world.books.waiting_prompts() if not each.ignored]
    history = _paint_history(prompts, world.books.shown())
    return _paint_phones(world, waiting) + history + _paint_books(world)


def _paint_phones(world: World, waiting: list[Prompt]) -> str:
    phones = "".join(_paint_phone(world, each) for each in waiting[:SHOWN])
    idle = "" if waiting else IDLE.format(clock=f"{datetime.now(EAT):%H:%M}")
    return (
        f'<section id="phones" aria-labelledby="phones-title"><div class="bar">'
        f'<h2 id="phones-title" aria-live="polite">Phones <i>{len(waiting)} waiting</i></h2>'
        f"{_paint_mode(world)}</div>"
        f'<div class="row" id="row">{phones}{idle}</div></section>'
    )


def _paint_mode(world: World) -> str:
    """Who decides for phones without a scenario, as two buttons."""
    mode = world.settings.mode
    buttons = "".join(
        f'<button name="mode" value="{each}" aria-pressed="{str(each == mode).lower()}">'
        f"{text}</button>"
        for each, text in (("manual", "I decide"), ("auto", "Pay by itself"))
    )
    speed = f"<span>speed {world.settings.speed:g}x</span>"
    label = "Who decides for phones without a scenario"
    return (
        f'<form class="mode" id="mode" method="post" action="/page/mode" role="group"'
        f' aria-label="{label}">{buttons}{speed}</form>'
    )


def _paint_phone(world: World, prompt: Prompt) -> str:
    merchant = BY_SHORT_CODE[prompt.short_code]
    left = max(0, round(prompt.expires_v - world.clock.now()))
    return PHONE.format(
        id=escape(prompt.checkout_request_id),
        clock=_time(prompt.opened_at)[:5],
        phone=escape(
            f"{prompt.phone[:3]} {prompt.phone[3:6]} {prompt.phone[6:9]} {prompt.phone[9:]}"
        ),
        amount=f"{prompt.amount:,}",
        merchant=escape(merchant.name),
        reference=escape(prompt.account_reference),
        description=escape(prompt.description),
        kind="Till" if merchant.till else "Pay bill",
        paid_to=escape(prompt.party_b),
        left=left,
        speed=world.settings.speed,
        left_text=f"{left} s left",
    )


def _paint_history(prompts: list[Prompt], count: int) -> str:
    rows = "".join(
        f'<tr><td><time datetime="{each.opened_at}">{_time(each.opened_at)}</time></td>'
        f"<td>+{escape(each.phone)}</td><td>{escape(each.account_reference)}</td>"
        f'<td class="n">{each.amount:,}</td><td>{_outcome(each)}</td>'
        f'<td class="faults">{escape(", ".join(each.selection.names)) or "none"}</td></tr>'
        for each in prompts
    )
    columns = ("Asked", "Phone", "Account", "KSh", "Outcome", "Script")
    return _table("history", "History", f"{count} prompts", columns, rows)


def _outcome(prompt: Prompt) -> str:
    if prompt.state == "open":
        return f'<b class="tag open">{"ignored, waiting" if prompt.ignored else "waiting"}</b>'
    code = prompt.result_code or ""
    tag = f'<b class="tag {prompt.state}">{MEANINGS.get(code, "failed")}</b>'
    return tag if prompt.state == "paid" else f"{tag} <code>{escape(code)}</code>"


def _paint_books(world: World) -> str:
    rows = "".join(
        f'<tr><td><time datetime="{each["paid_at"]}">{_time(each["paid_at"])}</time></td>'
        f"<td><code>{escape(each['receipt'])}</code></td><td>{_party(each['payer'])}</td>"
        f"<td>{_party(each['paid_to'])}</td><td>{escape(each['account_reference'])}</td>"
        f'<td class="n">{each["amount"]:,}</td></tr>'
        for each in world.accounts.entries(SHOWN)
    )
    columns = ("Paid", "Receipt", "From", "To", "Account", "KSh")
    note = f"KSh {world.accounts.collected():,} in all"
    links = "".join(STATEMENT.format(code=each.short_code) for each in MERCHANTS)
    return _table("books", "Books", note, columns, rows) + f'<p id="statements">{links}</p>'


def _party(number: str) -> str:
    """A phone, a short code or the bank."""
    return f"{'+' * number.startswith('254')}{escape(number)}"


def _table(name: str, title: str, note: str, columns: tuple[str, ...], rows: str) -> str:
    rows = rows or f'<tr><td colspan="{len(columns)}" class="none">Nothing yet.</td></tr>'
    head = "".join(f"<th{' class=n' * (each == 'KSh')}>{each}</th>" for each in columns)
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><div class="bar">'
        f'<h2 id="{name}-title">{title} <i>{note}</i></h2></div>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{title}, table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _time(iso: str) -> str:
    """HH:MM:SS in EAT."""
    return f"{datetime.fromisoformat(iso).astimezone(EAT):%H:%M:%S}"
