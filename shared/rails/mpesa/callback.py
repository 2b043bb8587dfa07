"""The STK result callback, read without I/O. Rails reference 2.5; nothing in it is signed."""

from dataclasses import replace

from shared.rails.base import CallbackNotUnderstood, Outcome, RailEvent, Source
from shared.rails.mpesa import fields, stk, wire

_BOOKED = frozenset({"amount", "currency", "mpesareceiptnumber"})


def read_callback(body: bytes) -> RailEvent:
    """Read one callback. CallbackNotUnderstood for any body that is not a complete STK result.

    A success without receipt or amount is UNKNOWN: believed only when a query says the same.
    """
    try:
        return _read(body)
    except wire.NotReadable as problem:
        raise CallbackNotUnderstood(str(problem)) from None


def _read(body: bytes) -> RailEvent:
    envelope = wire.node(wire.read_object(body).get("body"), "Body")
    result = wire.node(envelope.get("stkcallback"), "stkCallback")
    code = wire.code(result.get("resultcode"), "ResultCode")
    if not code:
        raise wire.NotReadable("ResultCode is missing")
    event = stk.stk_event(
        Source.CALLBACK, _rail_ref(result), code, wire.text(result.get("resultdesc"))
    )
    if event.outcome is not Outcome.SUCCEEDED:
        return event
    return _with_payment(event, _items(result.get("callbackmetadata")))


def _with_payment(event: RailEvent, items: wire.Node) -> RailEvent:
    receipt = wire.text(items.get("mpesareceiptnumber")) or None
    # M-Pesa pays in shillings and says no currency; should it ever say another, it must count.
    currency = wire.text(items.get("currency")) or wire.CURRENCY
    told = items.get("amount")
    amount = None if told is None else wire.amount(told, currency)
    return replace(
        event,
        outcome=Outcome.SUCCEEDED if receipt and amount is not None else Outcome.UNKNOWN,
        receipt=receipt,
        amount=amount,
        payer_masked=fields.masked(items.get("phonenumber")),
        occurred_at=fields.instant(items.get("transactiondate")),
    )


def _rail_ref(result: wire.Node) -> str:
    rail_ref = wire.text(result.get("checkoutrequestid"))
    if not rail_ref:
        raise wire.NotReadable("CheckoutRequestID is missing")
    return rail_ref


def _items(metadata: object) -> wire.Node:
    """Give values by lower-case name. Order, extra, empty and valueless items do not matter.

    NotReadable when what is booked, amount or receipt, is there twice and differs.
    """
    if not isinstance(metadata, dict):
        return {}
    listed = wire.node(metadata, "CallbackMetadata").get("item")
    items: wire.Node = {}
    for item in listed if isinstance(listed, list) else [listed]:
        if isinstance(item, dict):
            members = wire.node(item, "Item")
            name = wire.text(members.get("name")).lower()
            value = members.get("value")
            if name in _BOOKED and value is not None and items.get(name, value) != value:
                raise wire.NotReadable(f"{name} is there twice and differs")
            if value is not None:
                items.setdefault(name, value)
    return items
