"""Alerts reach people once per kind and quarter of an hour; people list and close them."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from scripts.stack.resend.testing import Post
from tests.support.house import FUNCTIONS, House, Merchant, new_key, own_house
from tests.support.simulator import Json, new_phone, until

OPERATOR = "operator@stalela.example"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with own_house("alerts", functions=(*FUNCTIONS, "alerts")) as running:
        yield running


@pytest.fixture(scope="module")
def post(house: House) -> Iterator[Post]:
    with httpx.Client(base_url=house.stack.mailbox_url, timeout=15, trust_env=False) as http:
        made = Post(house.stack.mailbox_url, http)
        made.settings(requests_per_s=1000, daily_quota=10_000, delivery_delay_s=0)
        house.books.run(
            "update public.settings set value = '10000' where key = 'messages.daily_budget'"
        )
        yield made


@pytest.fixture
def merchant(house: House, post: Post) -> Merchant:
    return house.merchant()


def raise_alert(
    house: House,
    kind: str,
    subject: str,
    merchant: Merchant | None = None,
    severity: str = "warning",
    **details: Any,
) -> int:
    house.books.run(
        "select public.raise_alert(%s, %s, %s, %s, %s, to_jsonb(%s::json))",
        kind,
        severity,
        subject,
        merchant.tenant_id if merchant else None,
        merchant.environment if merchant else None,
        json.dumps(details),
    )
    query = (
        "select alert_id from public.alerts where kind = %s and subject = %s and status = 'open'"
    )
    return int(house.books.value(query, kind, subject))


def mails(post: Post, to: str, text: str) -> list[Json]:
    """Mail to somebody that has this text."""
    return [mail for mail in post.emails(to) if text in mail["text"]]


def mail(post: Post, to: str, text: str) -> Json:
    return until(lambda: next(iter(mails(post, to, text)), None), f"mail about {text} to {to}")


def owner(house: House, merchant: Merchant) -> str:
    """The address of a new owner."""
    user_id, address = str(uuid4()), f"owner-{uuid4().hex[:8]}@mail.example"
    house.books.run("insert into public.users (user_id, email) values (%s, %s)", user_id, address)
    house.books.run(
        "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, 'owner')",
        merchant.tenant_id,
        user_id,
    )
    return address


def person(house: House, merchant: Merchant, app_role: str) -> httpx.Client:
    return house.client(merchant.token(app_role))


def resolve(client: httpx.Client, path: str, reason: str = "seen", key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key or new_key()}
    return client.post(f"/alerts/{path}/resolve", json={"reason": reason}, headers=headers)


def test_operator_is_told_by_itself_at_once(house: House, post: Post) -> None:
    raise_alert(house, "delivery_dead", "ledger/evt_1", severity="critical", last_error="no rule")

    told = mail(post, OPERATOR, "ledger/evt_1")

    assert told["subject"].startswith("[critical] An event could not be delivered")
    assert "last_error: no rule" in told["text"]
    assert "re-drive the delivery or skip it" in told["text"]
    assert "ledger/evt_1" in told["html"]


def test_alerts_of_a_kind_share_a_mail_for_a_quarter_of_an_hour(house: House, post: Post) -> None:
    raise_alert(house, "delivery_stalled", "ledger/first")
    mail(post, OPERATOR, "ledger/first")
    for number in range(25):
        raise_alert(house, "delivery_stalled", f"ledger/later-{number:02}")
    raise_alert(house, "delivery_stalled", "ledger/first")
    poke(house)
    assert mails(post, OPERATOR, "ledger/later-00") == []

    quarter_passes(house)
    told = mail(post, OPERATOR, "ledger/later-00")

    assert "25 times" in told["subject"]
    assert "And 5 more." in told["text"]
    assert "ledger/first" not in told["text"]
    assert len(mails(post, OPERATOR, "ledger/later-00")) == 1


def test_alert_that_goes_on_is_told_again_a_day_later(house: House, post: Post) -> None:
    raise_alert(house, "reconcile_behind", "reconcile")
    mail(post, OPERATOR, "reconcile")
    raise_alert(house, "reconcile_behind", "reconcile")
    house.books.run(
        "update messages.alert_notices set told_at = told_at - interval '25 hours'"
        " where alert_id = (select alert_id from public.alerts where kind = 'reconcile_behind')"
    )

    quarter_passes(house)
    poke(house)

    until(lambda: len(mails(post, OPERATOR, "reconcile")) == 2 or None, "the reminder")
    assert any("2 times" in one["text"] for one in mails(post, OPERATOR, "reconcile"))


def quarter_passes(house: House) -> None:
    house.books.run("update messages.alert_digests set told_at = told_at - interval '15 minutes'")


def poke(house: House) -> None:
    token = house.stack.keys["internal_token"]
    house.http.post("/alerts", headers={"Authorization": f"Bearer {token}"}).raise_for_status()


def test_owners_hear_of_their_own_and_the_operator_of_everything(
    house: House, merchant: Merchant, post: Post
) -> None:
    other = house.merchant()
    mine, theirs = owner(house, merchant), owner(house, other)

    raise_alert(house, "transfer_needs_review", "tr_mine", merchant)

    told = mail(post, mine, "tr_mine")
    assert "Acacia Books, sandbox" in told["text"]
    mail(post, OPERATOR, "tr_mine")
    assert post.emails(theirs) == []


def test_owners_do_not_hear_of_the_platforms_own(
    house: House, merchant: Merchant, post: Post
) -> None:
    address = owner(house, merchant)

    raise_alert(house, "delivery_stalled", "webhooks/evt_2", merchant)
    quarter_passes(house)
    poke(house)

    mail(post, OPERATOR, "webhooks/evt_2")
    assert post.emails(address) == []


def test_kind_that_nobody_described_is_told_by_its_name(house: House, post: Post) -> None:
    raise_alert(house, "something_new", "a subject <b>")

    told = mail(post, OPERATOR, "a subject <b>")

    assert told["subject"] == "[warning] something_new: a subject <b>"
    assert "a subject &lt;b&gt;" in told["html"]


def test_two_processes_tell_once(house: House, post: Post) -> None:
    raise_alert(house, "ledger_chain_broken", "tn_1:sandbox")
    digest = (
        '[{"kind": "ledger_chain_broken", "destination": "platform", "alert_ids": [], "mails": []}]'
    )
    mail(post, OPERATOR, "tn_1:sandbox")

    kept = house.books.value("select messages.keep_alerts(%s::jsonb)", digest)

    assert kept == 0
    assert len(mails(post, OPERATOR, "tn_1:sandbox")) == 1


# --- list and close


def test_tenant_lists_its_own_alerts(house: House, merchant: Merchant) -> None:
    mine = raise_alert(house, "intent_overpaid", "pi_mine", merchant, received_minor=5)
    raise_alert(house, "intent_overpaid", "pi_other", house.merchant())

    answer = person(house, merchant, "auditor").get("/alerts").raise_for_status().json()

    (alert,) = answer["data"]
    assert (alert["id"], alert["subject"], alert["status"]) == (mine, "pi_mine", "open")
    assert alert["title"] == "More money came in than was asked for"
    assert alert["details"] == {"received_minor": 5}
    assert answer["pagination"] == {"limit": 20, "has_more": False, "next_cursor": None}


def test_operator_lists_everybodys_page_by_page(house: House, merchant: Merchant) -> None:
    ids = [raise_alert(house, "paged_kind", f"subject {n}") for n in range(3)]
    operator = person(house, merchant, "operator")

    first = operator.get("/alerts", params={"kind": "paged_kind", "limit": 2}).json()
    cursor = first["pagination"]["next_cursor"]
    second = operator.get(
        "/alerts", params={"kind": "paged_kind", "limit": 2, "cursor": cursor}
    ).json()

    assert [a["id"] for a in first["data"] + second["data"]] == ids[::-1]
    assert (first["pagination"]["has_more"], second["pagination"]["has_more"]) == (True, False)


def test_person_closes_an_alert_and_the_next_trouble_opens_another(
    house: House, merchant: Merchant
) -> None:
    alert_id = raise_alert(house, "deposit_unallocated", "tr_d", merchant)
    finance = person(house, merchant, "finance")

    answer = resolve(finance, str(alert_id), "Assigned by hand", "close-1")
    replay = resolve(finance, str(alert_id), "Assigned by hand", "close-1")
    again = resolve(finance, str(alert_id), "Assigned by hand")

    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.json()["resolution"]) == (
        "resolved",
        "Assigned by hand",
    )
    assert replay.content == answer.content
    assert (again.status_code, again.json()["code"]) == (409, "40911")
    assert merchant.alerts() == []
    audited = house.books.row(
        "select * from public.audit_log where tenant_id = %s and action = 'alert.resolve'",
        merchant.tenant_id,
    )
    assert (audited["subject"], audited["details"]["reason"]) == (str(alert_id), "Assigned by hand")
    assert raise_alert(house, "deposit_unallocated", "tr_d", merchant) > alert_id


def test_alert_is_closed_only_by_those_who_may(house: House, merchant: Merchant) -> None:
    alert_id = raise_alert(house, "deposit_unallocated", "tr_e", merchant)
    platform = raise_alert(house, "unknown_rail_code", "mpesa:9999")
    stranger = person(house, house.merchant(), "owner")

    answers = [
        resolve(person(house, merchant, "auditor"), str(alert_id)),
        resolve(merchant.api, str(alert_id)),
        resolve(stranger, str(alert_id)),
        resolve(person(house, merchant, "owner"), str(platform)),
        resolve(person(house, merchant, "operator"), str(platform)),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 404, 404, 200]


def test_reason_is_asked_for(house: House, merchant: Merchant) -> None:
    alert_id = raise_alert(house, "deposit_unallocated", "tr_f", merchant)

    answer = resolve(person(house, merchant, "owner"), str(alert_id), " ")

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/reason")


# --- unmatched parked callbacks


def park(house: House) -> int:
    """A callback that belongs to nobody; its id."""
    before = house.books.value("select coalesce(max(callback_id), 0) from rails.callbacks")
    house.http.post(f"/momo-callback/{uuid4().hex}", json={"Body": uuid4().hex}).raise_for_status()
    return int(
        house.books.value("select callback_id from rails.callbacks where callback_id > %s", before)
    )


def waiting(operator: httpx.Client) -> list[int]:
    answer = operator.get("/reconcile/parked", params={"limit": 100}).raise_for_status()
    return [callback["id"] for callback in answer.json()["data"]]


def unmatched(house: House) -> list[int]:
    return house.books.column(
        "select alert_id from public.alerts where kind = 'callback_parked' and status = 'open'"
        " and subject = 'mpesa unmatched'"
    )


def test_alert_of_unmatched_callbacks_closes_them_all(house: House, merchant: Merchant) -> None:
    operator = person(house, merchant, "operator")
    parked = [park(house), park(house)]
    assert set(parked) <= set(waiting(operator))
    (alert_id,) = unmatched(house)

    answer = resolve(operator, str(alert_id), "A scanner, nothing of the rail's")

    assert answer.json()["callbacks_closed"] >= 2
    assert set(parked) & set(waiting(operator)) == set()
    assert unmatched(house) == []
    concluded = house.books.rows(
        "select disposition, reason from rails.callback_dispositions where callback_id = %s"
        " order by number",
        parked[0],
    )
    assert [row["disposition"] for row in concluded] == ["parked", "resolved"]
    assert concluded[1]["reason"] == "A scanner, nothing of the rail's"


def test_single_callback_is_closed_and_the_last_one_closes_the_alert(
    house: House, merchant: Merchant
) -> None:
    operator = person(house, merchant, "operator")
    for alert_id in unmatched(house):
        resolve(operator, str(alert_id)).raise_for_status()
    first, second = park(house), park(house)

    one = resolve(operator, f"callbacks/{first}", "Not ours")
    open_after_one = unmatched(house)
    twice = resolve(operator, f"callbacks/{first}", "Not ours")
    other = resolve(operator, f"callbacks/{second}", "Not ours either")

    assert (one.status_code, one.json()["disposition"]) == (200, "resolved")
    assert len(open_after_one) == 1
    assert (twice.status_code, other.status_code) == (409, 200)
    assert unmatched(house) == []


def test_callback_of_nobody_is_closed_by_operators_alone(house: House, merchant: Merchant) -> None:
    parked = park(house)

    answer = resolve(person(house, merchant, "owner"), f"callbacks/{parked}")

    assert answer.status_code == 404


# --- watching


def watch(house: House) -> None:
    house.books.run("select messages.watch()")


def open_alert(house: House, kind: str, subject: str) -> Json | None:
    found = house.books.rows(
        "select * from public.alerts where kind = %s and subject = %s and status = 'open'",
        kind,
        subject,
    )
    return found[0] if found else None


def test_stuck_transfers_raise_an_alert_that_ends_by_itself(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone()
    intent_id = merchant.start(phone)
    house.books.run(
        "update payments.transfers set created_at = now() - interval '16 minutes'"
        " where payment_intent_id = %s",
        intent_id,
    )

    watch(house)
    stuck = open_alert(house, "transfers_stuck", "mpesa")
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    watch(house)

    assert stuck is not None
    assert stuck["details"]["transfers"] == 1
    assert open_alert(house, "transfers_stuck", "mpesa") is None
