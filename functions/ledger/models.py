"""The wire shapes of /ledger. Money is a decimal string beside its currency."""

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from shared.money import Money

_HASH: Final = "b1946ac92492d2347c6235b4d2611184c1a3f5b0a9cf8f4dd7a5b6e0c3d2f190"
_JOURNAL_ID: Final = "jrnl_01kaj3wz5qf3msb0zcv9m2d7xe"
_MERCHANT: Final = "MERCHANT:tn_01kaj3v5d6e0bvs3m9y2r8ht4w"

Amount = Annotated[str, Field(examples=["250.00"])]
Currency = Annotated[str, Field(examples=["KES"])]
Code = Annotated[str, Field(examples=[_MERCHANT])]
Side = Literal["debit", "credit"]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=[_HASH])]
TransferId = Annotated[str | None, Field(examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
# A memo is one line: what is hashed has a line per field.
Memo = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        min_length=3,
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
    ),
]


class Booked(BaseModel):
    """How many events were taken from the outbox."""

    taken: Annotated[int, Field(examples=[42])]


class Balance(BaseModel):
    """What an account holds; below zero is the other side than its normal one."""

    account: Code
    number: Annotated[str, Field(examples=["2100"])]
    type: Annotated[str, Field(examples=["MERCHANT"])]
    class_: Annotated[str, Field(alias="class", examples=["liability"])]
    currency: Currency
    balance: Amount
    normal_side: Side
    as_of: datetime


class Balances(BaseModel):
    """By currency, then number of the chart."""

    data: list[Balance]


class Account(BaseModel):
    """An account as the chart describes it."""

    account: Code
    number: Annotated[str, Field(examples=["2100"])]
    type: Annotated[str, Field(examples=["MERCHANT"])]
    class_: Annotated[str, Field(alias="class", examples=["liability"])]
    normal_side: Side
    currency: Currency
    status: Literal["active", "closed"]
    description: Annotated[str, Field(examples=["Owed to the merchant"])]
    created_at: datetime


class Accounts(BaseModel):
    """By number of the chart."""

    data: list[Account]


class Entry(BaseModel):
    """The same amount as debit of one account and as credit of another."""

    number: Annotated[int, Field(examples=[2])]
    leg: Annotated[str, Field(examples=["principal"])]
    debit: Annotated[str, Field(examples=["USER:mpesa"])]
    credit: Code
    amount: Amount
    currency: Currency
    amount_minor: Annotated[str, Field(examples=["25000"])]


class Journal(BaseModel):
    """What was booked for one event. `hash` covers all of it and the journal before."""

    id: Annotated[str, Field(examples=[_JOURNAL_ID])]
    object: Literal["journal"]
    number: Annotated[int, Field(examples=[17])]
    key: Annotated[str, Field(examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx:transfer.settled:4"])]
    event_type: Annotated[str, Field(examples=["transfer.settled"])]
    event_id: Annotated[str | None, Field(examples=["evt_01kaj3wz5qf3msb0zcv9m2d7xe"])]
    transfer_id: TransferId
    occurred_at: datetime
    posted_at: datetime
    period: Annotated[str, Field(examples=["2026-11"])]
    rules_version: Annotated[int, Field(examples=[1])]
    related_journal_id: Annotated[str | None, Field(examples=[None])]
    is_memo: bool
    memo: Annotated[str, Field(examples=[""])]
    hash: Hash
    entries: list[Entry]


class Pagination(BaseModel):
    """`next_cursor` gives the next page; null on the last."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["17"])]


class JournalPage(BaseModel):
    """Newest first."""

    data: list[Journal]
    pagination: Pagination


class Head(BaseModel):
    """The newest journal of the chain."""

    number: Annotated[int, Field(examples=[17])]
    hash: Hash


class Proof(BaseModel):
    """All that is needed to compute the hash of each journal again."""

    format: Literal["stalela.ledger.proof.v1"]
    tenant_id: Annotated[str, Field(examples=["tn_01kaj3v5d6e0bvs3m9y2r8ht4w"])]
    environment: Literal["sandbox", "production"]
    from_: Annotated[int, Field(alias="from", examples=[17])]
    to: Annotated[int, Field(examples=[17])]
    previous_hash: Hash
    head: Head
    journals: list[Journal]


class StatementLine(BaseModel):
    """An entry of the account. Amounts are positive on its normal side."""

    journal_id: Annotated[str, Field(examples=[_JOURNAL_ID])]
    number: Annotated[int, Field(examples=[17])]
    posted_at: datetime
    occurred_at: datetime
    event_type: Annotated[str, Field(examples=["transfer.settled"])]
    transfer_id: TransferId
    leg: Annotated[str, Field(examples=["principal"])]
    against: Annotated[str, Field(examples=["USER:mpesa"])]
    amount: Amount
    balance: Amount
    memo: Annotated[str, Field(examples=[""])]


class Statement(BaseModel):
    """An account from day to day, in the order of posting."""

    object: Literal["statement"]
    account: Code
    currency: Currency
    normal_side: Side
    from_: Annotated[date, Field(alias="from", examples=["2026-11-01"])]
    to: Annotated[date, Field(examples=["2026-11-20"])]
    opening_balance: Annotated[str, Field(examples=["0.00"])]
    closing_balance: Amount
    lines: list[StatementLine]


class Tariff(BaseModel):
    """A fee: `rate_bps` hundredths of a percent and `fixed`, and `tax_bps` of that as tax."""

    id: Annotated[str, Field(examples=["default"])]
    is_default: bool
    purpose: Annotated[str, Field(examples=["*"])]
    rail: Annotated[str, Field(examples=["*"])]
    currency: Annotated[str, Field(examples=["*"])]
    rate_bps: Annotated[int, Field(examples=[0])]
    fixed: Annotated[str | None, Field(examples=[None])]
    tax_bps: Annotated[int, Field(examples=[0])]
    reserve_bps: Annotated[int, Field(examples=[0])]
    reserve_days: Annotated[int, Field(examples=[0])]
    is_fee_returned: bool
    valid_from: date
    valid_until: Annotated[date | None, Field(examples=[None])]


class Tariffs(BaseModel):
    """The organisation's own, then everybody's."""

    data: list[Tariff]


class Line(BaseModel):
    """A debit or a credit."""

    model_config = ConfigDict(extra="forbid", strict=True)

    account: Annotated[
        str, Field(pattern=r"^[A-Z_]+(:[A-Za-z0-9_.-]+)?$", max_length=80, examples=[_MERCHANT])
    ]
    side: Side
    amount: Annotated[str, Field(max_length=32, examples=["250.00"])]
    currency: Annotated[str, Field(max_length=8, examples=["KES"])]


class CreateManualJournal(BaseModel):
    """Debits and credits are equal in each currency. `occurred_at` is now by default."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "memo": "Float paid in at the bank, slip 118",
                    "lines": [
                        {
                            "account": "LIQUIDITY:KES",
                            "side": "debit",
                            "amount": "250.00",
                            "currency": "KES",
                        },
                        {
                            "account": "CONTRIBUTED_CAPITAL",
                            "side": "credit",
                            "amount": "250.00",
                            "currency": "KES",
                        },
                    ],
                }
            ]
        },
    )

    memo: Memo
    occurred_at: Annotated[AwareDatetime | None, Field(strict=False)] = None
    lines: Annotated[list[Line], Field(min_length=2, max_length=200)]

    def minor_lines(self) -> list[dict[str, Any]]:
        """The lines in minor units, as SQL reads them. Raises InvalidAmount."""
        return [
            {
                "account": line.account,
                "side": line.side,
                "amount_minor": Money.parse(
                    line.amount, line.currency, pointer=f"/lines/{number}/amount"
                ).minor,
                "currency": line.currency,
            }
            for number, line in enumerate(self.lines)
        ]


class ManualJournal(BaseModel):
    """An adjustment: `pending` until another person than `created_by` decides."""

    id: Annotated[str, Field(examples=["mj_01kaj40m3cejt8w1f5k9d6b2zr"])]
    object: Literal["manual_journal"]
    status: Literal["pending", "posted", "rejected"]
    memo: Annotated[str, Field(examples=["Float paid in at the bank, slip 118"])]
    occurred_at: datetime
    lines: list[Line]
    created_by: Annotated[str, Field(examples=["user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"])]
    decided_by: Annotated[str | None, Field(examples=[None])]
    reason: Annotated[str | None, Field(examples=[None])]
    journal_id: Annotated[str | None, Field(examples=[None])]
    created_at: datetime
    decided_at: datetime | None


class ManualJournals(BaseModel):
    """Newest first."""

    data: list[ManualJournal]


class Reason(BaseModel):
    """Why; it is audited."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"reason": "Agrees with the bank's slip"}]},
    )

    reason: Memo


class MovePeriod(BaseModel):
    """Where to."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"status": "closing"}]}
    )

    status: Literal["open", "closing", "closed"]


class SnapshotBalance(BaseModel):
    """What an account held when its period was closed."""

    account: Code
    currency: Currency
    balance: Amount


class Period(BaseModel):
    """A month. `snapshot` is what it ended with, once it is closed."""

    id: Annotated[str, Field(examples=["2026-10"])]
    object: Literal["period"]
    status: Literal["open", "closing", "closed"]
    changed_by: Annotated[str, Field(examples=["user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"])]
    changed_at: datetime
    snapshot: list[SnapshotBalance] | None


class Periods(BaseModel):
    """Newest first."""

    data: list[Period]
