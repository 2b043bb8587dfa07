"""What a test or a person may change while the simulator runs; kept over a restart."""

import json
import sqlite3
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from scripts.stack.daraja.clock import Clock


class Settings(BaseModel):
    """The body of `POST /control/settings`, where every field is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float = Field(1.0, gt=0, le=10_000, description="virtual seconds per second")
    mode: Literal["manual", "auto"] = Field(
        "manual", description="who decides for phones without a scenario"
    )
    auto_delay_s: float = Field(2.0, ge=0)
    prompt_lifetime_s: float = Field(60.0, gt=0)
    query_noise: float = Field(
        0.2, ge=0, le=1, description="finished payments whose query is answered as if unknown"
    )
    query_open: Literal["mixed", "4999", "500.001.1001", "empty"] = "mixed"
    shape_noise: bool = Field(default=True, description="vary types and order of bodies by seed")
    spike_arrest_per_s: int | None = Field(None, ge=1)
    callback_source: str | None = Field(None, pattern=r"^127\.\d+\.\d+\.\d+$")
    timestamp_skew_s: int = Field(600, ge=1)
    payout_charge: int = Field(0, ge=0, description="whole shillings of each payout, from utility")
    c2b_validation: bool = Field(default=True, description="external validation is switched on")
    validation_deadline_s: float = Field(8.0, gt=0, le=60, description="wall seconds")
    c2b_register_once: bool = Field(default=False, description="as production: no second time")


def load_settings(store: sqlite3.Connection) -> Settings:
    """Those of the last run, or the defaults."""
    row = store.execute("select value from facts where name = 'settings'").fetchone()
    return Settings.model_validate_json(row["value"]) if row else Settings()


def load_clock(store: sqlite3.Connection, settings: Settings) -> Clock:
    """The clock of the last run, if there was one, with the time that has passed since."""
    row = store.execute("select value from facts where name = 'clock'").fetchone()
    clock = Clock(*json.loads(row["value"])) if row else Clock()
    clock.speed = settings.speed
    return clock


def save_settings(store: sqlite3.Connection, settings: Settings, clock: Clock) -> None:
    """Keeps the settings, and the clock that runs at their speed."""
    facts = [("settings", settings.model_dump_json()), ("clock", json.dumps(clock.bases()))]
    store.executemany("insert or replace into facts (name, value) values (?, ?)", facts)
