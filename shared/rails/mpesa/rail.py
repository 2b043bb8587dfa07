"""M-Pesa by STK push: the three verbs of a rail, over Daraja."""

from collections.abc import Callable
from datetime import datetime

from shared.clock import utc_now
from shared.config import Settings
from shared.errors import CredentialsRefused, InvalidParameter, InvalidRequest, RequestRefused
from shared.rails.base import (
    MERCHANT_CONFIGURATION,
    RAIL_UNAVAILABLE,
    CallbackKind,
    CallbackRequest,
    Instruction,
    Operation,
    Outcome,
    RailEvent,
    Source,
)
from shared.rails.mpesa import stk
from shared.rails.mpesa.callback import read_callback
from shared.rails.mpesa.client import DarajaClient
from shared.rails.mpesa.credentials import read_credentials
from shared.rails.mpesa.wire import redact


def create(settings: Settings) -> "MpesaRail":
    """Make the rail with the hosts of `settings`; no connection is opened yet."""
    return MpesaRail(
        DarajaClient(
            {
                "sandbox": settings.daraja_sandbox_url,
                "production": settings.daraja_production_url,
            }
        )
    )


class MpesaRail:
    """Daraja has no idempotency: every `submit` may prompt the payer, and none is repeated."""

    def __init__(self, client: DarajaClient, now: Callable[[], datetime] = utc_now) -> None:
        self._client = client
        self._now = now

    async def submit(self, instruction: Instruction) -> RailEvent:
        if instruction.operation is not Operation.COLLECT:
            raise InvalidParameter(f"operation: M-Pesa cannot {instruction.operation} yet")
        try:
            credentials = read_credentials(instruction.credentials)
            answer = await self._client.post(
                instruction.environment,
                credentials,
                stk.PUSH_PATH,
                stk.push_body(instruction, credentials, self._now()),
                instruction.traceparent,
            )
        except (CredentialsRefused, InvalidRequest) as refused:
            return _misconfigured(Outcome.FAILED_FINAL, Source.SUBMIT, None, refused)
        if answer is None:
            return _silence(Source.SUBMIT, None)
        return stk.read_push(answer.status, answer.body)

    async def query(self, instruction: Instruction) -> RailEvent:
        if instruction.rail_ref is None:
            return RailEvent(
                Outcome.UNKNOWN, Source.QUERY, message="Daraja never named this attempt"
            )
        try:
            credentials = read_credentials(instruction.credentials)
            answer = await self._client.post(
                instruction.environment,
                credentials,
                stk.QUERY_PATH,
                stk.query_body(instruction.rail_ref, credentials, self._now()),
                instruction.traceparent,
            )
        except (CredentialsRefused, InvalidRequest) as refused:
            # The question failed, not the payment.
            return _misconfigured(Outcome.UNKNOWN, Source.QUERY, instruction.rail_ref, refused)
        if answer is None:
            return _silence(Source.QUERY, instruction.rail_ref)
        return stk.read_query(answer.status, answer.body, instruction.rail_ref)

    def read_callback(self, request: CallbackRequest) -> list[RailEvent]:
        # Nothing in the body authenticates: the path token does, and the caller checked it.
        return [read_callback(request.body)]

    def redact(self, body: bytes, kind: CallbackKind) -> bytes:  # noqa: ARG002
        return redact(body)  # whatever the kind: a secret is none of ours wherever it arrives

    def mask_credentials(self, credentials: bytes) -> dict[str, str]:
        return read_credentials(credentials).masked()

    async def check_credentials(self, credentials: bytes, environment: str) -> None:
        await self._client.check(environment, read_credentials(credentials))

    async def aclose(self) -> None:
        await self._client.aclose()


def _silence(source: Source, rail_ref: str | None) -> RailEvent:
    return RailEvent(
        Outcome.UNKNOWN,
        source,
        rail_ref,
        message="Daraja did not answer",
        reason=RAIL_UNAVAILABLE,
    )


def _misconfigured(
    outcome: Outcome, source: Source, rail_ref: str | None, refused: RequestRefused
) -> RailEvent:
    return RailEvent(
        outcome,
        source,
        rail_ref,
        code=refused.extras.get("rail_code"),
        message=refused.message,
        reason=MERCHANT_CONFIGURATION,
    )
