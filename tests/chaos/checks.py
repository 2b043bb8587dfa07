"""What must be true afterwards, whoever was killed. Each violation is one sentence with an id."""

from collections.abc import Iterator

from tests.chaos.shops import Shops
from tests.support.house import House
from tests.support.simulator import Json
from tests.support.two_books import differences


def violations(shops: Shops) -> list[str]:
    """All of them. Answers are read before the database, what was intended after it."""
    house, journal = shops.house, shops.journal
    answered = {key: set(intents) for key, intents in journal.answered.items()}
    intents = house.books.rows(
        "select payment_intent_id, tenant_id, metadata ->> 'order' as key"
        " from payments.payment_intents where metadata ? 'order'"
    )
    return [
        *_acknowledged(answered, intents),
        *_invented(set(journal.intended), intents),
        *_two_books(house),
        *_numbered(house),
        *_ledger(house, shops.merchant.tenant_id),
        *_webhooks(shops),
    ]


def _acknowledged(answered: dict[str, set[str]], intents: list[Json]) -> Iterator[str]:
    stored = {row["payment_intent_id"] for row in intents}
    for key, told in answered.items():
        for intent_id in told - stored:
            yield f"{intent_id} was promised and is lost"
        if len(told) > 1:
            yield f"{len(told)} intents for one key: {key}"


def _invented(intended: set[str], intents: list[Json]) -> Iterator[str]:
    by_key: dict[str, int] = {}
    for row in intents:
        by_key[row["key"]] = by_key.get(row["key"], 0) + 1
        if row["key"] not in intended:
            yield f"{row['payment_intent_id']} was never asked for"
    for key, count in by_key.items():
        if count > 1:
            yield f"{count} intents for one key: {key}"


def _two_books(house: House) -> Iterator[str]:
    """What is not booked may only be an attempt that says itself that nobody knows."""
    for tenant_id in house.books.column("select tenant_id from payments.transfers group by 1"):
        found = differences(house.books, house.daraja, tenant_id)
        unbooked = [line for line in found if "not booked" in line]
        in_doubt = house.books.value(
            "select count(*)::int from payments.transfers"
            " where tenant_id = %s and review_reason is not null",
            tenant_id,
        )
        yield from (line for line in found if line not in unbooked)
        if len(unbooked) > in_doubt:
            yield f"{len(unbooked)} payments are not booked and {in_doubt} in review: {unbooked}"


def _numbered(house: House) -> Iterator[str]:
    """Every transfer has its events in order without a hole."""
    for row in house.books.rows(
        "select transfer_id, count(*) as events, max(seq) - min(seq) + 1 as span"
        " from payments.transfer_events group by transfer_id"
        " having count(*) <> max(seq) - min(seq) + 1"
    ):
        yield f"{row['transfer_id']} has {row['events']} events over {row['span']} numbers"


def _ledger(house: House, tenant_id: str) -> Iterator[str]:
    """Every settlement is booked once, the books balance and their chain is whole."""
    for row in house.books.rows(
        "select e.event_id, count(j.journal_id) as journals from payments.transfer_events as e"
        " left join ledger.journals as j using (event_id)"
        " where e.tenant_id = %s and e.type = 'transfer.settled'"
        " group by e.event_id having count(j.journal_id) <> 1",
        tenant_id,
    ):
        yield f"{row['event_id']} has {row['journals']} journals"
    for row in house.books.rows("select * from ledger.trial_balance(%s, 'sandbox')", tenant_id):
        if row["debit_minor"] != row["credit_minor"]:
            yield f"{row['currency']} is out of balance: {row['debit_minor']}/{row['credit_minor']}"
    settled, booked = house.books.rows(
        "select coalesce(sum(amount_minor), 0)::bigint as minor from payments.transfers"
        " where tenant_id = %(tenant)s and state = 'SETTLED'"
        " union all"
        " select coalesce(sum(b.balance_minor), 0)::bigint from ledger.balances as b"
        " join ledger.accounts as a using (account_id)"
        " where a.tenant_id = %(tenant)s and a.code like 'SETTLEMENT:%%'".replace(
            "%(tenant)s", f"'{tenant_id}'"
        )
    )
    if settled["minor"] != abs(booked["minor"]):
        yield f"{settled['minor']} settled and {booked['minor']} booked as owed by the rail"
    verdict = house.books.value(
        "select ledger.verify_chain(%s, 'sandbox', 1, 9223372036854775807)", tenant_id
    )
    if verdict["bad"] is not None:
        yield f"the chain is broken at journal {verdict['bad']}"


def _webhooks(shops: Shops) -> Iterator[str]:
    """Every event that can be polled was heard at least once, by one id and in the same bytes."""
    heard: dict[str, set[bytes]] = {}
    for one in shops.receiver.received:
        if not one.is_signed_by(shops.secret):
            yield f"{one.event_id} was not signed by the endpoint's secret"
        heard.setdefault(one.event_id, set()).add(one.body)
    polled = _polled(shops)
    for event_id in polled - set(heard):
        yield f"{event_id} was never heard"
    for event_id in set(heard) - polled:
        yield f"{event_id} was heard and never happened"
    for event_id, bodies in heard.items():
        if len(bodies) > 1:
            yield f"{event_id} was told in {len(bodies)} ways"


def _polled(shops: Shops) -> set[str]:
    found: list[str] = []
    while True:
        query = {"limit": 100} | ({"after": found[-1]} if found else {})
        page = shops.merchant.api.get("/events", params=query).raise_for_status().json()
        found += [event["id"] for event in page["data"]]
        if not page["data"]:
            return set(found)
