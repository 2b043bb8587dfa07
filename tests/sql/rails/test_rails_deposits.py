"""Deposits: payments nobody was prompted for, and prompts that the rail tells twice."""

import pytest

from tests.sql.payments.moves import Desk
from tests.sql.payments.shop import Attempt, Shop
from tests.sql.rails.rail import Rail
from tests.sql.rails.till import Till
from tests.support.sql import Books, Refused, digest


@pytest.fixture
def till(shop: Shop, books: Books) -> Till:
    return Till(shop, books)


def reference(intent_id: str) -> str:
    """What the payer types."""
    return intent_id[-12:].upper()


def receipts(books: Books, shop: Shop) -> list[str]:
    return books.column(
        "select receipt from payments.transfers where tenant_id = %s and state = 'SETTLED'"
        " order by created_at",
        shop.tenant_id,
    )


def test_a_deposit_pays_the_open_intent_it_names(till: Till, books: Books) -> None:
    intent_id = till.shop.new_intent()

    concluded = till.confirm("UKA1", reference(intent_id))

    assert concluded["disposition"] == "applied"
    intent = books.intent(intent_id)
    assert (intent["status"], intent["amount_received_minor"]) == ("succeeded", 10_000)
    (deposit,) = till.deposits()
    assert (deposit["state"], deposit["receipt"], deposit["payment_intent_id"]) == (
        "SETTLED",
        "UKA1",
        intent_id,
    )
    assert deposit["unallocated_reason"] is None


@pytest.mark.parametrize("typed", ["{0}", " {0} ", "{1} {2}", "{0}.", "{3}"])
def test_an_account_number_is_understood_as_people_type_it(
    till: Till, books: Books, typed: str
) -> None:
    intent_id = till.shop.new_intent()
    whole = reference(intent_id)
    lookalike = whole.replace("0", "O").replace("1", "l").lower()

    till.confirm("UKA2", typed.format(whole, whole[:6], whole[6:], lookalike))

    assert books.intent(intent_id)["status"] == "succeeded"


def test_the_intent_shows_the_account_number(till: Till) -> None:
    intent_id = till.shop.new_intent()

    assert till.shop.get(intent_id)["account_reference"] == reference(intent_id)


def test_part_of_the_amount_leaves_the_intent_partially_paid_and_a_prompt_asks_for_the_rest(
    till: Till, rail: Rail, books: Books
) -> None:
    intent_id = till.shop.new_intent()

    till.confirm("UKA3", reference(intent_id), 4_000)
    partly = books.intent(intent_id)
    rest = till.shop.retry(intent_id)
    rail.call_back(rest, rest.paid())

    assert (partly["status"], partly["amount_received_minor"]) == ("partially_paid", 4_000)
    assert rest.amount_minor == 6_000
    assert books.intent(intent_id)["status"] == "succeeded"
    assert "payment_intent.partially_paid" in books.timeline(intent_id)


def test_a_prompt_for_the_rest_that_fails_leaves_the_intent_partially_paid(
    till: Till, rail: Rail, books: Books
) -> None:
    intent_id = till.shop.new_intent()
    till.confirm("UKA4", reference(intent_id), 4_000)
    rest = till.shop.retry(intent_id)

    rail.call_back(rest, rest.told("1032"))

    assert books.intent(intent_id)["status"] == "partially_paid"
    assert till.shop.get(intent_id)["last_error"]["code"] == "MM_USER_CANCELLED"


@pytest.mark.parametrize("typed", ["shop", "", "000000000000"])
def test_a_deposit_that_names_nothing_waits_for_a_person(
    till: Till, books: Books, typed: str
) -> None:
    concluded = till.confirm("UKA5", typed)

    (deposit,) = till.deposits()
    assert concluded["disposition"] == "applied"
    assert (deposit["state"], deposit["payment_intent_id"]) == ("SETTLED", None)
    assert deposit["unallocated_reason"] in ("no_open_intent", "no_account_reference")
    assert books.alerts(deposit["transfer_id"]) == ["deposit_unallocated"]


def test_a_deposit_for_an_intent_that_is_over_waits_for_a_person(till: Till) -> None:
    intent_id = till.shop.new_intent()
    till.shop.cancel(intent_id)

    till.confirm("UKA6", reference(intent_id))

    (deposit,) = till.deposits()
    assert deposit["unallocated_reason"] == "no_open_intent"


def test_a_deposit_for_an_intent_of_another_tenant_waits_for_a_person(
    till: Till, books: Books
) -> None:
    other = Shop(till.shop.api, books).open()
    intent_id = other.new_intent()

    till.confirm("UKA7", reference(intent_id))

    assert till.deposits()[0]["unallocated_reason"] == "no_open_intent"
    assert books.intent(intent_id)["status"] == "requires_payment_method"


def test_a_person_assigns_a_deposit(till: Till, books: Books) -> None:
    intent_id = till.shop.new_intent()
    till.confirm("UKA8", "shop")
    (deposit,) = till.deposits()

    answer = till.assign(deposit["transfer_id"], intent_id)

    assert answer.body["payment_intent"] == intent_id
    assert books.intent(intent_id)["status"] == "succeeded"
    assert books.alerts(deposit["transfer_id"]) == []
    assert books.timeline(intent_id)[-2:] == ["transfer.allocated", "payment_intent.succeeded"]
    assert (
        books.value(
            "select details ->> 'reason' from public.audit_log where subject = %s",
            deposit["transfer_id"],
        )
        == "the payer called"
    )


def test_a_deposit_is_assigned_once(till: Till) -> None:
    till.confirm("UKA9", "shop")
    (deposit,) = till.deposits()
    till.assign(deposit["transfer_id"], till.shop.new_intent())

    with pytest.raises(Refused, match="40911"):
        till.assign(deposit["transfer_id"], till.shop.new_intent())


def test_a_deposit_is_not_assigned_to_what_is_paid_already(till: Till, rail: Rail) -> None:
    paid, _ = Desk(till.shop).paid_intent(rail)
    till.confirm("UKB1", "shop")
    (deposit,) = till.deposits()

    with pytest.raises(Refused, match="paid in full"):
        till.assign(deposit["transfer_id"], paid)


def test_assigning_needs_the_right_to_resolve(till: Till) -> None:
    till.confirm("UKB2", "shop")
    (deposit,) = till.deposits()

    with pytest.raises(Refused, match="payments:resolve"):
        till.assign(
            deposit["transfer_id"],
            till.shop.new_intent(),
            till.shop.add_key("r", ["payments:write"]),
        )


def test_an_unallocated_deposit_can_go_back_by_reversal(till: Till) -> None:
    till.confirm("UKB3", "shop")
    (deposit,) = till.deposits()

    refund = Desk(till.shop).refund(transfer_id=deposit["transfer_id"])

    assert refund.instruction["operation"] == "refund"
    assert refund.instruction["original_receipt"] == "UKB3"


def test_a_deposit_whose_payer_nobody_knows_cannot_be_paid_back_in_part(till: Till) -> None:
    till.confirm("UKB4", "shop")
    (deposit,) = till.deposits()

    with pytest.raises(Refused, match="payer's number is not known"):
        Desk(till.shop).begin_refund(transfer_id=deposit["transfer_id"], amount_minor=5_000)


# One payment, told twice


def test_a_deposit_told_twice_is_one_payment(till: Till, books: Books) -> None:
    intent_id = till.shop.new_intent()
    till.confirm("UKC1", reference(intent_id))

    again = till.confirm("UKC1", reference(intent_id))

    assert again["disposition"] == "duplicate"
    assert len(till.deposits()) == 1
    assert books.intent(intent_id)["amount_received_minor"] == 10_000


def test_a_receipt_told_again_with_another_amount_is_parked(till: Till) -> None:
    till.confirm("UKC2", "shop")

    again = till.confirm("UKC2", "shop", 20_000)

    assert again["disposition"] == "parked"
    assert len(till.deposits()) == 1


def test_the_deposit_of_a_prompt_after_its_callback_changes_nothing(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt = till.shop.attempt()
    rail.call_back(attempt, attempt.paid("UKC3"))

    twin = till.confirm("UKC3", reference(attempt.intent_id))

    assert twin["disposition"] == "duplicate"
    assert till.deposits() == []
    assert books.intent(attempt.intent_id)["amount_received_minor"] == 10_000


def test_the_deposit_of_a_prompt_before_its_callback_settles_the_prompt(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt = till.shop.attempt()

    twin = till.confirm("UKC4", reference(attempt.intent_id))
    later = rail.call_back(attempt, attempt.paid("UKC4"))

    assert (twin["disposition"], later["disposition"]) == ("applied", "duplicate")
    assert till.deposits() == []
    row = books.transfer(attempt.transfer_id)
    assert (row["state"], row["receipt"]) == ("SETTLED", "UKC4")
    assert books.intent(attempt.intent_id)["amount_received_minor"] == 10_000


def test_the_deposit_of_a_prompt_brings_the_receipt_that_the_query_could_not_tell(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt = till.shop.attempt()
    rail.answer_query(attempt, attempt.answered("0"))

    till.confirm("UKC5", reference(attempt.intent_id))

    assert books.transfer(attempt.transfer_id)["receipt"] == "UKC5"
    assert till.deposits() == []
    assert books.intent(attempt.intent_id)["amount_received_minor"] == 10_000


def test_the_deposit_of_a_prompt_whose_answer_was_lost_settles_it(till: Till, books: Books) -> None:
    attempt = till.shop.send(till.shop.new_intent())  # we hold no reference of the rail's

    till.confirm("UKC6", reference(attempt.intent_id))

    assert books.transfer(attempt.transfer_id)["state"] == "SETTLED"


def test_a_prompt_that_failed_and_a_deposit_by_hand_are_one_payment(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt = till.shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))

    till.confirm("UKC7", reference(attempt.intent_id))

    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"
    assert till.deposits()[0]["payment_intent_id"] == attempt.intent_id
    assert books.intent(attempt.intent_id)["status"] == "succeeded"


def test_a_late_callback_with_the_receipt_of_the_booked_deposit_is_one_payment(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt = till.shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))
    till.confirm("UKC8", reference(attempt.intent_id))

    late = rail.call_back(attempt, attempt.paid("UKC8"))

    assert late["disposition"] == "duplicate"
    assert receipts(books, till.shop) == ["UKC8"]
    assert books.intent(attempt.intent_id)["amount_received_minor"] == 10_000


def test_a_deposit_of_another_amount_beside_an_open_prompt_is_a_payment_of_its_own(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt = till.shop.attempt()

    till.confirm("UKC9", reference(attempt.intent_id), 3_000)
    meanwhile = books.intent(attempt.intent_id)
    rail.call_back(attempt, attempt.paid("UKD1"))

    assert (meanwhile["status"], meanwhile["amount_received_minor"]) == ("processing", 3_000)
    assert meanwhile["latest_transfer_id"] == attempt.transfer_id
    after = books.intent(attempt.intent_id)
    assert (after["status"], after["amount_received_minor"]) == ("succeeded", 13_000)
    assert "intent_overpaid" in books.alerts(attempt.intent_id)


# Strangers


def test_a_confirmation_from_a_strange_address_books_nothing(till: Till, books: Books) -> None:
    intent_id = till.shop.new_intent()

    concluded = till.confirm("UKE1", reference(intent_id), source_trusted=False)

    assert (concluded["disposition"], concluded["reason"]) == ("parked", "untrusted_source")
    assert till.deposits() == []
    assert books.intent(intent_id)["status"] == "requires_payment_method"


def test_a_forgery_does_not_occupy_the_receipt(till: Till) -> None:
    till.confirm("UKE2", "shop", source_trusted=False)

    concluded = till.confirm("UKE2", "shop")

    assert concluded["disposition"] == "applied"


def test_a_confirmation_with_a_token_of_nobody_is_kept_and_parked(till: Till) -> None:
    concluded = till.confirm("UKE3", "shop", token_hash=digest("made up"))

    assert (concluded["disposition"], concluded["reason"]) == ("parked", "unknown_token")
    assert till.deposits() == []


def test_a_confirmation_nobody_understands_is_kept_and_parked(till: Till) -> None:
    concluded = till.confirm("UKE4", "shop", deposit=None, problem="not JSON")

    assert (concluded["disposition"], concluded["reason"]) == ("parked", "not JSON")


@pytest.mark.parametrize(
    ("amount_minor", "currency", "refusal"),
    [(10_000, "KES", None), (10_000, "USD", "amount"), (25_000_100, "KES", "amount")],
)
def test_a_validation_lets_pass_what_the_rail_can_carry(
    till: Till, amount_minor: int, currency: str, refusal: str | None
) -> None:
    told = till.shop.api.call(
        "fn_momo_callback",
        {},
        "rails.check_deposit",
        rail="mpesa",
        token_hash=digest(till.token),
        amount_minor=amount_minor,
        currency=currency,
    )

    assert told == refusal


def test_a_late_query_about_a_prompt_that_its_deposit_settled_is_a_duplicate(
    till: Till, rail: Rail, books: Books
) -> None:
    attempt: Attempt = till.shop.attempt()
    till.confirm("UKF1", reference(attempt.intent_id))

    rail.answer_query(attempt, attempt.answered("0"))

    assert books.transfer(attempt.transfer_id)["receipt"] == "UKF1"


# A person believes what an address does not prove


def parked(till: Till, books: Books, receipt: str, reference_typed: str) -> int:
    """A confirmation from a strange address; the id under which it waits."""
    till.confirm(receipt, reference_typed, source_trusted=False)
    return int(
        books.value(
            "select callback_id from rails.callbacks where tenant_id = %s", till.shop.tenant_id
        )
    )


def test_a_person_books_a_deposit_that_a_strange_address_told(till: Till, books: Books) -> None:
    intent_id = till.shop.new_intent()
    callback_id = parked(till, books, "UKG1", reference(intent_id))

    answer = till.accept(callback_id)

    assert answer.body["disposition"] == "applied"
    assert books.intent(intent_id)["status"] == "succeeded"
    assert receipts(books, till.shop) == ["UKG1"]
    audited = books.row("select * from public.audit_log where action = 'deposit.accept'")
    assert (audited["subject"], audited["details"]["receipt"]) == (str(callback_id), "UKG1")


def test_a_deposit_is_believed_once(till: Till, books: Books) -> None:
    callback_id = parked(till, books, "UKG2", "shop")
    till.accept(callback_id)

    with pytest.raises(Refused, match="40911"):
        till.accept(callback_id)


def test_a_deposit_that_the_rail_told_meanwhile_is_booked_once(till: Till, books: Books) -> None:
    callback_id = parked(till, books, "UKG3", "shop")
    till.confirm("UKG3", "shop")

    answer = till.accept(callback_id)

    assert answer.body["disposition"] == "duplicate"
    assert len(till.deposits()) == 1


def test_nobody_books_the_deposits_of_another_tenant(till: Till, books: Books) -> None:
    callback_id = parked(till, books, "UKG4", "shop")
    other = Till(Shop(till.shop.api, books).open(), books)

    with pytest.raises(Refused, match="40401"):
        other.accept(callback_id)
