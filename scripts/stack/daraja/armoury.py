"""Which faults are armed, and which of them (with the phone's scenario) a request is given."""

import sqlite3

from scripts.stack.daraja.faults import (
    ONE,
    SCENARIOS,
    Base,
    Endpoint,
    Fault,
    Moment,
    Selection,
    merge,
)


class Armoury:
    """The armed rules in the store, and how often a scenario has hit."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store

    def arm(self, fault: Fault) -> int:
        """Armed until used up, or for good when sticky; returns the id of the rule."""
        return (
            self._store.execute(
                "insert into faults (rule, left_over) values (?, ?)",
                (fault.model_dump_json(), None if fault.sticky else fault.times),
            ).lastrowid
            or 0
        )

    def armed(self) -> list[dict[str, object]]:
        rows = self._store.execute("select * from faults order by id").fetchall()
        return [
            {"id": row["id"], "left": row["left_over"]}
            | ONE.validate_json(row["rule"]).model_dump()
            for row in rows
        ]

    def disarm(self) -> None:
        self._store.execute("delete from faults")
        self._store.execute("delete from scenario_uses")

    def take(self, phone: str | None, endpoint: Endpoint, moment: Moment) -> Selection:
        """The faults of this request; one-shot ones are used up by asking.

        phone None: the request names none, so only rules for every phone fit.
        """
        armed = self._take_armed(phone, endpoint, moment)
        scenario = SCENARIOS.get(phone[-2:], ()) if phone else ()
        fitting = [fault for fault in scenario if fault.fits(endpoint, moment)]
        if phone and moment == "edge":
            fitting = [fault for fault in fitting if self._storms(phone, fault)]
        return merge(fitting, armed)

    def _take_armed(self, phone: str | None, endpoint: Endpoint, moment: Moment) -> list[Fault]:
        taken: dict[str, Fault] = {}
        for row in self._store.execute("select * from faults order by id").fetchall():
            fault = ONE.validate_json(row["rule"])
            fits = fault.phone in ("*", phone) and fault.fits(endpoint, moment)
            if fits and fault.fault not in taken:
                taken[fault.fault] = fault
                self._use(row)
        return list(taken.values())

    def _use(self, row: sqlite3.Row) -> None:
        if row["left_over"] == 1:
            self._store.execute("delete from faults where id = ?", (row["id"],))
        elif row["left_over"]:
            self._store.execute(
                "update faults set left_over = left_over - 1 where id = ?", (row["id"],)
            )

    def _storms(self, phone: str, fault: Base) -> bool:
        """A scenario at the edge hits `times` requests of a phone, lets one through, and again."""
        key = (phone, type(fault).__name__)
        query = "select uses from scenario_uses where phone = ? and fault = ?"
        uses = (self._store.execute(query, key).fetchone() or [0])[0]
        hits = int(uses) < fault.times
        self._store.execute(
            "insert or replace into scenario_uses values (?, ?, ?)", (*key, uses + 1 if hits else 0)
        )
        return hits
