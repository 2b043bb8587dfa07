"""The canonical form of a transfer: what two requests have in common when they ask for the same.

Text trimmed, empty members dropped, currency in capitals, the amount with all its decimals, phones
in E.164; then RFC 8785, hashed. A retry that is typed differently is still the same transfer.
"""

from dataclasses import dataclass

from functions.transfers.models import CreateTransfer, Party, invalid
from shared.http.idempotency import body_hash
from shared.money import Money
from shared.phones import parse_payer_phone


@dataclass(frozen=True, slots=True)
class Canonical:
    """A transfer as it is stored. `phone` is E.164: of the payee of a PUSH, else of the payer.

    `rail` is None when the directory shall choose; `hints` are what it prefers.
    """

    intent: str
    amount: Money
    rail: str | None
    hints: list[str]
    phone: str
    name: str | None
    external_ref: str | None
    end_user_ref: str | None
    description: str | None
    metadata: dict[str, str]
    body_hash: str


def canonical(body: CreateTransfer) -> Canonical:
    """Raises InvalidAmount, PhoneInvalid or InvalidRequest, naming the field."""
    amount = Money.parse(body.amount, body.currency.upper())
    side = "payee" if body.intent == "PUSH" else "payer"
    party: Party = getattr(body, side)
    if party.type != "MOBILE_MONEY":
        raise invalid(f"/{side}/type", "only MOBILE_MONEY can be reached for now")
    phone = parse_payer_phone(party.id, pointer=f"/{side}/id")
    hints = [hint.strip() for hint in body.rail_hints if hint.strip()]
    # One name is an order, several are a preference; a policy asks for a choice in any case.
    named = hints or ([party.provider] if party.provider else [])
    rail = named[0] if len(named) == 1 and body.policy is None else None
    metadata = {key: value.strip() for key, value in body.metadata.items() if value.strip()}
    sent = {name for name in body.model_fields_set if getattr(body, name) not in (None, "", [], {})}
    whole = body.model_copy(
        update={
            "amount": amount.wire(),
            "currency": amount.currency,
            "metadata": metadata,
            side: party.model_copy(update={"id": phone}),
        }
    )
    for name in body.model_fields_set - sent:
        whole.model_fields_set.discard(name)
    return Canonical(
        intent=body.intent,
        amount=amount,
        rail=rail,
        hints=named,
        phone=phone,
        name=party.name or None,
        external_ref=body.external_ref or None,
        end_user_ref=body.end_user_ref or None,
        description=body.description or None,
        metadata=metadata,
        body_hash=body_hash(whole),
    )
