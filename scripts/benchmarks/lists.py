"""Whether reading stays flat: the same questions at ten thousand and at a million intents."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Final

from scripts.benchmarks.corpus import fill
from scripts.benchmarks.rounds import Rounds, Say
from scripts.benchmarks.shop import open_shops
from scripts.benchmarks.table import Figure, Target, figure
from scripts.stack.database import Database, Databases
from scripts.stack.keys import Keys
from scripts.stack.stack import Stack

ASKED: Final = 150  # times: each about another intent, so larger tenants ask more often

_FLAT: Final = Target("≤", 1.5)
_KES: Final = {"currency": "KES"}

_SAMPLE: Final = """
select
    i.payment_intent_id, k.key_hash, i.metadata ->> 'order',
    (extract(epoch from i.created_at) * 1000000)::bigint || '.' || i.payment_intent_id
from payments.payment_intents as i
join public.api_keys as k on k.tenant_id = i.tenant_id
where i.metadata <> '{}'
order by random()
limit %s
"""
_GET: Final = "select status from payments.get_intent(payment_intent_id => %s)"
# Ten on a page: as many as even a tenant of the small database has of what is rare.
_LIST: Final = """
select status from payments.list_intents(filters => %s, page_size => 10, page_after => %s)
"""
_BUFFERS: Final = "explain (analyze, buffers, format json) "


@dataclass(frozen=True, slots=True)
class Sample:
    """An intent to ask about."""

    intent: str
    key_hash: str
    order: str
    cursor: str


@dataclass(frozen=True, slots=True)
class Question:
    """A call as a merchant makes it."""

    name: str
    statement: str
    values: Callable[[Sample], tuple[str | None, ...]]
    target: Target | None = _FLAT


def _page(
    name: str,
    filters: Callable[[Sample], dict[str, Any]],
    *,
    is_deep: bool = False,
    target: Target | None = _FLAT,
) -> Question:
    def values(one: Sample) -> tuple[str | None, ...]:
        return json.dumps(filters(one)), one.cursor if is_deep else None

    return Question(name, _LIST, values, target)


QUESTIONS: Final = (
    Question("get", _GET, lambda one: (one.intent,)),
    _page("list", lambda _: {}),
    _page("list, deep cursor", lambda _: {}, is_deep=True),
    _page("list by status, common", lambda _: {"status": "succeeded"}),
    _page("list by status, rare", lambda _: {"status": "canceled"}),
    _page("list by metadata key, one", lambda one: {"metadata": {"order": one.order}}),
    _page("list by metadata key, many", lambda _: {"metadata": {"channel": "web"}}),
    _page("list by amount range", lambda _: _KES | {"amount_gte_minor": 10_000}),
    # Grows with the square root: the cheaper of "newest first, until ten fit" and "all that fit,
    # then the newest ten". Reported, so that nobody is surprised.
    _page(
        "list by amount range, narrow",
        lambda _: _KES | {"amount_gte_minor": 10_000, "amount_lte_minor": 12_000},
        target=None,
    ),
)


class Shelf:
    """One database with intents, asked as the function asks."""

    def __init__(self, database: Database, keys: Keys, count: int) -> None:
        with database.connect() as admin:
            shops = open_shops(admin, keys)
            fill(admin, [shop.tenant_id for shop in shops], count)
            self.samples = [Sample(*row) for row in admin.execute(_SAMPLE, (ASKED,)).fetchall()]
        self.session = database.connect("authenticator")
        self.session.execute("set role fn_payment_intents")

    def ms(self, question: Question) -> float:
        """The median time of an answer."""
        return median(self._ms(question, one) for one in self.samples)

    def buffers(self, question: Question) -> float:
        """The median of the pages looked at for an answer, wherever they were."""
        return median(self._buffers(question, one) for one in self.samples)

    def close(self) -> None:
        """Hang up."""
        self.session.close()

    def _ms(self, question: Question, one: Sample) -> float:
        self._become(one)
        began = perf_counter()
        self.session.execute(question.statement.encode(), question.values(one)).fetchone()
        return (perf_counter() - began) * 1000

    def _buffers(self, question: Question, one: Sample) -> float:
        self._become(one)
        explain = (_BUFFERS + question.statement).encode()
        row = self.session.execute(explain, question.values(one)).fetchone()
        assert row is not None, "explain answers"
        plan = row[0][0]["Plan"]
        return float(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    def _become(self, one: Sample) -> None:
        headers = json.dumps({"x-stalela-key-hash": one.key_hash})
        self.session.execute("select set_config('request.headers', %s, false)", (headers,))


@contextmanager
def shelf(databases: Databases, keys: Keys, count: int) -> Iterator[Shelf]:
    """A fresh database with `count` intents, dropped at the end."""
    with databases.fresh_database() as database:
        made = Shelf(database, keys, count)
        try:
            yield made
        finally:
            made.close()


def measure_lists(stack: Stack, rounds: Rounds, sizes: tuple[int, int], say: Say) -> list[Figure]:
    """limit: the small database. The ratio of the two is what must stay near one."""
    few, many = sizes
    databases = Databases(stack.cluster, stack.root)
    say(f"lists: loading {few:,} and {many:,} intents")
    with shelf(databases, stack.keys, few) as small, shelf(databases, stack.keys, many) as large:
        for question in QUESTIONS:
            small.ms(question), large.ms(question)
        return [_flatness(question, small, large, rounds, sizes) for question in QUESTIONS]


def _flatness(
    question: Question, small: Shelf, large: Shelf, rounds: Rounds, sizes: tuple[int, int]
) -> Figure:
    runs = rounds.series(question.name, lambda: (small.ms(question), large.ms(question)))
    return figure(
        f"{question.name}: {sizes[1]:,} intents, limit: {sizes[0]:,}",
        runs,
        lambda run: run[1],
        "ms",
        question.target,
        limit=lambda run: run[0],
    )
