"""shared/log.py: one JSON object per line, and only what is on the list."""

import asyncio
import json
from typing import Any

import pytest

from shared import log


@pytest.fixture(autouse=True)
def level() -> Any:
    log.configure("info")
    yield
    log.configure("info")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_line_has_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.event("rail_callback_accepted", transfer_id="tr_1", rail="mpesa", latency_ms=12)

    (line,) = lines(capsys)
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "event": "rail_callback_accepted",
        "transfer_id": "tr_1",
        "rail": "mpesa",
        "latency_ms": 12,
    }


@pytest.mark.parametrize(
    "field",
    [
        *["phone", "msisdn", "payer", "customer", "email", "name", "body", "headers", "message"],
        *["secret", "token", "authorization", "api_key", "client_secret", "passkey", "password"],
        *["credentials", "consumer_secret", "plaintext", "vault_keys", "callback_token", "path"],
    ],
)
def test_field_that_may_hold_a_person_or_a_secret_is_dropped_and_counted(
    field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = log.dropped_total

    log.event("transfer_submitted", rail="mpesa", **{field: "254712345678"})

    printed = capsys.readouterr().out
    assert "254712345678" not in printed
    assert field not in json.loads(printed)
    assert json.loads(printed)["dropped_fields"] == 1
    assert log.dropped_total == before + 1


def test_context_is_on_every_line_inside_and_on_none_outside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with log.context(request_id="req_1", phone="254712345678"):
        log.bind(code="40401")
        log.event("first")
    log.event("second")

    first, second = lines(capsys)
    assert (first["request_id"], first["code"]) == ("req_1", "40401")
    assert "phone" not in first
    assert "request_id" not in second


async def test_concurrent_requests_keep_their_contexts(capsys: pytest.CaptureFixture[str]) -> None:
    async def answer(request_id: str) -> None:
        with log.context(request_id=request_id):
            await asyncio.sleep(0)
            log.event(f"answered_{request_id}")

    await asyncio.gather(answer("req_1"), answer("req_2"))

    assert [(line["event"], line["request_id"]) for line in lines(capsys)] == [
        ("answered_req_1", "req_1"),
        ("answered_req_2", "req_2"),
    ]


def test_cause_tells_where_and_which_kind_but_not_what_it_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def parse_phone() -> None:
        raise ValueError("254712345678 is no phone")

    with pytest.raises(ValueError, match="no phone") as failed:
        parse_phone()
    log.error("request_failed", failed.value)

    (line,) = lines(capsys)
    assert line["error_type"] == "ValueError"
    assert line["error_where"].startswith("parse_phone:")
    assert "254712345678" not in json.dumps(line)


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_lines_below_the_level_are_not_written(
    level: str, written: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(level)

    log.debug("one")
    log.event("two")
    log.warning("three")
    log.error("four")

    assert len(lines(capsys)) == written


def test_long_text_is_cut_and_a_line_break_stays_inside_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.event("rail_refused", reason="x\n" * 1000)

    (line,) = lines(capsys)
    assert len(line["reason"]) == 300
