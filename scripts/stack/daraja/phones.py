"""The life of a prompt: it appears, somebody or a script decides, and the result is called back.

Whatever is decided is in the books before anything waits, so a restart carries on from there.
"""

import asyncio
import sqlite3
from datetime import datetime
from typing import Any, Literal

from scripts.stack.daraja import wire
from scripts.stack.daraja.books import Order, Prompt
from scripts.stack.daraja.clock import wall
from scripts.stack.daraja.couriers import Couriers
from scripts.stack.daraja.faults import (
    CallbackFirst,
    Contradiction,
    DuplicateCallback,
    Forged,
    LateCallback,
    LostCallback,
    Selection,
    WrongAmount,
)
from scripts.stack.daraja.journal import mask, say
from scripts.stack.daraja.world import World

Action = Literal["pay", "cancel", "wrong_pin", "ignore"]
CODES: dict[str, str] = {"pay": "0", "cancel": "1032", "wrong_pin": "2001"}
NO_ANSWER = "1037"
MISPAIRED = "SFC_IC0003"
CALLBACK_HEADERS = {"content-type": "application/json;charset=UTF-8"}
SPACING_S = 0.2  # between copies that are not concurrent


class Closed(Exception):
    """The prompt has been decided already."""


class Phones:
    """All prompts that are open, and those that still have something to say."""

    def __init__(self, world: World, couriers: Couriers) -> None:
        self._world = world
        self._couriers = couriers
        self._wakes: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """After a start: prompts and callbacks of the last run go on."""
        for prompt in self._world.books.unsettled():
            self._live(prompt)

    async def forget(self) -> None:
        """Before the books are emptied: nobody acts any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def show(self, order: Order, selection: Selection) -> Prompt:
        """A new prompt on the payer's phone, with everything that will go wrong with it."""
        prompt = self._add(order, selection)
        forged = selection.get(Forged)
        if forged:
            self._forge(prompt, forged)
        say("prompt_shown", checkout=prompt.checkout_request_id, phone=mask(prompt.phone))
        self._world.changes.announce()
        self._live(prompt)
        return prompt

    def act(self, checkout_request_id: str, action: Action) -> Prompt:
        """What a person does with an open prompt. Raises KeyError, or Closed when it is over."""
        prompt = self._world.books.prompt(checkout_request_id)
        if prompt.state != "open":
            raise Closed(checkout_request_id)
        if action == "ignore":
            self._world.books.reschedule(prompt, prompt.expires_v, NO_ANSWER)
            self._world.changes.announce()
        else:
            self._decide(prompt, CODES[action])
        self._wake(checkout_request_id)
        return self._world.books.prompt(checkout_request_id)

    async def called_back(self, prompt: Prompt) -> None:
        """Returns when the first callback of `prompt` was attempted, or after 10 wall seconds."""
        await self._couriers.first(prompt.checkout_request_id, timeout_s=10)

    def _add(self, order: Order, selection: Selection) -> Prompt:
        books, number = self._world.books, self._world.books.next_id()
        for attempt in range(100):
            at = wall()
            rng = self._world.rng("ids", number, at.isoformat(), attempt)
            ids = (wire.checkout_request_id(at, order.phone, rng), wire.merchant_request_id(rng))
            try:
                return books.add_prompt(order, ids, selection, self._script(order, selection))
            except sqlite3.IntegrityError:
                continue  # two prompts in one millisecond with the same tail
        raise RuntimeError("no free checkout request id")

    def _script(self, order: Order, selection: Selection) -> dict[str, Any]:
        """When the prompt ends, and how, if nobody touches it."""
        now, settings = self._world.clock.now(), self._world.settings
        expires = now + settings.prompt_lifetime_s
        outcome = selection.outcome
        due, code = expires, NO_ANSWER
        if not order.well_paired:
            due, code = now + 1, MISPAIRED
        elif outcome:
            due, code = now + outcome.after_s, outcome.code
        elif selection.get(CallbackFirst):
            due, code = now, "0"
        elif settings.mode == "auto" and not selection.get(Forged):
            due, code = now + settings.auto_delay_s, "0"
        return {
            "expires_v": expires,
            "due_v": due,
            "due_code": code,
            "contradicted": 0 if selection.get(Contradiction) else 1,
        }

    def _live(self, prompt: Prompt) -> None:
        task = asyncio.create_task(self._life(prompt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _life(self, prompt: Prompt) -> None:
        key = prompt.checkout_request_id
        books, clock = self._world.books, self._world.clock
        while (prompt := books.prompt(key)).state == "open":
            if clock.now() >= prompt.due_v:
                self._decide(prompt, prompt.due_code)
                continue
            self._wakes[key] = asyncio.Event()
            await clock.sleep_until(prompt.due_v, self._wakes[key])
        self._wakes.pop(key, None)
        await self._contradict(prompt)

    async def _contradict(self, prompt: Prompt) -> None:
        """The second, opposite result; it takes back no payment."""
        fault = prompt.selection.get(Contradiction)
        if fault is None or prompt.contradicted or prompt.result_code != fault.first:
            return
        await self._world.clock.sleep_until((prompt.closed_v or 0) + fault.gap_s)
        with self._world.books.transaction():
            self._world.books.contradicted(prompt)
            self._conclude(prompt, fault.then)
        self._couriers.collect(prompt.checkout_request_id)

    def _decide(self, prompt: Prompt, code: str) -> None:
        with self._world.books.transaction():
            self._conclude(prompt, code)
        self._couriers.collect(prompt.checkout_request_id)
        say("prompt_closed", checkout=prompt.checkout_request_id, result=code)
        self._world.changes.announce()

    def _conclude(self, prompt: Prompt, code: str) -> None:
        """Enters the result and schedules what is said about it; inside a transaction."""
        books, now = self._world.books, self._world.clock.now()
        if code == "0" and prompt.state != "paid":
            wrong = prompt.selection.get(WrongAmount)
            amount = max(1, prompt.amount + (wrong.delta if wrong else 0))
            at = wall()
            receipt = wire.receipt(at, self._world.rng("receipt", prompt.id, at.isoformat()))
            books.pay(prompt, amount, receipt, now)
        elif prompt.state != "paid":
            books.fail(prompt, code, now)
        prompt = books.prompt(prompt.checkout_request_id)
        self._call_back(prompt, code)
        if code == "0":
            self._confirm_c2b(prompt)

    def _call_back(self, prompt: Prompt, code: str) -> None:
        selection, settings = prompt.selection, self._world.settings
        if selection.get(LostCallback):
            return
        duplicate, late = selection.get(DuplicateCallback), selection.get(LateCallback)
        due = self._world.clock.now() + (late.after_s if late else 0)
        rng = self._world.rng("callback", prompt.id, code)
        body = wire.callback(prompt, code, rng, varied=settings.shape_noise)
        for copy in range(duplicate.copies if duplicate else 1):
            is_spaced = duplicate is not None and not duplicate.concurrent
            self._world.books.schedule(
                prompt.checkout_request_id,
                "callback",
                phone=prompt.phone,
                account_reference=prompt.account_reference,
                url=prompt.callback_url,
                source=settings.callback_source,
                headers=CALLBACK_HEADERS | {"Businessshortcode": prompt.short_code},
                body=body,
                due_v=due + copy * SPACING_S * is_spaced,
            )

    def _forge(self, prompt: Prompt, forged: Forged) -> None:
        """A success with an invented receipt, from somebody who is not the party."""
        rng = self._world.rng("forged", prompt.id)
        claimed = {"receipt": wire.receipt(wall(), rng), "paid_amount": prompt.amount}
        liar = Prompt(**{**_fields(prompt), **claimed, "closed_at": wall().isoformat()})
        url, source = prompt.callback_url, self._world.settings.callback_source
        if forged.how in ("token", "both"):
            url = url.rstrip("/").rpartition("/")[0] + "/" + rng.randbytes(16).hex()
        self._world.books.schedule(
            prompt.checkout_request_id,
            "forged",
            phone=prompt.phone,
            account_reference=prompt.account_reference,
            url=url,
            source=source if forged.how == "token" else forged.source,
            headers=CALLBACK_HEADERS | {"Businessshortcode": prompt.short_code} | forged.headers,
            body=wire.callback(liar, "0", rng, varied=self._world.settings.shape_noise),
            due_v=self._world.clock.now() + forged.after_s,
        )
        self._couriers.collect(prompt.checkout_request_id)

    def _confirm_c2b(self, prompt: Prompt) -> None:
        """A paid prompt on a registered short code is confirmed there as well, same receipt."""
        registered = self._world.books.c2b(prompt.short_code)
        if registered is None:
            return
        paid = wire.Paid(
            receipt=prompt.receipt or "",
            at=datetime.fromisoformat(prompt.closed_at or prompt.opened_at),
            amount=prompt.paid_amount or prompt.amount,
            short_code=prompt.short_code,
            account_reference=prompt.account_reference,
            phone=prompt.phone,
        )
        self._world.books.schedule(
            prompt.checkout_request_id,
            "c2b_confirmation",
            phone=prompt.phone,
            account_reference=prompt.account_reference,
            url=registered.confirmation_url,
            source=self._world.settings.callback_source,
            headers=CALLBACK_HEADERS,
            body=wire.c2b(
                paid,
                registered.version,
                self._world.accounts.working(prompt.short_code),
                self._world.rng("c2b", prompt.id),
                varied=self._world.settings.shape_noise,
            ),
            due_v=self._world.clock.now(),
        )

    def _wake(self, checkout_request_id: str) -> None:
        wake = self._wakes.get(checkout_request_id)
        if wake:
            wake.set()


def _fields(prompt: Prompt) -> dict[str, Any]:
    return {name: getattr(prompt, name) for name in Prompt.__dataclass_fields__}
