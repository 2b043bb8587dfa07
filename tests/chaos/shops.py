"""Merchants' servers under fire: each writes down what it is about to do, and what it was told."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import httpx

from tests.support.house import House, Merchant, new_key
from tests.support.receiver import Receiver
from tests.support.simulator import Json, new_phone

logger = logging.getLogger(__name__)

CLIENTS = 8
PATIENCE_S = 60.0
PROGRESS = 512  # payments; a multiple of a batch
# The simulator's scenarios by the payer's last two digits. Most payers behave, or the breaker of
# the rail would stay open. Not 17, another amount: a query tells none, so when the callback found
# nobody, only the rail's statement can tell (tests/e2e/test_recon.py).
SCENARIOS = (*["00"] * 30, "01", "02", "10", "11", "12", "14", "15", "16", "18", "20")


UNFINISHED = """
select transfer_id from payments.transfers
where tenant_id = %s and state in ('INITIATED', 'SUBMITTED', 'ACCEPTED') and review_reason is null
union all
select e.event_id from payments.transfer_events as e
where e.tenant_id = %s and e.type = 'transfer.settled'
    and not exists (select from ledger.journals as j where j.event_id = e.event_id)
union all
select e.event_id
from (
    select event_id, type, tenant_id from payments.intent_events
    union all
    select event_id, type, tenant_id from payments.transfer_events
) as e
join webhooks.event_types as t on t.type = e.type
where e.tenant_id = %s
    and not exists (
        select from webhooks.deliveries as d where d.event_id = e.event_id and d.status <> 'pending'
    )
"""


@dataclass
class Journal:
    """Before sending: the key. After the answer: what it said. Nothing is ever taken back."""

    intended: list[str] = field(default_factory=list)
    answered: dict[str, set[str]] = field(default_factory=dict)  # key to intents
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def intend(self, key: str) -> None:
        with self._lock:
            self.intended.append(key)

    def answer(self, key: str, intent_id: str) -> None:
        with self._lock:
            self.answered.setdefault(key, set()).add(intent_id)


class Shops:
    """One merchant with many clients that insist: the same key until there is an answer.

    receiver: the merchant's server, which hears webhooks and is never killed.
    """

    def __init__(self, house: House, journal: Journal, seed: int, receiver: Receiver) -> None:
        self.house, self.journal, self.receiver = house, journal, receiver
        self.merchant: Merchant = house.merchant()
        endpoint = {"url": receiver.url, "event_types": ["*"]}
        made = self.merchant.post("/webhook-endpoints", endpoint).raise_for_status().json()
        self.secret = str(made["secret"])
        self._chance = Random(seed)
        self._scenarios: Counter[str] = Counter()
        self._codes: Counter[int] = Counter()
        self.faults: list[str] = []  # a 500 is a defect, whoever was killed

    def sell(
        self, payments: int, keep_open: Callable[[], bool] = lambda: False, *, twice: bool = False
    ) -> None:
        """At least so many payments, and more while `keep_open`. twice: each request again."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            sold = 0
            while sold < payments or keep_open():
                batch = [self._order() for _ in range(CLIENTS * 2)]
                list(pool.map(lambda phone: self._sell(phone, twice=twice), batch))
                sold += len(batch)
                if sold % PROGRESS == 0:  # the long form takes half an hour: --log-cli-level=info
                    logger.info("%d payments, answers %s", sold, dict(sorted(self._codes.items())))

    def unfinished(self) -> list[str]:
        """What is under way: transfers neither over nor before a person, events not passed on."""
        return self.house.books.column(UNFINISHED, *[self.merchant.tenant_id] * 3)

    def tally(self) -> str:
        """What was tried and what it came to."""
        states = self.house.books.rows(
            "select case when review_reason is null then state else 'needs review' end as state,"
            " count(*) from payments.transfers where tenant_id = %s group by 1 order by 1",
            self.merchant.tenant_id,
        )
        ends = ", ".join(f"{row['state']} {row['count']}" for row in states)
        return (
            f"{len(self.journal.intended)} payments, {len(self.journal.answered)} answered;"
            f" {ends}; answers {dict(sorted(self._codes.items()))}"
        )

    def _order(self) -> str:
        scenario = self._chance.choice(SCENARIOS)
        self._scenarios[scenario] += 1
        return new_phone(scenario)

    def _sell(self, phone: str, *, twice: bool) -> None:
        key = new_key()
        self.journal.intend(key)
        body = {"amount": "100.00", "currency": "KES", "metadata": {"order": key}}
        for _ in range(2 if twice else 1):
            created = self._insist(lambda: self.merchant.post("/payment-intents", body, key))
            if created is None:
                return
            self.journal.answer(key, created["id"])
        self._insist(lambda: self.merchant.confirm(created["id"], phone, key))

    def _insist(self, send: Callable[[], httpx.Response]) -> Json | None:
        """The answer; None when none came in time, or the house is still at it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = send()
            except httpx.TransportError:
                answer = None
            if answer is not None:
                self._codes[answer.status_code] += 1
                if answer.status_code == 500:
                    self.faults.append(answer.text)
                if answer.is_success:
                    return dict(answer.json())
                if answer.status_code == 409:
                    return None
            time.sleep(wait_of(answer))
        return None


def wait_of(answer: httpx.Response | None) -> float:
    """What the answer asks for, within reason."""
    return 0.1 if answer is None else min(float(answer.headers.get("Retry-After", 0.1)), 2.0)
