"""functions/compliance/screener.py: lists in memory, what happens when they or the database go."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from functions.compliance import models
from functions.compliance.screener import CHECK_EVERY_S, Screener
from shared.db import Answer
from shared.errors import DependencyUnavailable
from shared.http.caller import Caller
from shared.vault import Vault

CALLER = Caller("req_1", "00-1-2-01")
VAULT = Vault({"1": SecretStr("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")})
Row = dict[str, Any]


def listed(ref: str, name: str, since: int = 1) -> Row:
    return {
        "source": "ofac",
        "ref": ref,
        "since": since,
        "kind": "person",
        "names": [name],
        "born": [],
        "countries": [],
        "documents": [],
    }


class Database:
    """What SQL would answer; keeps what it was told."""

    def __init__(self, *entries: Row, version: int = 1, usable: bool = True) -> None:
        self.entries = sorted(entries, key=lambda row: str(row["ref"]))
        self.version, self.usable, self.required = version, usable, True
        self.is_away = False
        self.due: list[Row] = []
        self.calls: list[tuple[str, Row]] = []

    async def call(self, function: str, args: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        if self.is_away:
            raise DependencyUnavailable("away")
        self.calls.append((function, dict(args)))
        return getattr(self, function.removeprefix("compliance."))(**args)

    async def answer(self, function: str, args: Mapping[str, Any], *_: Any, **__: Any) -> Answer:
        await self.call(function, args)
        return Answer(200, b"{}")

    def told(self, function: str) -> list[Row]:
        return [args for called, args in self.calls if called == f"compliance.{function}"]

    def index_state(self) -> Row:
        return {
            "version": self.version,
            "hold_from": 75,
            "deny_from": 90,
            "usable": self.usable,
            "required": self.required,
        }

    def read_index(self, after_source: str, after_ref: str, page_size: int) -> list[Row]:
        after = [
            row for row in self.entries if (row["source"], row["ref"]) > (after_source, after_ref)
        ]
        return after[:page_size]

    def screening_context(self, fingerprints: list[str], **_: Any) -> Row:
        return {"actor": "system", "headers": {}, "exempt": {mark: [] for mark in fingerprints}}

    def put_party(self, **party: Any) -> Row:
        return {"party_id": "pty_1", "tenant_id": "tn_1", "exempt": [], "headers": {}, **party}

    def record_screenings(self, **_: Any) -> None:
        return None

    def record_party(self, **_: Any) -> None:
        return None

    def refresh_clear(self, **_: Any) -> int:
        return 1

    def claim_parties(self, **_: Any) -> list[Row]:
        due, self.due = self.due, []
        return due


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def screener_of(database: Database, clock: Clock | None = None) -> Screener:
    return Screener(database, VAULT, clock or Clock())  # type: ignore[arg-type]


async def decisions(screener: Screener, database: Database, *names: str) -> list[str]:
    """What POST /screen finds for these names."""
    body = models.Screen(
        tenant_id="tn_01kaj3v7wvf4fr8mnp5sye2s6k",
        environment="sandbox",
        parties=[models.ScreenedParty(role="payee", name=name) for name in names],
    )
    await screener.screen(body, CALLER)
    return [result["decision"] for result in database.told("record_screenings")[-1]["results"]]


async def due_party(database: Database, name: str, **fields: Any) -> None:
    """A stored party that waits, sealed as registration seals it."""
    storing = Database(usable=True)
    await screener_of(storing).register(models.RegisterParty(name=name, phone="0712345678"), CALLER)
    (stored,) = storing.told("put_party")
    database.due.append(
        {
            "party_id": f"pty_{name}",
            "tenant_id": "tn_1",
            "is_customer": False,
            "profile_sealed": stored["profile_sealed"],
            "clear_up_to": None,
            "exempt": [],
        }
        | fields
    )


async def test_parties_are_compared_with_the_lists_in_memory() -> None:
    database = Database(listed("1", "Anton Orlovski"))
    screener = screener_of(database)

    assert await decisions(screener, database, "Orlovski Anton", "Wanjiru Kamau") == [
        "deny",
        "clear",
    ]
    await decisions(screener, database, "Wanjiru Kamau")
    assert len(database.told("read_index")) == 1


async def test_a_long_list_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.compliance.screener.PAGE", 2)
    database = Database(*[listed(str(n), f"Person Number{n}") for n in range(5)])
    screener = screener_of(database)

    assert await decisions(screener, database, "Person Number4") == ["deny"]
    assert len(database.told("read_index")) == 3


async def test_a_new_version_is_read_within_a_minute() -> None:
    database, clock = Database(listed("1", "Somebody Else")), Clock()
    screener = screener_of(database, clock)
    before = await decisions(screener, database, "Anton Orlovski")
    database.entries, database.version = [listed("2", "Anton Orlovski", since=2)], 2

    at_once = await decisions(screener, database, "Anton Orlovski")
    clock.now += CHECK_EVERY_S
    later = await decisions(screener, database, "Anton Orlovski")

    assert (before, at_once, later) == (["clear"], ["clear"], ["deny"])


async def test_an_import_between_two_pages_is_read_again() -> None:
    database = Database(listed("1", "Somebody Else"))
    pages = database.read_index

    def import_meanwhile(**page: Any) -> list[Row]:
        found = pages(**page)
        database.entries, database.version = [listed("2", "Anton Orlovski", since=2)], 2
        return found

    database.read_index = import_meanwhile  # type: ignore[method-assign]

    assert await decisions(screener_of(database), database, "Anton Orlovski") == ["deny"]


async def test_lists_in_memory_outlive_a_database_that_is_away() -> None:
    database, clock = Database(listed("1", "Anton Orlovski")), Clock()
    screener = screener_of(database, clock)
    await decisions(screener, database, "Anton Orlovski")
    clock.now += CHECK_EVERY_S
    database.is_away = True

    await screener.require_ready(CALLER)


async def test_without_usable_lists_nobody_is_decided_about() -> None:
    database = Database(usable=False)

    with pytest.raises(DependencyUnavailable) as caught:
        await decisions(screener_of(database), database, "Wanjiru Kamau")

    assert caught.value.retry_after == 300
    assert database.told("record_screenings") == []


async def test_a_party_is_kept_although_the_lists_are_missing() -> None:
    database = Database(usable=False)
    body = models.RegisterParty(name="Wanjiru Kamau", phone="0712345678")

    with pytest.raises(DependencyUnavailable):
        await screener_of(database).register(body, CALLER)

    (stored,) = database.told("put_party")
    assert "Kamau" not in json.dumps(stored)
    assert (stored["name_masked"], stored["phone_masked"]) == ("W*** K***", "+2547******78")


async def test_it_is_not_ready_while_somebody_needs_lists_and_there_are_none() -> None:
    database = Database()
    screener = screener_of(database)

    with pytest.raises(DependencyUnavailable):
        await screener.require_ready(CALLER)
    database.required = False
    screener.expect_change()
    await screener.require_ready(CALLER)


async def test_who_was_clear_is_compared_with_younger_entries_only() -> None:
    database = Database(
        listed("1", "Old Entry", since=1), listed("2", "Young Entry", since=2), version=2
    )
    await due_party(database, "Old Entry", clear_up_to=1)
    await due_party(database, "Young Entry", clear_up_to=1)

    assert await screener_of(database).screen_due() == 2

    # The first was cleared of that very entry: an exemption, or another birth.
    assert [args["party_ids"] for args in database.told("refresh_clear")] == [["pty_Old Entry"]]
    (found,) = [args["result"] for args in database.told("record_party")]
    assert (found["party_id"], found["decision"]) == ("pty_Young Entry", "deny")


async def test_a_seal_that_does_not_open_clears_nobody_and_stops_nobody_else() -> None:
    database = Database(listed("1", "Anton Orlovski"))
    await due_party(database, "Broken", profile_sealed="name.AAAA")
    await due_party(database, "Wanjiru Kamau")

    assert await screener_of(database).screen_due() == 1

    (found,) = [args["result"] for args in database.told("record_party")]
    assert (found["party_id"], found["decision"]) == ("pty_Wanjiru Kamau", "clear")


async def test_nobody_is_claimed_while_the_lists_are_unusable() -> None:
    database = Database(usable=False)
    await due_party(database, "Wanjiru Kamau")

    assert await screener_of(database).screen_due() == 0
    assert len(database.due) == 1
