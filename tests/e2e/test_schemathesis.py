"""Schemathesis against the running stack: no 5xx, and no answer that the document does not promise.

Five callers run at once, each with a tenant of its own. STALELA_FUZZ=long makes at least 10,000
requests with a seed of the day instead of the same few thousand.
"""

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.stack.openapi import operations
from scripts.stack.places import ROOT
from scripts.stack.stack import Stack
from shared.fiscal.document import Document
from tests.support.house import House, Merchant, living_in
from tests.support.simulator import new_phone, until
from tests.support.terminal import Terminal

Json = dict[str, Any]

IS_LONG = os.environ.get("STALELA_FUZZ") == "long"
SEED = ["--seed", datetime.now(UTC).strftime("%Y%m%d")]
WITH_FRAME = {"get_account", "create_payment_intent"}
# Every path is tried with a method that none has and one that some have, not with all nine.
CONFIG = """\
[phases.coverage]
unexpected-methods = ["put", "trace"]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
# Limits of fields are the same for every caller: one tries them.
LIMITS_ARE_TRIED = """\
[[operations]]
include-operation-id = {operation_ids}
phases.coverage.enabled = false
"""
# What no fuzzing reaches: a platform operator's work; what a tax authority must have said before;
# an invitation of somebody else's address; an account that no undecided payment needs any more; a
# second person's decision.
BEYOND = {
    "DELETE /authority-sync/devices/{outlet_id}",
    "POST /authority-sync/devices/{outlet_id}/days/close",
    "POST /invoices/keys/{key_id}/revoke",
    "POST /invoices/keys/{key_id}/rotate",
    "POST /invoices/requeue",
    "GET /compliance/freezes",
    "GET /compliance/lists",
    "GET /deliveries/destinations",
    "POST /archive/outlets/{outlet_id}",
    "POST /alerts/callbacks/{callback_id}/resolve",
    "POST /authority-sync/documents/{invoice_id}/retry",
    "POST /authority-sync/documents/{invoice_id}/withdraw",
    "POST /compliance/freezes",
    "POST /compliance/freezes/{freeze_id}/lift",
    "POST /compliance/lists/{source}",
    "POST /compliance/parties/{party_id}/clear",
    "POST /compliance/screen",
    "POST /directory/versions",
    "PUT /authority-sync/devices/{outlet_id}",
    "PUT /authority-sync/switches/{jurisdiction}",
    "PUT /compliance/profiles/{tenant_id}",
    "POST /payouts/{payout_id}/approve",
    "POST /payouts/{payout_id}/reject",
    "POST /reconcile/parked/{callback_id}/accept",
    "POST /refunds/{refund_id}/approve",
    "POST /refunds/{refund_id}/reject",
    "POST /transfers/{transfer_id}/approve",
    "POST /transfers/{transfer_id}/assign",
    "POST /transfers/{transfer_id}/reject",
    "PATCH /merchants/{tenant_id}",
    "POST /merchants/users/invitations/accept",
    "DELETE /merchants/credentials/{rail}",
}
# What needs a file from the rail, a customer with an address or a sealed paper: e2e tests of their
# own reach them.
NEEDS_A_STORY = {
    "POST /recon/statements",
    "POST /receipts/{payment_intent_id}/send",
    "POST /offline/blocks/{credential_id}/documents",
}
# What is left to chance: an event that did not pass, a journal that waits, one event of many, an
# outlet code that no other caller took.
BY_CHANCE = {
    "GET /integrity/proofs/{fiscal_number}",
    "GET /recon/sessions/{session_id}",
    "GET /recon/sessions/{session_id}/report",
    "GET /reports/periodic",
    "GET /verify/{fiscal_number}",
    "POST /merchants/api-keys/{key_id}/rotate",
    "GET /deliveries/{delivery_id}",
    "GET /webhook-endpoints/{endpoint_id}/deliveries/{event_id}",
    "POST /merchants/outlets",
    "POST /deliveries/{delivery_id}/redrive",
    "POST /deliveries/{delivery_id}/skip",
    "POST /ledger/manual-journals/{id}/approve",
    "POST /offline/blocks/{credential_id}/void",
    "POST /ledger/manual-journals/{id}/reject",
    "POST /recon/exceptions/{exception_id}/approve",
    "POST /recon/exceptions/{exception_id}/reject",
    "POST /recon/exceptions/{exception_id}/resolve",
    "POST /webhook-endpoints/{endpoint_id}/deliveries/{event_id}/replay",
}
# Rails speak first: their callbacks carry no credential of ours. Whoever has a paper verifies it.
FOR_EVERYBODY = {
    "GET /events/events.json",
    "GET /integrity/anchors",
    "GET /offline/revocations",
    "POST /momo-callback/{token}",
    "POST /momo-callback/{token}/balance",
    "POST /momo-callback/{token}/{kind}",
    "POST /momo-callback/c2b/{token}/confirmation",
    "POST /momo-callback/c2b/{token}/validation",
    "GET /verify/i",
    "GET /verify/keys",
    "GET /verify/jwks.json",
}
# Some are deleted on the way.
MANY_ENDPOINTS = "update public.settings set value = %s::jsonb where key = 'webhooks.endpoints_max'"
REQUESTS_MIN = 10_000 if IS_LONG else 2_000
LONGER = 12 if IS_LONG else 1
# Not positive_data_acceptance: which currency, role or phone exists no schema can say. Not
# unsupported_method: `/users/invitations` is also a `/users/{user_id}` nobody has, which is 404.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "allow_header_conformance",
    "ignored_auth",
)


@dataclass
class Caller:
    """One credential, what it may reach, and how hard to try."""

    name: str
    headers: dict[str, str]
    examples: int
    facts: Json = field(default_factory=lambda: {"known": {}, "instead": {}})
    opens: str = ""  # the security scheme whose operations are tried; "": all
    is_thorough: bool = False  # also each limit of each field (Schemathesis's coverage phase)


@dataclass
class Run:
    """One Schemathesis process and what it left behind."""

    caller: Caller
    process: subprocess.Popen[bytes]
    words: Path
    answers: Path

    def wait(self) -> str:
        """Its own report, when it found something."""
        self.process.wait()
        return "" if self.process.returncode == 0 else self.words.read_text()

    def statuses(self) -> dict[str, Counter[int]]:
        """How often each operation ("GET /payment-intents") answered with each status."""
        found: dict[str, Counter[int]] = {}
        for place, status, times in json.loads(self.answers.read_text()):
            found.setdefault(place, Counter())[status] = times
        return found


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as home:
        import_lists(home)
        home.books.run(MANY_ENDPOINTS, "200")
        yield home
        home.books.run(MANY_ENDPOINTS, "5")


@pytest.fixture(scope="module")
def document(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document, made strict: a member of an answer that it does not name is a finding.

    And made short: what the frame reads is the same everywhere, so two operations stand for all.
    """
    text: Json = httpx.get(f"{stack.functions_url}/openapi.json").json()
    for name, schema in text["components"]["schemas"].items():
        if "properties" in schema and name != "Problem":  # RFC 9457 allows others there
            schema.setdefault("additionalProperties", False)
    for _, _, operation in operations(text):
        for parameter in operation["parameters"]:
            if parameter.get("style") == "deepObject":
                del parameter["schema"]["additionalProperties"]  # in a URL everything is a string
        if not IS_LONG and operation["operationId"] not in WITH_FRAME:
            operation["parameters"] = [one for one in operation["parameters"] if "$ref" not in one]
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(json.dumps(text))
    return path


@pytest.fixture(scope="module")
def runs(
    house: House, document: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Run]]:
    """All callers at once: they wait for answers more than they compute."""
    folder = tmp_path_factory.mktemp("schemathesis")
    known = document_operations(document)
    started: dict[str, Run] = {}
    tried: list[str] = []
    for one in callers(house):
        opened = list(opened_by(one.opens, known))
        started[one.name] = start(one, house.stack, document, folder, opened, tried)
        if one.is_thorough and not IS_LONG:
            tried += opened
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize("caller", ["merchant", "owner", "payer", "nobody", "platform"])
def test_every_answer_is_one_the_document_promises(runs: dict[str, Run], caller: str) -> None:
    assert runs[caller].wait() == ""


def test_merchant_reached_what_lies_behind_every_operation(
    runs: dict[str, Run], house: House, document: Path
) -> None:
    assert never_reached(runs["merchant"], house, document, NEEDS_A_STORY) == NEEDS_A_STORY


def test_owner_reached_what_lies_behind_every_operation(
    runs: dict[str, Run], house: House, document: Path
) -> None:
    expected = BEYOND | NEEDS_A_STORY
    assert never_reached(runs["owner"], house, document, expected) == expected


def test_nobody_reached_nothing_but_what_is_public(runs: dict[str, Run], document: Path) -> None:
    runs["nobody"].wait()

    answered = {
        place
        for place, statuses in runs["nobody"].statuses().items()
        if any(status < 300 for status in statuses) and not place.startswith("OPTIONS ")
    }
    assert answered <= FOR_EVERYBODY
    assert "POST /momo-callback/{token}" in answered


def test_run_was_as_long_as_it_says(runs: dict[str, Run]) -> None:
    for run in runs.values():
        run.wait()

    total = sum(answers.total() for run in runs.values() for answers in run.statuses().values())
    assert total >= REQUESTS_MIN


@settings(
    max_examples=2000 if IS_LONG else 60,
    derandomize=not IS_LONG,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    body=st.binary(max_size=2000)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda value: json.dumps(value).encode()),
    content_type=st.sampled_from(["application/json", "text/xml; charset=utf-16", "", "a/b;;;"]),
    token=st.text(st.characters(codec="ascii", exclude_characters="/?#"), min_size=1, max_size=128),
)
def test_rail_gets_its_acknowledgement_whatever_it_sends(
    house: House, body: bytes, content_type: str, token: str
) -> None:
    url = f"/momo-callback/{''.join(f'%{byte:02X}' for byte in token.encode())}"

    answer = house.http.post(url, content=body, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0, "ResultDesc": "Accepted"})


def test_rail_that_sends_too_much_is_told_so_as_documented(house: House, document: Path) -> None:
    answer = house.http.post("/momo-callback/t", content=b"9" * (64 * 1024 + 1))

    path = json.loads(document.read_text())["paths"]["/momo-callback/{token}"]
    assert answer.status_code == 413
    assert answer.headers["content-type"] in path["post"]["responses"]["413"]["content"]


def callers(house: House) -> list[Caller]:
    """Everybody who may knock, each at a door of their own."""
    merchant, owner, payer = (house.merchant() for _ in range(3))
    colleague = house.stack.keys.verify(owner.token("developer"))["sub"]
    house.books.run(
        "update public.users set email = 'wanjiru@acacia.example' where user_id = %s", colleague
    )
    intent = payer.create()
    platform = house.stack.keys["internal_token"]
    intent_secret = {"x-client-secret": intent["client_secret"]}
    its_intent = {"known": {"payment_intent_id": [intent["id"]]}, "instead": {}}
    token = with_email(house.stack, owner.token())
    owners = facts_of(owner) | {"instead": {house.stack.keys.verify(token)["sub"]: colleague}}
    return [
        Caller("merchant", bearer(merchant.secret), 10, facts_of(merchant), "ApiKey", True),
        Caller("owner", bearer(token), 10, owners, "UserToken", True),
        Caller("payer", bearer(payer.publishable) | intent_secret, 25, its_intent, "ClientSecret"),
        Caller("nobody", {}, 2),
        Caller("platform", bearer(platform), 10, opens="InternalToken"),
    ]


def import_lists(house: House) -> None:
    """Without sanctions lists nobody can be screened."""
    operator = house.client(house.merchant().token("operator"))
    for source, name in {
        "ofac": "ofac_sdn.xml",
        "un": "un_consolidated.xml",
        "eu": "eu_fsf.xml",
    }.items():
        content = (ROOT / "tests/fixtures/compliance" / name).read_bytes()
        operator.post(f"/compliance/lists/{source}", content=content).raise_for_status()


def facts_of(merchant: Merchant) -> Json:
    """A tenant with intents in every state, a parked callback and a transfer in review."""
    hooks = {"url": "https://shop.example/hooks"}
    endpoints = [
        merchant.post("/webhook-endpoints", hooks).raise_for_status().json()["id"]
        for _ in range(10)
    ]
    paid, declined, wrong = (merchant.start(new_phone(end)) for end in ("00", "02", "17"))
    merchant.wait(paid, "succeeded")
    merchant.wait(declined, "requires_payment_method")
    until(lambda: merchant.dispositions()[2:], "a parked callback")
    untouched = [merchant.create(metadata={"order": str(n)})["id"] for n in range(6)]
    own_key = merchant.house.books.value(
        "select key_id from public.api_keys where tenant_id = %s and kind = 'secret'",
        merchant.tenant_id,
    )
    body = {"name": "Wanjiru Kamau", "phone": new_phone()}
    party = merchant.api.post("/compliance/parties", json=body).raise_for_status().json()
    outlet_id = outlet_of(merchant)
    return {
        "known": {
            "payment_intent_id": [*untouched, paid, declined, wrong],
            "transfer_id": [merchant.get(one)["latest_transfer"]["id"] for one in (wrong, paid)],
            "paid": [paid],
            "refund_id": refunds_of(merchant, paid),
            "payout_id": payouts_of(merchant),
            "party_id": [party["id"]],
            "outlet_id": [outlet_id],
            "report_id": [report_of(merchant)],
            "credential_id": [block_of(merchant, outlet_id)],
            "walk_id": [walk_of(merchant, outlet_id)],
            "endpoint_id": endpoints,
            "event_id": [event["id"] for event in merchant.timeline(paid)],
            "institution_id": ["safaricom_ke"],
            "calendar": ["KE"],
            **documents_of(merchant, outlet_id),
        },
        "instead": {own_key: f"key_{own_key[:3:-1]}"},
    }


def outlet_of(merchant: Merchant) -> str:
    """An outlet of the taxpayer that the document's example names."""
    taxpayer = {"jurisdiction": "CD", "legal_name": "Acacia Books", "tin": "308123456"}
    merchant.api.put("/merchants/fiscal", json=taxpayer).raise_for_status()
    place = {
        "outlet_code": uuid.uuid4().hex[:12].upper(),
        "name": "Gombe",
        "time_zone": "Africa/Kinshasa",
    }
    made = merchant.api.post("/merchants/outlets", json=place).raise_for_status()
    return str(made.json()["id"])


def report_of(merchant: Merchant) -> str:
    """The Z of an outlet that nobody else closes."""
    day = {"type": "z", "outlet_id": outlet_of(merchant)}
    return str(merchant.post("/reports", day).raise_for_status().json()["id"])


def block_of(merchant: Merchant, outlet_id: str) -> str:
    """Numbers of a terminal that sells offline."""
    order = {
        "outlet_id": outlet_id,
        "pos_terminal_id": "pos-fuzz",
        "public_key": Terminal().public_key,
        "size": 3,
    }
    return str(merchant.post("/offline/blocks", order).raise_for_status().json()["id"])


def walk_of(merchant: Merchant, outlet_id: str) -> str:
    """A verification of the outlet's chain."""
    order = {"outlet_id": outlet_id}
    return str(merchant.post("/integrity/walks", order).raise_for_status().json()["id"])


def documents_of(merchant: Merchant, outlet_id: str) -> dict[str, list[str]]:
    """Sealed documents, and drafts of which every other one is never sealed."""
    (example,) = Document.model_json_schema()["examples"]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    document = example | {"outlet_id": outlet_id, "timestamp": now}
    sealed = [merchant.post("/invoices", document).raise_for_status() for _ in range(12)]
    ids = [answer.json()["id"] for answer in sealed]
    drafts = [
        merchant.post("/invoices/drafts", {"document": document, "purpose": purpose})
        for purpose in ("invoice", "proforma") * 6
    ]
    return {
        "invoice_id": ids[:8],
        # Once a refund had touched them all, none could be voided any more.
        "POST /invoices/{invoice_id}/void": ids[8:],
        "draft_id": [answer.raise_for_status().json()["id"] for answer in drafts],
    }


def refunds_of(merchant: Merchant, paid: str) -> list[str]:
    """Part of a payment, on its way back."""
    part = {"payment_intent": paid, "amount": "20.00", "currency": "KES"}
    return [str(merchant.post("/refunds", part).raise_for_status().json()["id"])]


def payouts_of(merchant: Merchant) -> list[str]:
    """One on its way."""
    destination = {"type": "mpesa", "phone": new_phone("30")}
    body = {"amount": "100.00", "currency": "KES", "destination": destination}
    return [str(merchant.post("/payouts", body).raise_for_status().json()["id"])]


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def with_email(stack: Stack, token: str) -> str:
    """The same person, known by an address as sign-up asks, for as long as a long run takes."""
    claims = stack.keys.verify(token)
    return stack.keys.sign(
        claims
        | {"email": f"{uuid.uuid4().hex}@acacia.example", "exp": int(claims["iat"]) + 6 * 3600}
    )


def start(
    caller: Caller,
    stack: Stack,
    document: Path,
    folder: Path,
    operation_ids: Iterable[str],
    tried: Sequence[str] = (),
) -> Run:
    """Begin the run of one caller; `tried` are operations whose limits another one tries."""
    answers, words = folder / f"{caller.name}.json", folder / f"{caller.name}.txt"
    config = folder / f"{caller.name}.toml"
    config.write_text(CONFIG + (LIMITS_ARE_TRIED.format(operation_ids=tried) if tried else ""))
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color"]
    command += ["--config-file", str(config), "run", str(document)]
    command += ["--url", stack.functions_url, "--checks", ",".join(CHECKS), "--continue-on-failure"]
    command += ["--max-examples", str(caller.examples * LONGER), "--output-sanitize", "false"]
    # Each caller has its credential; invented ones beside it would make most of the run a 401.
    command += ["--generation-with-security-parameters", "false"]
    command += ["--warnings", "off"]
    command += SEED if IS_LONG else ["--generation-deterministic"]
    command += [f"--include-operation-id={name}" for name in operation_ids]
    if not (caller.is_thorough or IS_LONG):
        command += ["--phases", "examples,fuzzing,stateful"]
    for name, value in caller.headers.items():
        command += ["--header", f"{name}: {value}"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.support.fuzz_hooks",
        "FUZZ_FACTS": json.dumps(caller.facts),
        "FUZZ_ANSWERS": str(answers),
    }
    with words.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # words of this file
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    return Run(caller, process, words, answers)


def document_operations(document: Path) -> dict[str, Json]:
    """Each operation of the document by its place, as `GET /path`."""
    return {
        f"{verb.upper()} {path}": operation
        for verb, path, operation in operations(json.loads(document.read_text()))
    }


def opened_by(scheme: str, known: dict[str, Json]) -> dict[str, str]:
    """The operations that take this security scheme, and their places."""
    return {
        operation["operationId"]: place
        for place, operation in known.items()
        if any(scheme in requirement for requirement in operation["security"])
    }


def never_reached(run: Run, house: House, document: Path, expected: set[str]) -> set[str]:
    """Operations open to the caller of this run that never answered with success.

    What it should have reached is tried once more, harder: the callers disturb each other, so a
    single run leaves something else to chance every time.
    """
    run.wait()
    opened = opened_by(run.caller.opens, document_operations(document))
    missing = unreached(run, opened) - BY_CHANCE
    if missing <= expected:
        return missing
    again = replace(run.caller, name=f"{run.caller.name}-again", examples=10 * run.caller.examples)
    harder = {name: place for name, place in opened.items() if place in missing - expected}
    second = start(again, house.stack, document, run.answers.parent, harder)
    assert second.wait() == ""
    return missing - (set(harder.values()) - unreached(second, harder))


def unreached(run: Run, opened: dict[str, str]) -> set[str]:
    """Which of these never answered with success."""
    answered = run.statuses()
    return {
        place
        for place in opened.values()
        if not any(status < 300 for status in answered.get(place, Counter()))
    }
