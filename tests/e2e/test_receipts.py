"""A paid payment reaches its payer's mailbox; a bounce comes back; nothing is sent twice."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from scripts.stack.resend.testing import Post
from scripts.stack.resend.wire import signature
from tests.support.house import FUNCTIONS, House, Merchant, own_house
from tests.support.simulator import Json, new_phone, until

WITH_RECEIPTS = (*FUNCTIONS, "receipts", "alerts", "refunds")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with own_house("receipts", functions=WITH_RECEIPTS) as running:
        yield running


@pytest.fixture(scope="module")
def post(house: House) -> Iterator[Post]:
    with httpx.Client(base_url=house.stack.mailbox_url, timeout=15, trust_env=False) as http:
        made = Post(house.stack.mailbox_url, http)
        made.settings(requests_per_s=1000, daily_quota=10_000, delivery_delay_s=0.05)
        set_budget(house, 10_000)
        yield made


@pytest.fixture
def merchant(house: House, post: Post) -> Merchant:
    return house.merchant()


def set_budget(house: House, mails: int) -> None:
    house.books.run(
        "update public.settings set value = to_jsonb(%s::integer)"
        " where key = 'messages.daily_budget'",
        mails,
    )


def customer(box: str, **fields: Any) -> Json:
    return {"customer": {"name": "Wanjiru Kamau", "email": f"{box}@mail.example"} | fields}


def pay(house: House, merchant: Merchant, **fields: Any) -> str:
    """A payment that succeeded; its intent."""
    phone = new_phone()
    intent_id = merchant.start(phone, **fields)
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    return intent_id


def poke(house: House, function: str = "receipts") -> None:
    token = house.stack.keys["internal_token"]
    answer = house.http.post(f"/{function}", headers={"Authorization": f"Bearer {token}"})
    answer.raise_for_status()


def receipts(merchant: Merchant, intent_id: str) -> list[Json]:
    return list(merchant.api.get(f"/receipts/{intent_id}").raise_for_status().json()["data"])


def in_state(house: House, merchant: Merchant, intent_id: str, status: str) -> Json:
    """The newest receipt of an intent, once it has this status."""

    def look() -> Json | None:
        poke(house)
        found = receipts(merchant, intent_id)
        return found[-1] if found and found[-1]["status"] == status else None

    return until(look, f"a receipt of {intent_id} that is {status}")


def test_payer_gets_a_receipt_by_itself(house: House, merchant: Merchant, post: Post) -> None:
    intent_id = pay(house, merchant, amount="1500.00", description="Order 7", **customer("first"))

    mail = post.email("first@mail.example")
    assert mail["subject"] == "Receipt for KES 1,500.00 to Acacia Books"
    assert "Hello Wanjiru Kamau," in mail["text"]
    assert merchant.transfers()[0]["receipt"] in mail["html"]
    receipt = in_state(house, merchant, intent_id, "delivered")
    assert (receipt["kind"], receipt["to"], receipt["attempts"]) == (
        "receipt",
        "f***@mail.example",
        1,
    )
    assert receipt["sms_text"].startswith("Acacia Books: KES 1,500.00 received by M-Pesa, receipt ")
    assert len(receipt["sms_text"]) <= 160
    assert len(post.emails("first@mail.example")) == 1


def test_receipt_speaks_the_customers_language(
    house: House, merchant: Merchant, post: Post
) -> None:
    pay(house, merchant, **customer("sw", language="sw"))

    assert post.email("sw@mail.example")["subject"] == "Risiti ya KES 100.00 kwa Acacia Books"


@pytest.mark.parametrize(
    ("box", "body", "amount"),
    [("whole", {}, "100.00"), ("part", {"amount": "40.00", "currency": "KES"}, "40.00")],
)
def test_payer_hears_of_money_that_went_back(
    house: House, merchant: Merchant, post: Post, box: str, body: Json, amount: str
) -> None:
    phone = new_phone("30")  # pays, and is paid
    intent_id = merchant.start(phone, **customer(box))
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    in_state(house, merchant, intent_id, "delivered")

    merchant.post("/refunds", {"payment_intent": intent_id} | body).raise_for_status()

    def told() -> Json | None:
        poke(house)
        found = [r for r in receipts(merchant, intent_id) if r["kind"] == "refund_receipt"]
        return found[0] if found and found[0]["status"] == "delivered" else None

    note = until(told, "a note about the refund")
    assert f"Acacia Books: KES {amount} returned by M-Pesa" in note["sms_text"]
    assert post.email(f"{box}@mail.example")["subject"] == f"Acacia Books has returned KES {amount}"


def test_payment_without_an_address_has_no_receipt(
    house: House, merchant: Merchant, post: Post
) -> None:
    nobody = pay(house, merchant)
    nameless = pay(house, merchant, customer={"reference": "C-1"})
    told = pay(house, merchant, **customer("after"))

    # Events are worked on in order, so the first two are over when the third is.
    in_state(house, merchant, told, "delivered")
    assert receipts(merchant, nobody) == receipts(merchant, nameless) == []
    assert merchant.alerts() == []


def test_receipt_is_kept_sealed(house: House, merchant: Merchant) -> None:
    intent_id = pay(house, merchant, **customer("sealed"))
    in_state(house, merchant, intent_id, "delivered")

    row = house.books.row("select * from messages.messages where subject_id = %s", intent_id)

    assert "sealed@mail.example" not in json.dumps(row, default=str)
    assert "Wanjiru" not in json.dumps(row, default=str)


def test_receipt_is_sent_once_although_the_answer_was_lost(
    house: House, merchant: Merchant, post: Post
) -> None:
    post.arm("lost_answer")
    intent_id = pay(house, merchant, **customer("lost"))
    until(lambda: receipts(merchant, intent_id)[:1] or None, "a receipt")
    until(lambda: receipts(merchant, intent_id)[0]["attempts"] or None, "an attempt")
    make_due(house, intent_id)

    receipt = in_state(house, merchant, intent_id, "delivered")

    assert receipt["attempts"] == 2
    assert len(post.emails("lost@mail.example")) == 1


def test_process_that_dies_while_sending_sends_once(
    house: House, merchant: Merchant, post: Post
) -> None:
    post.arm("slow")
    intent_id = pay(house, merchant, **customer("killed"))
    # The request is at Resend; the answer will find nobody.
    until(
        lambda: (
            house.books.column(
                "select 1 from messages.messages where subject_id = %s and lease_until is not null",
                intent_id,
            )
            or None
        ),
        "a lease",
    )
    house.stack.kill("gateway")
    until(lambda: post.emails("killed@mail.example") or None, "the mail")
    house.stack.wait_ready()
    make_due(house, intent_id)

    receipt = in_state(house, merchant, intent_id, "delivered")

    assert receipt["attempts"] == 2
    assert len(post.emails("killed@mail.example")) == 1


def make_due(house: House, intent_id: str) -> None:
    """What waits for a minute is due now."""
    house.books.run(
        "update messages.messages set next_attempt_at = now(),"
        " lease_until = least(lease_until, now()) where subject_id = %s and status = 'queued'",
        intent_id,
    )


# --- again


def send_again(merchant: Merchant, intent_id: str, key: str | None = None) -> httpx.Response:
    return merchant.post(f"/receipts/{intent_id}/send", key=key)


def test_merchant_sends_the_receipt_again(house: House, merchant: Merchant, post: Post) -> None:
    intent_id = pay(house, merchant, **customer("again"))
    in_state(house, merchant, intent_id, "delivered")

    answer = send_again(merchant, intent_id, "once-more")
    replay = send_again(merchant, intent_id, "once-more")

    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert replay.content == answer.content
    until(lambda: len(post.emails("again@mail.example")) == 2 or None, "the second mail")
    assert [receipt["kind"] for receipt in receipts(merchant, intent_id)] == ["receipt"] * 2
    actions = house.books.column(
        "select action from public.audit_log where tenant_id = %s", merchant.tenant_id
    )
    assert "receipt.send" in actions


def test_receipt_is_not_sent_again_without_end(house: House, merchant: Merchant) -> None:
    intent_id = pay(house, merchant, **customer("often"))
    in_state(house, merchant, intent_id, "delivered")

    answers = [send_again(merchant, intent_id).status_code for _ in range(5)]

    assert answers == [202, 202, 202, 202, 409]


def test_unpaid_payment_has_no_receipt_to_send(house: House, merchant: Merchant) -> None:
    intent_id = merchant.create(**customer("unpaid"))["id"]

    answer = send_again(merchant, intent_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "40911")
    assert answer.json()["current_state"] == "requires_payment_method"


@pytest.mark.parametrize("fields", [{}, {"customer": {"reference": "C-1"}}])
def test_receipt_to_nobody_names_the_missing_address(
    house: House, merchant: Merchant, fields: Json
) -> None:
    intent_id = pay(house, merchant, **fields)

    answer = send_again(merchant, intent_id)

    assert (answer.status_code, answer.json()["code"]) == (422, "42262")
    assert answer.json()["errors"][0]["pointer"] == "/customer/email"


def test_receipts_belong_to_their_merchant(house: House, merchant: Merchant) -> None:
    intent_id = pay(house, merchant, **customer("mine"))
    stranger, reader = house.merchant(), house.merchant(scopes=("payments:read",))
    secret = merchant.get(intent_id)["client_secret"]
    payer = house.client(merchant.publishable, **{"x-client-secret": secret})

    answers = [
        stranger.api.get(f"/receipts/{intent_id}"),
        send_again(stranger, intent_id),
        payer.get(f"/receipts/{intent_id}"),
        reader.post(f"/receipts/{intent_id}/send"),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 403, 403]


# --- bounces


def test_bounce_suppresses_the_address(house: House, merchant: Merchant, post: Post) -> None:
    intent_id = pay(house, merchant, **customer("bounced+1"))
    in_state(house, merchant, intent_id, "bounced")

    refused = send_again(merchant, intent_id)
    second = pay(house, merchant, **customer("Bounced+1"))

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/customer/email")
    assert in_state(house, merchant, second, "suppressed")["attempts"] == 0
    assert len(post.emails()) == len({mail["id"] for mail in post.emails()})
    assert merchant.get(intent_id)["status"] == "succeeded"


def test_bounce_after_delivered_stands(house: House, merchant: Merchant) -> None:
    intent_id = pay(house, merchant, **customer("bounced-late+1"))

    assert in_state(house, merchant, intent_id, "bounced")["attempts"] == 1


def test_complaint_suppresses_the_address(house: House, merchant: Merchant) -> None:
    intent_id = pay(house, merchant, **customer("complained+1"))

    in_state(house, merchant, intent_id, "complained")

    assert send_again(merchant, intent_id).status_code == 422


@pytest.mark.parametrize("fault", ["webhook_stale", "webhook_wrong_secret"])
def test_webhook_that_is_stale_or_forged_changes_nothing(
    house: House, merchant: Merchant, post: Post, fault: str
) -> None:
    intent_id = pay(house, merchant, **customer(f"quiet+{fault}"))
    in_state(house, merchant, intent_id, "delivered")
    (mail,) = post.emails(f"quiet+{fault}@mail.example")
    before = len(post.webhooks())
    post.arm(fault)

    post.control("POST", "events", {"email_id": mail["id"], "event": "bounced"})

    (refused,) = until(lambda: post.webhooks()[before:] or None, "the webhook")
    assert refused["status"] == 400
    assert receipts(merchant, intent_id)[0]["status"] == "delivered"


def test_duplicate_webhook_is_noted_once(house: House, merchant: Merchant, post: Post) -> None:
    post.arm("webhook_duplicate")

    intent_id = pay(house, merchant, **customer("twice"))

    in_state(house, merchant, intent_id, "delivered")
    (mail,) = post.emails("twice@mail.example")

    def told() -> list[Json] | None:
        found = [webhook for webhook in post.webhooks() if webhook["email_id"] == mail["id"]]
        return found if len(found) == 3 else None

    outcomes = [
        json.loads(webhook["answer"])["outcome"] for webhook in until(told, "three webhooks")
    ]
    assert sorted(outcomes).count("duplicate") == 1
    kept = house.books.value(
        "select count(*) from messages.mail_events where email_id = %s", mail["id"]
    )
    assert kept == 2


def test_event_that_overtakes_the_answer_is_not_lost(house: House, merchant: Merchant) -> None:
    """Resend tells of a mail whose id we do not know yet."""
    intent_id = pay(house, merchant, **customer("early"))
    in_state(house, merchant, intent_id, "delivered")
    row = house.books.row("select * from messages.messages where subject_id = %s", intent_id)
    body = json.dumps(
        {
            "type": "email.bounced",
            "created_at": "2026-11-21T08:00:00.000Z",
            "data": {"email_id": "not-known-yet", "to": ["early@mail.example"]},
        }
    ).encode()

    answer = hear(house, body)
    house.books.run(
        "update messages.messages set status = 'queued', email_id = null where message_id = %s",
        row["message_id"],
    )
    house.books.run(
        "select messages.record_sending(%s, 'sent', 'not-known-yet', null, null, null, false)",
        row["message_id"],
    )

    assert answer.json() == {"outcome": "bounced"}
    assert receipts(merchant, intent_id)[0]["status"] == "bounced"


def hear(house: House, body: bytes, **changes: str) -> httpx.Response:
    now = int(time.time())
    secret = house.stack.keys["resend_webhook_secret"]
    headers = {
        "svix-id": "msg_by_hand",
        "svix-timestamp": str(now),
        "svix-signature": signature(secret, "msg_by_hand", now, body),
        "content-type": "application/json",
    }
    return house.http.post("/receipts/resend", content=body, headers=headers | changes)


def test_unsigned_webhook_is_refused(house: House) -> None:
    answer = house.http.post("/receipts/resend", json={"type": "email.bounced"})

    assert (answer.status_code, answer.json()["code"]) == (400, "40001")


# --- budget and quota


@pytest.fixture
def budget(house: House) -> Iterator[Callable[[int], None]]:
    """Sets what is left of the day for receipts."""

    def leave(receipts_left: int) -> None:
        used = house.books.value("select coalesce(max(used), 0) from messages.budgets")
        set_budget(house, -(-(used + receipts_left) * 100 // 70))

    yield leave
    set_budget(house, 10_000)
    house.books.run("update messages.messages set next_attempt_at = now() where status = 'queued'")


def test_receipts_leave_a_share_of_the_days_mail_to_alerts(
    house: House, merchant: Merchant, post: Post, budget: Callable[[int], None]
) -> None:
    budget(1)
    first = pay(house, merchant, **customer("inside"))
    in_state(house, merchant, first, "delivered")

    second = pay(house, merchant, **customer("outside"))

    waiting = until(
        lambda: [m for m in receipts(merchant, second) if m["status"] == "queued"] or None, "one"
    )
    poke(house)
    assert waiting[0]["attempts"] == 0
    assert post.emails("outside@mail.example") == []
    alert = until(lambda: alert_of(house, "mail_budget_spent"), "the alert")
    assert alert["details"]["kind"] == "receipt"
    # The alert about it is mail too, and there is room for it.
    mail = until(
        lambda: next(
            (m for m in post.emails("operator@stalela.example") if "used up" in m["subject"]), None
        ),
        "the mail to the operator",
    )
    assert mail["subject"].startswith("[warning] The day's mail is used up")


def alert_of(house: House, kind: str) -> Json | None:
    found = house.books.rows(
        "select * from public.alerts where kind = %s and status = 'open'", kind
    )
    return found[0] if found else None


def test_exhausted_quota_parks_all_mail_and_says_so(
    house: House, merchant: Merchant, post: Post
) -> None:
    post.arm("daily_quota")
    intent_id = pay(house, merchant, **customer("quota"))

    parked = until(lambda: alert_of(house, "mail_parked"), "the alert")
    assert parked["details"]["code"] == "daily_quota_exceeded"
    waiting = until(lambda: receipts(merchant, intent_id) or None, "the receipt")
    assert waiting[0]["status"] == "queued"
    assert post.emails("quota@mail.example") == []

    # The next day.
    house.books.run("update messages.pauses set until = now()")
    make_due(house, intent_id)
    in_state(house, merchant, intent_id, "delivered")
    assert alert_of(house, "mail_parked") is None
    assert len(post.emails("quota@mail.example")) == 1
