"""Laws of reading M-Pesa bodies: total, exact, and never a success that nobody paid."""

import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.rails.base import CallbackKind, CallbackNotUnderstood, Outcome, RailEvent
from shared.rails.mpesa import results as told
from shared.rails.mpesa import stk
from shared.rails.mpesa.callback import read_callback
from shared.rails.mpesa.deposits import read_deposit

REF = "ws_CO_01032026141503700000111"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["0", 0, "1032", "1e999999999", 10**400, -1, "", "NaN", "\ud800", "\x00"])
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
item_names = st.sampled_from(
    ["Amount", "MpesaReceiptNumber", "Balance", "TransactionDate", "PhoneNumber", "amount"]
)
items = st.one_of(
    st.fixed_dictionaries({}, optional={"Name": item_names | documents, "Value": documents}),
    documents,
)
results = st.fixed_dictionaries(
    {},
    optional={
        "ResultCode": scalars | documents,
        "ResultDesc": documents,
        "CheckoutRequestID": st.just(REF) | documents,
        "MerchantRequestID": documents,
        "CallbackMetadata": st.fixed_dictionaries(
            {}, optional={"Item": st.lists(items, max_size=7) | documents}
        )
        | documents,
    },
)
callbacks = st.fixed_dictionaries(
    {"Body": st.fixed_dictionaries({"stkCallback": results}) | documents}
)


def read(body: bytes) -> RailEvent | None:
    """Give the event, or None for the one documented refusal. Anything else fails the test."""
    try:
        return read_callback(body)
    except CallbackNotUnderstood:
        return None


def assert_storable(event: RailEvent) -> None:
    """Everything an event says must survive UTF-8, JSON and a Postgres text."""
    written = json.dumps(event.to_json(), ensure_ascii=False).encode()
    assert b"\\u0000" not in written
    assert event.amount is None or 0 <= event.amount.minor < 2**63


@given(callbacks | documents)
@settings(max_examples=600)
def test_any_document_is_read_or_refused_and_never_invents_a_payment(document: object) -> None:
    event = read(json.dumps(document).encode())

    if event is not None:
        assert_storable(event)
        assert event.outcome is not Outcome.SUCCEEDED or (event.receipt and event.amount)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    assert read(body) is None


@given(st.integers(1, 5000))
def test_any_depth_is_refused(depth: int) -> None:
    assert read(b'{"Body":' + b"[" * depth + b"]" * depth + b"}") is None


@given(
    minor=st.integers(0, 25_000_000),
    form=st.sampled_from(["{:f}", '"{:f}"', "{:.2f}", '"{:.2f}"', "{:.4f}", "{:E}"]),
    order=st.permutations(range(4)),
    code=st.sampled_from(["0", '"0"', "0.0"]),
)
def test_amount_survives_every_way_of_writing_it(
    minor: int, form: str, order: list[int], code: str
) -> None:
    amount = form.format(Decimal(minor).scaleb(-2))
    members = [
        f'{{"Name":"Amount","Value":{amount}}}',
        '{"Name":"MpesaReceiptNumber","Value":"UCR1A2B3C4"}',
        '{"Name":"Balance"}',
        "{}",
    ]
    listed = ",".join(members[i] for i in order)
    body = (
        f'{{"Body":{{"stkCallback":{{"CheckoutRequestID":"{REF}","ResultCode":{code},'
        f'"ResultDesc":"ok","CallbackMetadata":{{"Item":[{listed}]}}}}}}}}'
    )

    event = read_callback(body.encode())

    assert (event.outcome, event.receipt) == (Outcome.SUCCEEDED, "UCR1A2B3C4")
    assert event.amount is not None
    assert (event.amount.minor, event.amount.currency) == (minor, "KES")


@given(
    st.integers(100, 599),
    st.fixed_dictionaries(
        {},
        optional={
            "ResultCode": scalars | documents,
            "ResultDesc": documents,
            "errorCode": documents | st.sampled_from(["500.001.1001", "400.002.02"]),
            "ErrorMessage": documents,
            "ResponseCode": documents | st.just("0"),
            "CheckoutRequestID": st.just(REF) | documents,
        },
    )
    | documents,
)
@settings(max_examples=400)
def test_any_answer_of_daraja_is_an_event(status: int, document: object) -> None:
    body = json.dumps(document).encode()

    push, query = stk.read_push(status, body), stk.read_query(status, body, REF)

    assert_storable(push)
    assert_storable(query)
    assert push.outcome is not Outcome.SUCCEEDED
    assert push.outcome is not Outcome.PENDING or push.rail_ref
    assert query.outcome is not Outcome.SUCCEEDED or document["CheckoutRequestID"] == REF  # type: ignore[index, call-overload]


keys = st.sampled_from(
    ["TransactionAmount", "TransactionReceipt", "Amount", "ReceiptNo", "TransactionStatus",
     "ReceiverPartyPublicName", "FinalisedTime", "Conversation ID", "AccountBalance"]
)  # fmt: skip
pairs = st.fixed_dictionaries({}, optional={"Key": keys | documents, "Value": documents})
outcomes = st.fixed_dictionaries(
    {
        "Result": st.fixed_dictionaries(
            {},
            optional={
                "ResultCode": scalars,
                "ResultDesc": documents,
                "OriginatorConversationID": documents,
                "TransactionID": documents,
                "ResultParameters": st.fixed_dictionaries(
                    {}, optional={"ResultParameter": st.lists(pairs, max_size=7) | pairs}
                )
                | documents,
            },
        )
        | documents
    }
)


@given(outcomes | documents, st.sampled_from(["result", "status", "timeout"]))
@settings(max_examples=600)
def test_any_result_is_read_or_refused_and_no_success_lacks_receipt_or_amount(
    document: object, kind: CallbackKind
) -> None:
    try:
        event = told.read(json.dumps(document).encode(), kind)
    except CallbackNotUnderstood:
        return

    assert_storable(event)
    if event.outcome is Outcome.SUCCEEDED:
        assert event.receipt
        assert event.amount is not None
    assert kind != "timeout" or event.outcome is Outcome.UNKNOWN


@given(outcomes | documents)
@settings(max_examples=300)
def test_any_balance_is_read_or_refused(document: object) -> None:
    try:
        report = told.read_balance(json.dumps(document).encode())
    except CallbackNotUnderstood:
        return

    assert report.code == "0" or not report.accounts


@given(documents)
@settings(max_examples=300)
def test_any_deposit_is_read_or_refused_and_is_never_of_nothing(document: object) -> None:
    try:
        deposit = read_deposit(json.dumps(document).encode())
    except CallbackNotUnderstood:
        return

    assert deposit.receipt
    assert deposit.amount.minor > 0
