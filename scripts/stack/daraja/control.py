"""The control API of tests and of the stack: faults, settings, prompts, books, log."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query
from pydantic import BaseModel, ConfigDict, ValidationError

from scripts.stack.daraja.books import Prompt
from scripts.stack.daraja.credentials import MERCHANTS
from scripts.stack.daraja.desk import Desk
from scripts.stack.daraja.faults import SCENARIOS, Fault
from scripts.stack.daraja.phones import Action, Closed, Phones
from scripts.stack.daraja.treasury import add_money
from scripts.stack.daraja.world import World


class Act(BaseModel):
    """What the payer does."""

    model_config = ConfigDict(extra="forbid")

    action: Action


def control_routes(world: World, desk: Desk) -> APIRouter:
    """Routes that exist only here, never at the real party."""
    router = APIRouter(prefix="/control", tags=["control"])
    _add_faults(router, world)
    _add_prompts(router, world, desk.phones)
    add_money(router, world, desk)
    _add_records(router, world)
    _add_process(router, world, desk)
    return router


def _add_process(router: APIRouter, world: World, desk: Desk) -> None:

    @router.get("/health")
    async def read_health() -> dict[str, Any]:
        """Ready to serve; says which merchants exist, without their secrets."""
        names = {merchant.short_code: merchant.name for merchant in MERCHANTS}
        return {"status": "ok", "merchants": names, "settings": world.settings.model_dump()}

    @router.post("/restart", status_code=202)
    async def restart() -> dict[str, Any]:
        """The process starts anew with the same books; connections are refused for a moment."""
        world.restart()
        return {"status": "restarting"}

    @router.post("/reset")
    async def reset() -> dict[str, Any]:
        """Forgets everything: books, log, tokens, faults, settings."""
        await desk.forget()
        world.reset()
        return {"status": "empty"}


def _add_faults(router: APIRouter, world: World) -> None:
    @router.get("/faults")
    async def list_faults() -> dict[str, Any]:
        """Armed faults, and the scenarios by the payer's last two digits."""
        scenarios = {
            digits: [
                fault.model_dump(exclude_defaults=True) | {"fault": fault.fault} for fault in faults
            ]
            for digits, faults in SCENARIOS.items()
        }
        return {"armed": world.armoury.armed(), "scenarios": scenarios}

    @router.post("/faults", status_code=201)
    async def arm_fault(fault: Annotated[Fault, Body()]) -> dict[str, Any]:
        """Arms one fault for one phone or for all ("*"); call again to combine."""
        rule = world.armoury.arm(fault)
        world.changes.announce()
        return {"id": rule} | fault.model_dump()

    @router.delete("/faults")
    async def disarm_faults() -> dict[str, Any]:
        """Nothing is armed any more, and scenarios that count start over."""
        world.armoury.disarm()
        world.changes.announce()
        return {"armed": []}

    @router.get("/settings")
    async def read_settings() -> dict[str, Any]:
        return world.settings.model_dump()

    @router.post("/settings")
    async def change_settings(changes: dict[str, Any]) -> dict[str, Any]:
        """Any subset of the settings; an unknown name or a value out of range changes nothing."""
        try:
            return world.change_settings(changes).model_dump()
        except ValidationError as error:
            raise HTTPException(422, error.errors(include_url=False)) from error


def _add_prompts(router: APIRouter, world: World, phones: Phones) -> None:
    @router.get("/prompts")
    async def list_prompts(phone: str | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        return [_wire(world, prompt) for prompt in world.books.prompts(phone)]

    @router.get("/prompts/{checkout_request_id}")
    async def read_prompt(checkout_request_id: str) -> dict[str, Any]:
        try:
            return _wire(world, world.books.prompt(checkout_request_id))
        except KeyError as error:
            raise HTTPException(404, "no such prompt") from error

    @router.post("/prompts/{checkout_request_id}")
    async def act_on_prompt(checkout_request_id: str, act: Act) -> dict[str, Any]:
        """The payer pays, cancels, enters a wrong PIN, or ignores it until it expires (1037)."""
        try:
            return _wire(world, phones.act(checkout_request_id, act.action))
        except KeyError as error:
            raise HTTPException(404, "no such prompt") from error
        except Closed as error:
            raise HTTPException(409, "the prompt is over") from error


def _add_records(router: APIRouter, world: World) -> None:
    @router.get("/books")
    async def read_books() -> dict[str, Any]:
        """The statement: every payment with its receipt; whole shillings; balances sum to zero."""
        return world.accounts.statement()

    @router.get("/log")
    async def read_log(
        phone: str | None = None,
        account_reference: str | None = None,
        since: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """Every request received, every callback sent with its status and latency, and counts."""
        return world.journal.read(phone, account_reference, since)


def _wire(world: World, prompt: Prompt) -> dict[str, Any]:
    left = max(0.0, prompt.expires_v - world.clock.now()) if prompt.state == "open" else 0.0
    return {
        "checkout_request_id": prompt.checkout_request_id,
        "merchant_request_id": prompt.merchant_request_id,
        "phone": prompt.phone,
        "amount": prompt.amount,
        "short_code": prompt.short_code,
        "paid_to": prompt.party_b,
        "account_reference": prompt.account_reference,
        "description": prompt.description,
        "callback_url": prompt.callback_url,
        "state": prompt.state,
        "ignored": bool(prompt.ignored),
        "result_code": prompt.result_code,
        "receipt": prompt.receipt,
        "paid_amount": prompt.paid_amount,
        "opened_at": prompt.opened_at,
        "closed_at": prompt.closed_at,
        "expires_in_s": round(left, 2),
        "faults": prompt.selection.names,
    }
