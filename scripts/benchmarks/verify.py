"""GET /verify/{fiscal_number} and the page, over a ledger of a million documents."""

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from scripts.benchmarks.cpu import cpu_s
from scripts.benchmarks.documents import Paper, fill_ledger
from scripts.benchmarks.load import Load, Outcome, percentile, send
from scripts.benchmarks.place import Function, alone
from scripts.benchmarks.rounds import Rounds, Say
from scripts.benchmarks.table import Figure, Target, figure
from scripts.benchmarks.wire import request
from scripts.stack.stack import Stack

CLIENTS: Final = 16
PATH: Final = "/functions/v1/verify"
PACE: Final = 50  # a second: papers are looked at by people
BUDGET_MS: Final = 30
CODE: Final = "0000-0000-0000-0000"


@dataclass(frozen=True, slots=True)
class Measured:
    """The Data API alone; the function; the function at a calm pace: each kind of answer."""

    limit: Outcome
    product: Outcome
    cpu_ms: float
    calls: float
    calm: Outcome
    page: Outcome
    wrong: Outcome
    unknown: Outcome


def measure_verify(
    stack: Stack, rounds: Rounds, documents: int, seconds: float, say: Say
) -> list[Figure]:
    """As many as it takes; then at the pace of people, where the server's own time counts."""
    say(f"verify: sealing {documents:,} documents")
    with stack.database.connect() as admin:
        papers = fill_ledger(admin, documents)
    with alone(stack, "verify") as function:
        limit = Load(stack.ports.postgrest, CLIENTS, _data_api_calls(stack, papers), seconds)
        known = Load(function.port, CLIENTS, [_get(paper) for paper in papers], seconds)
        send(replace(limit, seconds=0.5), expect=200)
        send(replace(known, seconds=0.5), expect=200)
        runs = rounds.series("verify", lambda: _measure(function, limit, known, papers))
    many = f"{documents:,} documents"
    return [
        figure("verify: Data API calls", runs, lambda run: run.calls, "", Target("=", 1)),
        figure("verify: handler CPU", runs, lambda run: run.cpu_ms, "ms", Target("<", 2)),
        figure(
            f"verify, {many}, {CLIENTS} clients; limit: the Data API alone",
            runs,
            lambda run: run.product.per_s,
            "/s",
            Target("≥", 0.4),
            limit=lambda run: run.limit.per_s,
        ),
        figure(
            f"verify, {CLIENTS} clients: p99",
            runs,
            lambda run: run.product.percentile(0.99),
            "ms",
            limit=lambda run: run.limit.percentile(0.99),
        ),
        figure(
            f"verify, server time at {PACE} a second: p99",
            runs,
            lambda run: percentile(run.calm.server_ms, 0.99),
            "ms",
            Target("<", BUDGET_MS),
        ),
        figure(
            f"the page, server time at {PACE} a second: p99",
            runs,
            lambda run: percentile(run.page.server_ms, 0.99),
            "ms",
            Target("<", BUDGET_MS),
        ),
        # What nobody may tell apart by time: see fiscal.verification_facts.
        figure(
            "an unknown number, server time: p50; limit: a wrong code",
            runs,
            lambda run: percentile(run.unknown.server_ms, 0.5),
            "ms",
            limit=lambda run: percentile(run.wrong.server_ms, 0.5),
        ),
    ]


def _measure(function: Function, limit: Load, known: Load, papers: list[Paper]) -> Measured:
    alone_ = send(limit, expect=200)
    calls, cpu = function.data_api_calls(), cpu_s(function.pid)
    product = send(known, expect=200)
    cpu, calls = cpu_s(function.pid) - cpu, function.data_api_calls() - calls

    def calmly(expect: int, requests: list[str]) -> Outcome:
        return send(replace(known, requests=requests, per_s=PACE), expect=expect)

    return Measured(
        limit=alone_,
        product=product,
        cpu_ms=cpu * 1000 / product.count,
        # Views are counted by a call of their own, every other second.
        calls=round(calls / product.count),
        calm=calmly(200, known.requests),
        page=calmly(200, [_page(paper) for paper in papers]),
        wrong=calmly(404, [_get(replace(paper, auth_code=CODE)) for paper in papers]),
        unknown=calmly(404, [_get(_unknown(paper)) for paper in papers]),
    )


def _data_api_calls(stack: Stack, papers: list[Paper]) -> list[str]:
    """What the function asks the Data API, without the function."""
    headers = {
        "Authorization": f"Bearer {stack.role_token('fn_verify')}",
        "Content-Profile": "fiscal",
        "Accept": "application/json",
    }
    return [
        request("POST", "/rpc/verify", headers, {"fiscal_numbers": [paper.fiscal_number]}).decode(
            "latin-1"
        )
        for paper in papers
    ]


def _get(paper: Paper) -> str:
    path = f"{PATH}/{paper.fiscal_number}?{urlencode({'auth_code': paper.auth_code})}"
    return request("GET", path, {}).decode("latin-1")


def _page(paper: Paper) -> str:
    fields = {"fn": paper.fiscal_number, "ac": paper.auth_code}
    return request("GET", f"{PATH}/i?{urlencode(fields)}", {}).decode("latin-1")


def _unknown(paper: Paper) -> Paper:
    """A number between two that exist."""
    return Paper(f"{paper.fiscal_number}A", CODE)
