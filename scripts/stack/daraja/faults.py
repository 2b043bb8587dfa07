"""Every fault a request can be given (rails reference 1.4), and the scenarios by phone (2.13).

A fault is a model: its fields are the parameters of `POST /control/faults`. It fits an endpoint at
one of two moments: `edge`, before anything is processed, or `work`, once the request was accepted.
`at` names the endpoint where there is a choice; "outgoing" is payouts and reversals alike. `phone`
is the payer, or whom a payout, a reversal or a status is about. Seconds are virtual (see clock)
except the lifetime of a token.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Endpoint = Literal[
    "push", "query", "token", "register", "payout", "reversal", "status", "balance", "deposit"
]
Work = Literal["push", "payout", "reversal", "outgoing", "status", "balance", "deposit"]
Moment = Literal["edge", "work"]
TokenError = Literal["401.002.01", "404.001.03", "400.003.01"]


class Base(BaseModel):
    """What all faults share: whom they hit and how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phone: str = Field("*", pattern=r"^(\*|254[17]\d{8})$")
    sticky: bool = Field(default=False, description="hits until the faults are deleted")
    times: int = Field(1, ge=1, le=10_000, description="hits before it is used up")

    def fits(self, endpoint: Endpoint, moment: Moment) -> bool:
        """Faults of a prompt or its callbacks are attached when the push is accepted."""
        return (endpoint, moment) == ("push", "work")


class AtWork(Base):
    """A fault of what was accepted, or of what is called back about it."""

    at: Work = "push"

    def fits(self, endpoint: Endpoint, moment: Moment) -> bool:
        is_outgoing = self.at == "outgoing" and endpoint in ("payout", "reversal")
        return moment == "work" and (self.at == endpoint or is_outgoing)


class AtEdge(Base):
    """Answers in the place of the party's systems: nothing is processed."""

    at: Endpoint | Literal["any"] = "any"

    def fits(self, endpoint: Endpoint, moment: Moment) -> bool:
        return moment == "edge" and self.at in (endpoint, "any")


class AtAnswer(Base):
    """Spoils the answer of a request that was processed."""

    at: Endpoint = "push"

    def fits(self, endpoint: Endpoint, moment: Moment) -> bool:
        return moment == "work" and self.at == endpoint


class Down(AtEdge):
    """503 in HTML from the edge, or its spike arrest."""

    fault: Literal["down"] = "down"
    status: int = Field(503, ge=400, le=599)
    spike_arrest: bool = False


class Refused(AtEdge):
    """A refusal in Daraja's own shape, by default of pushes; `message` replaces the usual text."""

    fault: Literal["refused"] = "refused"
    at: Endpoint | Literal["any"] = "push"
    code: str = "500.003.02"
    status: int | None = Field(None, ge=400, le=599)
    message: str | None = None


class TokenExpires(Base):
    """The next token dies early, although it promises 3599 s.

    After `ttl_s` wall seconds; or, mid-flight, under the next push that carries it.
    """

    fault: Literal["token_expires"] = "token_expires"
    ttl_s: float = Field(1.0, ge=0)
    mid_flight: bool = False
    code: TokenError | None = None

    def fits(self, endpoint: Endpoint, moment: Moment) -> bool:
        return moment == "edge" and endpoint == ("push" if self.mid_flight else "token")


class Slow(AtAnswer):
    """Processes at once, answers late. `wall` makes the seconds real whatever the speed."""

    fault: Literal["slow"] = "slow"
    seconds: float = Field(35.0, ge=0)
    wall: bool = False


class LostSync(AtAnswer):
    """Processes, and the answer is lost on the way."""

    fault: Literal["lost_sync"] = "lost_sync"
    how: Literal["502", "empty", "reset"] = "502"


class Garbage(Base):
    """Processes, and the body (of the answer, or of the callback) is not what was promised."""

    fault: Literal["garbage"] = "garbage"
    at: Endpoint | Literal["callback"] = "push"
    kind: Literal["html", "truncated", "empty"] = "html"

    def fits(self, endpoint: Endpoint, moment: Moment) -> bool:
        calls_back = ("push", "payout", "reversal", "status", "balance")
        return moment == "work" and endpoint in (
            calls_back if self.at == "callback" else (self.at,)
        )


class Restart(AtWork):
    """The whole process starts anew around the answer; the books stay."""

    fault: Literal["restart"] = "restart"
    moment: Literal["before_answer", "after_answer"] = "after_answer"


class Pays(AtWork):
    """The payer enters the PIN."""

    fault: Literal["pays"] = "pays"
    after_s: float = Field(2.0, ge=0)
    code: Literal["0"] = "0"


class Fails(AtWork):
    """The prompt ends with a result code of the table."""

    fault: Literal["fails"] = "fails"
    code: str = Field("1032", pattern=r"^\S{1,20}$")
    after_s: float = Field(2.0, ge=0)


class UnknownCode(AtWork):
    """The prompt ends with a code outside all tables."""

    fault: Literal["unknown_code"] = "unknown_code"
    code: str = Field("7777", pattern=r"^\S{1,20}$")
    after_s: float = Field(2.0, ge=0)


class Contradiction(AtWork):
    """Two results for one prompt. Money moves once, with the success."""

    fault: Literal["contradiction"] = "contradiction"
    first: str = Field("1032", pattern=r"^\S{1,20}$")
    then: str = Field("0", pattern=r"^\S{1,20}$")
    after_s: float = Field(2.0, ge=0)
    gap_s: float = Field(5.0, ge=0)

    @property
    def code(self) -> str:
        """The result that comes first."""
        return self.first


class CallbackFirst(AtWork):
    """The push is answered only when its callback has been delivered (or 10 wall s passed)."""

    fault: Literal["callback_first"] = "callback_first"


class DuplicateCallback(AtWork):
    """The same callback several times, at once or 0.2 s apart."""

    fault: Literal["duplicate_callback"] = "duplicate_callback"
    copies: int = Field(5, ge=2, le=50)
    concurrent: bool = True


class LateCallback(AtWork):
    """The payer acts in time, the callback comes much later."""

    fault: Literal["late_callback"] = "late_callback"
    after_s: float = Field(600.0, ge=0)


class LostCallback(AtWork):
    """No callback at all."""

    fault: Literal["lost_callback"] = "lost_callback"


class WrongAmount(AtWork):
    """The payer is charged, and the callback echoes, another amount, or a currency appears."""

    fault: Literal["wrong_amount"] = "wrong_amount"
    delta: int = 1
    currency: str | None = Field(None, pattern=r"^[A-Z]{3}$")


class NoReceipt(AtWork):
    """Success without `MpesaReceiptNumber`; the books do hold one."""

    fault: Literal["no_receipt"] = "no_receipt"


class QueueTimeOut(AtWork):
    """The queue gives up and echoes the request to QueueTimeOutURL; that says nothing.

    `then` "paid": it happens nevertheless and the result follows after `gap_s`; "nothing": neither.
    """

    fault: Literal["queue_timeout"] = "queue_timeout"
    at: Work = "payout"
    then: Literal["paid", "nothing"] = "paid"
    gap_s: float = Field(5.0, ge=0)


class Forged(AtWork):
    """Somebody else reports a success that never happened.

    To a wrong path token, or to the right one from `source`. Nothing is paid unless an outcome
    says so too; a prompt without an outcome then ends unanswered (1037).
    """

    fault: Literal["forged"] = "forged"
    how: Literal["token", "source", "both"] = "source"
    source: str = Field("127.0.0.66", pattern=r"^127\.\d+\.\d+\.\d+$")
    headers: dict[str, str] = Field(default_factory=dict)
    after_s: float = Field(2.0, ge=0)


Outcome = Pays | Fails | UnknownCode | Contradiction
OUTCOMES = (Pays, Fails, UnknownCode, Contradiction)
Fault = Annotated[
    Down
    | Refused
    | TokenExpires
    | Slow
    | LostSync
    | Garbage
    | Restart
    | Outcome
    | CallbackFirst
    | DuplicateCallback
    | LateCallback
    | LostCallback
    | WrongAmount
    | NoReceipt
    | QueueTimeOut
    | Forged,
    Field(discriminator="fault"),
]
ONE: TypeAdapter[Fault] = TypeAdapter(Fault)
MANY: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])

SCENARIOS: Mapping[str, tuple[Fault, ...]] = {
    "00": (Pays(),),
    "01": (Fails(code="1"),),
    "02": (Fails(code="1032"),),
    "03": (Fails(code="1037", after_s=14),),  # seen from +14 s
    "04": (Fails(code="2001"),),
    "05": (Fails(code="1019", after_s=60),),  # the life of a prompt
    "06": (Fails(code="26"),),
    "07": (Fails(code="1001"),),
    "08": (Fails(code="SFC_IC0003"),),
    "10": (Pays(after_s=0.2), CallbackFirst()),
    "11": (Pays(), DuplicateCallback()),
    "12": (Pays(), LostCallback()),
    "13": (Pays(), LateCallback()),
    "14": (Contradiction(),),
    "15": (Pays(), LostSync()),
    "16": (Fails(code="1032"), LostSync()),
    "17": (Pays(), WrongAmount()),
    "18": (Forged(),),
    "19": (Pays(), NoReceipt()),
    "20": (UnknownCode(),),
    "21": (Pays(), Refused(code="500.003.02", status=500, times=3)),
    "22": (Pays(), TokenExpires(mid_flight=True)),
    "30": (Pays(at="outgoing"),),
    "31": (Fails(at="outgoing", code="1"),),  # no float
    "32": (Fails(at="outgoing", code="2040"),),  # not registered
    "33": (Pays(at="outgoing"), QueueTimeOut(at="outgoing")),
    "34": (QueueTimeOut(at="outgoing", then="nothing"),),
    "35": (Pays(at="outgoing", after_s=0.2), CallbackFirst(at="outgoing")),
    "36": (Pays(at="outgoing"), DuplicateCallback(at="outgoing", copies=2)),
}

T = TypeVar("T", bound=Base)


class Selection:
    """The faults one request was given, at most one of each kind."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)

    def get(self, kind: type[T]) -> T | None:
        return next((fault for fault in self.faults if isinstance(fault, kind)), None)

    @property
    def outcome(self) -> Outcome | None:
        """What the payer is scripted to do; None: a person (or the mode) decides."""
        return next((fault for fault in self.faults if isinstance(fault, OUTCOMES)), None)

    @property
    def names(self) -> list[str]:
        return [fault.fault for fault in self.faults]


def merge(scenario: Iterable[Fault], armed: Iterable[Fault]) -> Selection:
    """Armed faults win over the scenario's of the same kind, and over its outcome."""
    chosen = {fault.fault: fault for fault in armed}
    decided = any(isinstance(fault, OUTCOMES) for fault in chosen.values())
    for fault in scenario:
        if not (decided and isinstance(fault, OUTCOMES)):
            chosen.setdefault(fault.fault, fault)
    return Selection(chosen.values())
