"""What every rail promises, asked of each rail in the registry through recorded bodies.

A new rail joins by its line in the registry and its folder under tests/fixtures/rails.
"""

import csv
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.config import Settings
from shared.money import Money
from shared.rails import registry
from shared.rails.base import (
    RAIL_UNAVAILABLE,
    UNKNOWN_RAIL_ERROR,
    CallbackKind,
    CallbackNotUnderstood,
    CallbackRequest,
    HoldsConnections,
    Instruction,
    Outcome,
    Rail,
    RailEvent,
    RailUnavailable,
)
from tests.support import peer as wire
from tests.support.peer import Behaviour, Heard, Line, Peer, saying

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures/rails"
RAILS = tuple(registry.MODULES)
KINDS: dict[str, CallbackKind] = {
    "callbacks": "collect",
    "result": "result",
    "timeout": "timeout",
    "status": "status",
}
SILENCES = {
    "connection reset": wire.reset,
    "closed without an answer": wire.hang_up,
    "half an answer": wire.half_an_answer,
    "half a head": wire.half_a_head,
    "no HTTP": wire.nonsense,
    "bad gateway": saying(502, b""),
    "html error": saying(500, b"<html>oops</html>"),
    "html with 200": saying(200, b"<html>maintenance</html>"),
    "empty with 200": saying(200, b""),
    "truncated json": saying(200, b'{"ResponseCode":"0"'),
    "json of another kind": saying(200, b"[1,2,3]"),
    "empty object": saying(200, b"{}"),
    "huge": saying(200, b" " * 1_000_000),
    "redirect": saying(302, b"", headers="location: http://127.0.0.1:9/\r\n"),
}


@dataclass(frozen=True)
class Setup:
    """One rail with its recorded world, which is `peer`."""

    name: str
    rail: Rail
    recorded: dict[str, Any]
    peer: Peer

    def instruction(self) -> Instruction:
        fields = dict(self.recorded["instruction"])
        amount = Money(fields.pop("amount_minor"), fields.pop("currency"))
        return Instruction(
            transfer_id="tr_contract",
            tenant_id="tn_contract",
            environment="sandbox",
            amount=amount,
            credentials=json.dumps(self.recorded["credentials"]).encode(),
            **fields,
        )

    async def ask(self, verb: str) -> RailEvent:
        return await getattr(self.rail, verb)(self.instruction())

    def answer(self, step: dict[str, Any], behaviour: Behaviour | None = None) -> None:
        """Answer a step as recorded, or behave otherwise from now on."""
        said = saying(step["status"], json.dumps(step["body"]).encode())
        self.peer.routes[(step["method"], step["path"])] = behaviour or said

    def count(self, verb: str) -> int:
        step = self.recorded[verb]
        return self.peer.count(step["method"], step["path"])

    async def answer_with_code(self, channel: str, code: str) -> RailEvent:
        template = self.recorded["codes"][channel]
        known, _, fragment = code.partition("/")
        text = f"Error: {fragment.upper()}"
        body = json.loads(
            json.dumps(template["body"]).replace("{code}", known).replace("{text}", text)
        )
        if "callback" in template:
            request = CallbackRequest(json.dumps(body).encode(), kind=template["callback"])
            [event] = self.rail.read_callback(request)
            return event
        step = self.recorded[template["verb"]]
        self.answer({**step, "status": template["status"], "body": body})
        return await self.ask(template["verb"])


@pytest.fixture(params=RAILS)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    name: str = request.param
    peer = await Peer().start()
    rail = registry.build(name, settings(peer.url))
    recorded = json.loads((FIXTURES / name / "contract.json").read_text())
    made = Setup(name, rail, recorded, peer)
    for step in [*recorded["prelude"], recorded["submit"], recorded["query"]]:
        made.answer(step)
    yield made
    if isinstance(rail, HoldsConnections):
        await rail.aclose()
    await peer.stop()


def settings(url: str = "http://127.0.0.1:9") -> Settings:
    return Settings(
        function_name="contract",
        data_api_url="http://data.example",
        data_api_token=SecretStr("none"),
        supabase_url="http://data.example",
        functions_url="http://data.example/functions/v1",
        daraja_sandbox_url=url,
        daraja_production_url="https://live.example",
    )


def reason_codes() -> Iterator[dict[str, str]]:
    for path in sorted((ROOT / "shared/rails").rglob("rails.reason_codes.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def rails_rows() -> Iterator[dict[str, str]]:
    for path in sorted((ROOT / "shared/rails").rglob("rails.rails.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def recorded_callbacks() -> list[Path]:
    """Bodies as they came, in the folder of their kind; "callbacks" holds those of a charge."""
    bodies = [path for kind in KINDS for path in FIXTURES.glob(f"*/{kind}/*.json")]
    return sorted(path for path in bodies if not path.name.endswith(".events.json"))


def refused_callbacks() -> list[Path]:
    return sorted(path for path in FIXTURES.glob("*/refused/**/*") if path.is_file())


def arrived(path: Path) -> tuple[str, CallbackRequest]:
    """The rail of a recorded body, and the body as that rail is asked to read it."""
    rail, *folders = path.relative_to(FIXTURES).parts[:-1]
    return rail, CallbackRequest(path.read_bytes(), kind=KINDS.get(folders[-1], "collect"))


async def test_submit_sends_exactly_once_per_call(setup: Setup) -> None:
    first = await setup.ask("submit")
    sent_by_first = setup.count("submit")
    await setup.ask("submit")

    assert first.outcome is Outcome.PENDING
    assert first.rail_ref == setup.recorded["instruction"]["rail_ref"]
    assert (sent_by_first, setup.count("submit")) == (1, 2)


@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES)
@pytest.mark.parametrize("verb", ["submit", "query"])
async def test_silence_is_unknown_and_not_repeated(
    setup: Setup, verb: str, silence: Behaviour
) -> None:
    setup.answer(setup.recorded[verb], silence)

    event = await setup.ask(verb)

    assert (event.outcome, event.reason) == (Outcome.UNKNOWN, RAIL_UNAVAILABLE)
    assert event.receipt is None
    assert setup.count(verb) == 1


@pytest.mark.parametrize("verb", ["submit", "query"])
async def test_nothing_sent_raises_unavailable_with_a_wait(setup: Setup, verb: str) -> None:
    """The rail refuses connections right after what it asks for first."""
    last = setup.recorded["prelude"][-1]
    said = saying(last["status"], json.dumps(last["body"]).encode())

    async def say_and_leave(line: Line, heard: Heard) -> None:
        setup.peer.stop_listening()
        await said(line, heard)

    setup.answer(last, say_and_leave)

    with pytest.raises(RailUnavailable) as caught:
        await setup.ask(verb)

    assert caught.value.retry_after_s > 0
    assert setup.count(verb) == 0


@pytest.mark.parametrize("trouble", SILENCES.values(), ids=SILENCES)
async def test_trouble_before_the_charge_sends_no_charge(setup: Setup, trouble: Behaviour) -> None:
    setup.answer(setup.recorded["prelude"][0], trouble)

    with pytest.raises(RailUnavailable):
        await setup.ask("submit")

    assert setup.count("submit") == 0


async def test_a_rail_that_is_away_is_sent_no_charge(setup: Setup) -> None:
    setup.peer.stop_listening()

    with pytest.raises(RailUnavailable):
        await setup.ask("submit")

    assert setup.peer.heard == []


async def test_query_moves_nothing_and_may_be_repeated(setup: Setup) -> None:
    first, second = await setup.ask("query"), await setup.ask("query")

    assert first == second
    assert setup.count("submit") == 0


@pytest.mark.parametrize(
    ("setup", "row"),
    [
        pytest.param(row["rail"], row, id=f"{row['rail']} {row['channel']} {row['code']}")
        for row in reason_codes()
    ],
    indirect=["setup"],
)
async def test_known_code_translates_as_its_row_says(setup: Setup, row: dict[str, str]) -> None:
    event = await setup.answer_with_code(row["channel"], row["code"])

    assert event.code == row["code"].partition("/")[0]
    assert (event.outcome, event.reason) == expected_of(row)
    assert event.retry_after_s == (int(row["retry_after_s"]) if row["retry_after_s"] else None)


def expected_of(row: dict[str, str]) -> tuple[str, str | None]:
    if row["channel"] == "api" and row["outcome"] == "pending":
        return "unknown", UNKNOWN_RAIL_ERROR  # a charge without a reference is not pending
    return row["outcome"], row["reason"] or None


async def test_unknown_code_is_unknown_and_says_so(setup: Setup) -> None:
    for channel in setup.recorded["codes"]:
        event = await setup.answer_with_code(channel, setup.recorded["unknown_code"])

        assert (event.outcome, event.reason) == (Outcome.UNKNOWN, UNKNOWN_RAIL_ERROR)


@pytest.mark.parametrize(
    "path", recorded_callbacks(), ids=lambda p: f"{p.parts[-3]} {p.parts[-2]} {p.stem}"
)
def test_recorded_callback_reads_as_recorded(path: Path) -> None:
    name, request = arrived(path)

    events = registry.build(name, settings()).read_callback(request)

    expected = json.loads(path.with_suffix(".events.json").read_text())
    assert [event.to_json() for event in events] == expected


@pytest.mark.parametrize("path", refused_callbacks(), ids=lambda p: f"{p.parent.name} {p.stem}")
def test_forged_or_malformed_callback_is_refused(path: Path) -> None:
    name, request = arrived(path)

    with pytest.raises(CallbackNotUnderstood) as caught:
        registry.build(name, settings()).read_callback(request)

    assert caught.value.reason


async def test_nothing_secret_or_personal_is_printed_or_logged(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("", "httpx", "httpcore"):
        caplog.set_level(logging.INFO, logger)

    event = await setup.ask("submit")
    await setup.ask("query")

    printed = f"{setup.instruction()!r} {event.payer_masked} {event.message} {caplog.text}"
    secrets = [v for k, v in setup.recorded["credentials"].items() if "key" in k or "secret" in k]
    private = [*secrets, setup.recorded["instruction"]["payer"][1:] + ","]
    assert [value for value in private if value in printed] == []


def test_registry_and_rows_name_the_same_rails() -> None:
    assert sorted(row["rail"] for row in rails_rows()) == sorted(RAILS)
    assert {row["rail"] for row in reason_codes()} == set(RAILS)


def test_every_rail_has_its_recordings() -> None:
    assert {p.parts[-3] for p in recorded_callbacks()} == set(RAILS)
    assert {p.relative_to(FIXTURES).parts[0] for p in refused_callbacks()} == set(RAILS)


def test_importing_the_registry_imports_no_rail() -> None:
    code = (
        "import sys, shared.rails.registry as r;"
        "print([m for m in r.MODULES.values() if m in sys.modules], 'aiohttp' in sys.modules)"
    )

    printed = subprocess.run(  # noqa: S603  our own interpreter and text
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert printed.stdout.strip() == "[] False"


def test_an_unknown_rail_is_named() -> None:
    with pytest.raises(registry.UnknownRail, match="pigeon"):
        registry.build("pigeon", settings())
