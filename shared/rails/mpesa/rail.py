"""M-Pesa over Daraja: the verbs of a rail, and payouts, refunds, balances and deposits."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from shared.clock import utc_now
from shared.config import Settings
from shared.errors import CredentialsRefused, InvalidRequest, RequestRefused
from shared.rails.base import (
    MERCHANT_CONFIGURATION,
    RAIL_UNAVAILABLE,
    BalanceReport,
    CallbackKind,
    CallbackRequest,
    Deposit,
    DepositRefusal,
    DepositUrls,
    Instruction,
    Operation,
    Outcome,
    RailEvent,
    RailUnavailable,
    Source,
)
from shared.rails.mpesa import deposits, initiator, results, stk, wire
from shared.rails.mpesa.callback import read_callback
from shared.rails.mpesa.client import RETRY_AFTER_S, DarajaClient
from shared.rails.mpesa.credentials import MpesaCredentials, read_credentials
from shared.rails.mpesa.security import check_certificate
from shared.transport import Answer


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
    """Nothing is ever repeated: a prompt and a reversal have no idempotency at Daraja.

    A payout has, in `OriginatorConversationID`, and yet none is sent twice: it is asked about.
    """

    def __init__(self, client: DarajaClient, now: Callable[[], datetime] = utc_now) -> None:
        self._client = client
        self._now = now

    async def submit(self, instruction: Instruction) -> RailEvent:
        match instruction.operation:
            case Operation.COLLECT:
                return await self._collect(instruction)
            case Operation.PAY_OUT:
                return await self.pay_out(instruction)
            case Operation.REFUND:
                return await self.refund(instruction)

    async def query(self, instruction: Instruction) -> RailEvent:
        if instruction.operation is Operation.COLLECT:
            return await self._query_prompt(instruction)
        return await self._query_conversation(instruction)

    async def pay_out(self, instruction: Instruction) -> RailEvent:
        ours = instruction.originator_ref
        build = partial(initiator.payout_body, instruction)
        told = await self._ask(instruction, initiator.PAYOUT_PATH, build, Source.SUBMIT, ours)
        if isinstance(told, RailEvent):
            return told
        return initiator.read_acknowledgement(told.status, told.body, ours)

    async def refund(self, instruction: Instruction) -> RailEvent:
        build = partial(initiator.reversal_body, instruction)
        told = await self._ask(instruction, initiator.REVERSAL_PATH, build, Source.SUBMIT)
        if isinstance(told, RailEvent):
            return told
        return initiator.read_acknowledgement(told.status, told.body, None)

    def read_callback(self, request: CallbackRequest) -> list[RailEvent]:
        # Nothing in the body authenticates: the path token does, and the caller checked it.
        if request.kind == "collect":
            return [read_callback(request.body)]
        return [results.read(request.body, request.kind)]

    def redact(self, body: bytes, kind: CallbackKind) -> bytes:  # noqa: ARG002
        return wire.redact(body)  # whatever the kind: a secret is none of ours wherever it arrives

    async def request_balance(self, instruction: Instruction) -> RailEvent:
        build = partial(initiator.balance_body, instruction)
        told = await self._ask(instruction, initiator.BALANCE_PATH, build, Source.QUERY)
        if isinstance(told, RailEvent):
            return told
        return initiator.read_question(told.status, told.body)

    def read_balance(self, request: CallbackRequest) -> BalanceReport:
        return results.read_balance(request.body)

    async def register_deposits(
        self, credentials: bytes, environment: str, urls: DepositUrls
    ) -> None:
        known = read_credentials(credentials)
        body = deposits.register_body(known, urls)
        answer = await self._client.post(environment, known, deposits.REGISTER_PATH, body)
        if answer is None:
            raise RailUnavailable("M-Pesa did not answer", retry_after_s=RETRY_AFTER_S)
        deposits.read_registration(answer.status, answer.body)

    def read_deposit(self, request: CallbackRequest) -> Deposit:
        return deposits.read_deposit(request.body)

    def answer_validation(
        self, refusal: DepositRefusal | None, validation_ref: str | None = None
    ) -> dict[str, str]:
        return deposits.answer_validation(refusal, validation_ref)

    def acknowledge_deposit(self) -> dict[str, str]:
        return {"ResultCode": "0", "ResultDesc": "Success"}

    def mask_credentials(self, credentials: bytes) -> dict[str, str]:
        known = read_credentials(credentials)
        if known.certificate:
            check_certificate(known.certificate)
        return known.masked()

    async def check_credentials(self, credentials: bytes, environment: str) -> None:
        await self._client.check(environment, read_credentials(credentials))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _collect(self, instruction: Instruction) -> RailEvent:
        build = partial(stk.push_body, instruction, now=self._now())
        told = await self._ask(instruction, stk.PUSH_PATH, build, Source.SUBMIT)
        if isinstance(told, RailEvent):
            return told
        return stk.read_push(told.status, told.body)

    async def _query_prompt(self, instruction: Instruction) -> RailEvent:
        rail_ref = instruction.rail_ref
        if rail_ref is None:
            return _nameless()
        build = partial(stk.query_body, rail_ref, now=self._now())
        told = await self._ask(instruction, stk.QUERY_PATH, build, Source.QUERY, rail_ref)
        if isinstance(told, RailEvent):
            return told
        return stk.read_query(told.status, told.body, rail_ref)

    async def _query_conversation(self, instruction: Instruction) -> RailEvent:
        """Ask by the conversation; of a payout we know it even when no answer ever came."""
        is_payout = instruction.operation is Operation.PAY_OUT
        conversation = instruction.rail_ref or (instruction.originator_ref if is_payout else None)
        if conversation is None:
            return _nameless()
        build = partial(initiator.status_body, instruction, conversation)
        told = await self._ask(instruction, initiator.STATUS_PATH, build, Source.QUERY)
        if isinstance(told, RailEvent):
            return told
        return initiator.read_question(told.status, told.body)

    async def _ask(
        self,
        instruction: Instruction,
        path: str,
        build: Callable[[MpesaCredentials], wire.Body],
        source: Source,
        rail_ref: str | None = None,
    ) -> Answer | RailEvent:
        """Send once. An event is already the end of it: silence, or credentials that do not work.

        `rail_ref` is what the transfer is known by whatever the answer.
        """
        try:
            credentials = read_credentials(instruction.credentials)
            body = build(credentials)
            answer = await self._client.post(
                instruction.environment, credentials, path, body, instruction.traceparent
            )
        except (CredentialsRefused, InvalidRequest) as refused:
            return _misconfigured(source, rail_ref, refused)
        if answer is not None:
            return answer
        return RailEvent(
            Outcome.UNKNOWN,
            source,
            rail_ref,
            message="Daraja did not answer",
            reason=RAIL_UNAVAILABLE,
        )


def _nameless() -> RailEvent:
    return RailEvent(Outcome.UNKNOWN, Source.QUERY, message="Daraja never named this attempt")


def _misconfigured(source: Source, rail_ref: str | None, refused: RequestRefused) -> RailEvent:
    """Nothing was sent. Of a question that means: the question failed, not the payment."""
    return RailEvent(
        Outcome.FAILED_FINAL if source is Source.SUBMIT else Outcome.UNKNOWN,
        source,
        rail_ref,
        code=refused.extras.get("rail_code"),
        message=refused.message,
        reason=MERCHANT_CONFIGURATION,
    )
