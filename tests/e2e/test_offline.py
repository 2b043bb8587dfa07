"""A terminal sells without a connection, and everything it may have done comes back."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from shared.fiscal.proof import PublishedKey, read_keys
from shared.fiscal.seal import auth_code
from shared.signing.encoding import from_base64url
from tests.e2e.test_integrity import tampering, walk
from tests.support.house import House, at_once, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until
from tests.support.terminal import Terminal

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("integrity", "invoices", "merchants", "offline", "verify")
    with own_house("offline", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture
def outlet(house: House) -> Outlet:
    """An outlet that has sold two things online."""
    outlet = Outlet(house)
    outlet.sealed()
    outlet.sealed()
    return outlet


@pytest.fixture
def till(outlet: Outlet) -> "Till":
    return Till(outlet)


def time_of(minutes: float) -> str:
    return f"{datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"


class Till:
    """A terminal of an outlet, and the way back to us."""

    def __init__(self, outlet: Outlet, size: int = 5, name: str = "pos-off", **order: Any) -> None:
        self.outlet, self.terminal, self.name = outlet, Terminal(), name
        asked = self.order(size, **order)
        assert asked.status_code == 202, asked.text
        self.credential_id = str(asked.json()["id"])
        self.terminal.provision(self.signed(), keys_of(outlet.house))

    def order(self, size: int = 5, **order: Any) -> httpx.Response:
        body = {
            "outlet_id": self.outlet.outlet_id,
            "pos_terminal_id": self.name,
            "public_key": self.terminal.public_key,
            "size": size,
        }
        return self.outlet.merchant.post("/offline/blocks", body | order)

    def read(self) -> Json:
        path = f"/offline/blocks/{self.credential_id}"
        return dict(self.outlet.merchant.api.get(path).raise_for_status().json())

    def signed(self) -> Json:
        def look() -> Json | None:
            sign(self.outlet.house)
            seen = self.read()
            return seen if seen["credential"]["signature"] else None

        return until(look, "the credential's signature")

    def sell(self, sealed_at: str | None = None, **members: Any) -> Json:
        document = self.outlet.document(pos_terminal_id=self.name, **members)
        document["timestamp"] = sealed_at or document["timestamp"]
        return self.terminal.seal(document, sealed_at)

    def send(self, sealed: Json) -> httpx.Response:
        path = f"/offline/blocks/{self.credential_id}/documents"
        return self.outlet.merchant.post(path, sealed)

    def revoke(self) -> Json:
        path, because = f"/offline/blocks/{self.credential_id}/revoke", {"reason": "stolen"}
        return dict(self.outlet.merchant.post(path, because).raise_for_status().json())

    def void(self, app_role: str = "owner") -> httpx.Response:
        person = self.outlet.house.client(self.outlet.merchant.token(app_role))
        path = f"/offline/blocks/{self.credential_id}/void"
        return person.post(path, json={"reason": "the till was lost"})

    def shift(self, hours: int) -> None:
        """Let time pass for the credential, whose words stay."""
        self.outlet.house.books.run(
            "update signing.delegated_credentials set not_before = not_before - d.shift,"
            " expires_at = expires_at - d.shift from (select %s * interval '1 h' as shift) as d"
            " where credential_id = %s",
            hours,
            self.credential_id,
        )


def keys_of(house: House) -> dict[str, PublishedKey]:
    return read_keys(house.http.get("/verify/keys").raise_for_status().json())


def sign(house: House) -> None:
    house.books.run("update signing.signing_queue set next_attempt_at = now()")
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
    house.http.post("/invoices/sign", headers=bearer).raise_for_status()


def verdict(outlet: Outlet) -> Json:
    """What a walk of everything says, once everything is signed."""

    def all_signed() -> bool:
        sign(outlet.house)
        return not outlet.house.books.value(
            "select count(*) from signing.signing_queue where tenant_id = %s",
            outlet.merchant.tenant_id,
        )

    until(all_signed, "every signature")
    with tampering(outlet.house):
        return walk(outlet.house, outlet)


# --- what goes well


def test_what_was_sealed_offline_comes_into_the_chain_as_it_is_on_paper(till: Till) -> None:
    outlet = till.outlet
    first, second = till.sell(), till.sell()
    between = outlet.sealed()

    answers = [till.send(first), till.send(second)]

    assert [answer.status_code for answer in answers] == [201, 201]
    taken = answers[0].json()
    assert (taken["sequence"], taken["fiscal_number"]) == (3, f"TST-{outlet.code}-000003")
    assert between["sequence"] == 8  # after the block
    found = verdict(outlet)
    assert (found["status"], found["to_entry"], found["finding"]) == ("sound", 5, None)
    chain = outlet.chain()
    assert [row["sequence"] for row in chain] == [1, 2, 8, 3, 4]
    assert chain[3]["sealed_at"] == first["sealed_at"]
    kept = outlet.house.books.row(
        "select * from fiscal.local_seals where fiscal_number = %s", taken["fiscal_number"]
    )
    assert kept["signature"] == first["signature"]
    assert kept["auth_code"] == auth_code(from_base64url(first["signature"]))
    assert kept["local_previous_hash"] == first["local_previous_hash"]
    assert chain[3]["previous_hash"] == chain[2]["entry_hash"] != kept["local_previous_hash"]
    assert outlet.house.books.alerts(till.credential_id) == []


def test_same_document_again_is_the_same_answer(till: Till) -> None:
    sealed = till.sell()

    answers = at_once(4, lambda _: till.send(sealed))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(till.outlet.chain()) == 3


def test_documents_of_an_ended_credential_still_come_back(till: Till) -> None:
    late = till.sell(time_of(-13 * 60))
    till.shift(14)

    answer = till.send(late)

    assert answer.status_code == 201, answer.text
    assert till.read()["status"] == "ended"
    assert till.outlet.sealed()["sequence"] == 8
    assert verdict(till.outlet)["status"] == "sound"


def test_block_that_came_back_whole_is_closed_and_the_terminal_gets_the_next(till: Till) -> None:
    refused = till.order()
    for _ in range(5):
        assert till.send(till.sell()).status_code == 201

    again = till.order()

    assert (refused.status_code, refused.json()["code"]) == (409, "40911")
    assert (till.read()["status"], till.read()["missing"]) == ("closed", [])
    assert again.status_code == 202
    words = again.json()["credential"]["statement"]
    assert (words["block_start"], words["block_end"]) == (8, 12)
    assert verdict(till.outlet)["status"] == "sound"


def test_provisioning_twice_with_one_key_gives_one_block(outlet: Outlet) -> None:
    body = {
        "outlet_id": outlet.outlet_id,
        "pos_terminal_id": "pos-off",
        "public_key": Terminal().public_key,
        "size": 500,
    }

    answers = [outlet.merchant.post("/offline/blocks", body, "one") for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert outlet.sealed()["sequence"] == 503


def test_paper_of_a_terminal_verifies_by_its_own_code(till: Till) -> None:
    sealed = till.sell()
    number = till.send(sealed).json()["fiscal_number"]
    assert verdict(till.outlet)["status"] == "sound"  # and everything is signed
    on_paper = auth_code(from_base64url(sealed["signature"]))
    ours = till.outlet.chain()[-1]["auth_code"]
    http = till.outlet.house.http

    def verify(code: str) -> httpx.Response:
        return http.get(f"/verify/{number}", params={"auth_code": code})

    assert {verify(code).json()["status"] for code in (on_paper, ours)} == {"verified"}
    assert verify("AAAA-BBBB-CCCC-DDDD").status_code == 404
    qr = {"fn": number, "ac": on_paper, "ts": sealed["sealed_at"], "fa": "stalela-cd-01"}
    assert "Acacia Books" in http.get("/verify/i", params=qr).text


def test_late_document_is_in_the_report_of_the_day_it_came(till: Till) -> None:
    outlet, books = till.outlet, till.outlet.house.books
    late = till.sell(time_of(-13 * 60))
    till.shift(14)
    online = outlet.sealed()
    assert till.send(late).status_code == 201
    outlet.sealed()

    books.value(
        "select (fiscal.close_day(o, 'test', true)).report_no from fiscal.outlets as o"
        " where o.outlet_id = %s",
        outlet.outlet_id,
    )

    report = books.row("select * from fiscal.reports where outlet_id = %s", outlet.outlet_id)
    assert online["sequence"] == 8
    assert (report["first_entry"], report["last_entry"]) == (1, 5)
    assert json.loads(report["body"])["offline_count"] == 1
    found = verdict(outlet)
    assert (found["status"], found["to_entry"]) == ("sound", 6)


def test_late_document_does_not_hide_the_sales_before_it(till: Till) -> None:
    late = till.sell(time_of(-13 * 60))
    till.shift(14)
    assert till.send(late).status_code == 201
    for _ in range(2):
        till.outlet.sealed()

    first_of_today = till.outlet.house.books.value(
        "select fiscal.entry_at(%s, now() - interval '1 h')", till.outlet.outlet_id
    )

    assert [row["sequence"] for row in till.outlet.chain()] == [1, 2, 3, 8, 9]
    assert first_of_today == 1


# --- gaps


def test_gap_is_flagged_and_filled_by_a_late_document(till: Till) -> None:
    first, second, third = till.sell(), till.sell(), till.sell()
    books = till.outlet.house.books

    early = [till.send(sealed).status_code for sealed in (first, third)]
    flagged = books.alerts(till.credential_id)
    late = till.send(second)

    assert early == [201, 201]
    assert flagged == ["block_gap"]
    moves = books.rows(
        "select move, from_number, to_number from signing.number_blocks"
        " where credential_id = %s order by move_no",
        till.credential_id,
    )
    assert [tuple(move.values()) for move in moves] == [
        ("reserved", 3, 7),
        ("reconciled", 3, 3),
        ("gap", 4, 4),
        ("reconciled", 5, 5),
        ("reconciled", 4, 4),
    ]
    assert late.status_code == 201
    assert verdict(till.outlet)["status"] == "sound"


def test_missing_numbers_are_voided_by_a_person_after_the_credential_ended(till: Till) -> None:
    till.send(till.sell())
    lost = till.sell()
    till.send(till.sell())

    early = till.void()
    till.revoke()
    by_cashier, voided = till.void("cashier"), till.void()
    late = till.send(lost)

    assert (early.status_code, early.json()["code"]) == (409, "40911")
    assert (by_cashier.status_code, by_cashier.json()["code"]) == (403, "40312")
    assert voided.json()["missing"] == []
    assert (late.status_code, late.json()["code"]) == (409, "40922")
    found = verdict(till.outlet)
    assert (found["status"], found["to_entry"]) == ("sound", 7)
    voids = till.outlet.house.books.column(
        "select sequence from fiscal.fiscal_ledger"
        " where outlet_id = %s and record_type = 'block_void' order by entry_no",
        till.outlet.outlet_id,
    )
    assert voids == [4, 6, 7]
    assert till.outlet.house.books.alerts(till.credential_id) == []


def test_number_that_is_neither_here_nor_out_is_found(till: Till) -> None:
    outlet = till.outlet
    outlet.sealed()
    assert verdict(outlet)["status"] == "sound"

    with tampering(outlet.house):
        outlet.house.books.run("delete from signing.number_blocks")
        found = walk(outlet.house, outlet)

    assert (found["finding"]["check"], found["finding"]["entry_no"]) == ("sequence", 3)


# --- what a terminal must not do


def other_key(till: Till, sealed: Json) -> None:
    till.terminal.key = Terminal().key
    forged = Terminal(till.terminal.key, till.terminal.credential, sealed["local_previous_hash"])
    forged.next_number = sealed["sequence"]
    sealed["signature"] = forged.seal(sealed["document"], sealed["sealed_at"])["signature"]


FORGERIES: dict[str, tuple[Callable[[Till, Json], object], str]] = {
    "another key": (other_key, "/signature"),
    "another document": (
        lambda _, s: s["document"]["items"][0].update(unit_price="1.00"),
        "/document",
    ),
    "another number": (lambda _, s: s.update(sequence=4), "/signature"),
    "another time": (lambda _, s: s.update(sealed_at=time_of(-1)), "/signature"),
    "another hash": (lambda _, s: s.update(canonical_payload_hash="a" * 64), "/signature"),
    "another place": (lambda _, s: s.update(local_previous_hash="a" * 64), "/signature"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_seal_is_refused_and_people_are_told(name: str, till: Till) -> None:
    forge, pointer = FORGERIES[name]
    sealed = deepcopy(till.sell())
    forge(till, sealed)

    answer = till.send(sealed)

    assert (answer.status_code, answer.json()["code"]) == (422, "42277")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert till.outlet.house.books.alerts(till.credential_id) == ["local_seal_refused"]
    assert len(till.outlet.chain()) == 2


def resealed(till: Till, **credential: Any) -> Json:
    """What a terminal signs that does not keep to its credential."""
    till.terminal.credential |= credential
    return till.sell()


BREACHES: dict[str, tuple[Callable[[Till], Json], str]] = {
    "number after the block": (
        lambda t: (setattr(t.terminal, "next_number", 8), resealed(t, block_end=99))[1],
        "/fiscal_number",
    ),
    "before its time": (lambda t: t.sell(time_of(-60)), "/sealed_at"),
    "after its time": (lambda t: (t.shift(14), t.sell())[1], "/sealed_at"),
    "ahead of our clock": (lambda t: t.sell(time_of(60)), "/sealed_at"),
    "after its revocation": (lambda t: (t.revoke(), t.sell(time_of(0.1)))[1], "/sealed_at"),
    "another terminal": (
        lambda t: t.terminal.seal(t.outlet.document(pos_terminal_id="pos-9")),
        "/document/pos_terminal_id",
    ),
    "a type it may not": (
        lambda t: t.sell(
            invoice_type="credit_note",
            original_fiscal_number=f"TST-{t.outlet.code}-000001",
            credit_reason="other",
        ),
        "/document/invoice_type",
    ),
    "not after the credential": (
        lambda t: (setattr(t.terminal, "previous_hash", "b" * 64), t.sell())[1],
        "/local_previous_hash",
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_breach_of_the_credential_is_refused_and_people_are_told(name: str, till: Till) -> None:
    breach, pointer = BREACHES[name]

    answer = till.send(breach(till))

    assert (answer.status_code, answer.json()["code"]) == (422, "42277"), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert till.outlet.house.books.alerts(till.credential_id) == ["local_seal_refused"]
    assert len(till.outlet.chain()) == 2


def test_document_above_the_limit_is_refused(outlet: Outlet) -> None:
    till = Till(outlet, policy={"types": ["sale"], "max_total": "1000.00", "currency": "CDF"})

    answer = till.send(till.sell())

    assert answer.json()["errors"][0]["pointer"] == "/document/totals/total"


def test_credential_of_one_cashier_is_of_no_other(outlet: Outlet) -> None:
    till = Till(outlet, cashier_id="cashier-1")

    own = till.send(till.sell())
    other = till.send(till.sell(cashier_id="cashier-2"))

    assert own.status_code == 201, own.text
    assert (other.status_code, other.json()["code"]) == (422, "42277")
    assert other.json()["errors"][0]["pointer"] == "/document/cashier_id"


def test_fork_of_the_local_chain_is_refused(till: Till) -> None:
    till.send(till.sell())
    till.terminal.previous_hash = "b" * 64

    answer = till.send(till.sell())

    assert answer.json()["errors"][0]["pointer"] == "/local_previous_hash"


def test_number_sealed_twice_is_a_conflict_that_is_kept_aside(till: Till) -> None:
    backup = deepcopy(till.terminal)
    first = till.sell()
    till.terminal = backup  # restored from before the sale
    second = till.sell(notes="another sale with the same number")

    taken, refused = till.send(first), till.send(second)
    till.send(second)

    assert (taken.status_code, refused.status_code) == (201, 409)
    assert refused.json()["code"] == "40922"
    api = till.outlet.merchant.api
    (conflict,) = api.get("/integrity/conflicts").raise_for_status().json()["data"]
    assert conflict["kept_hash"] == first["canonical_payload_hash"]
    assert conflict["other_hash"] == second["canonical_payload_hash"]
    assert conflict["document"]["notes"] == "another sale with the same number"
    books = till.outlet.house.books
    assert books.alerts(taken.json()["fiscal_number"]) == ["fiscal_conflict"]
    assert verdict(till.outlet)["status"] == "sound"


def test_revoked_credential_is_published_and_what_it_sealed_before_is_taken(till: Till) -> None:
    before = till.sell()

    revoked = till.revoke()

    listed = till.outlet.house.http.get("/offline/revocations").raise_for_status().json()
    assert revoked["status"] == "revoked"
    assert till.credential_id in [each["credential_id"] for each in listed["data"]]
    assert till.send(before).status_code == 201


def test_credential_of_somebody_else_is_not_there(till: Till, house: House) -> None:
    stranger = house.merchant()
    path = f"/offline/blocks/{till.credential_id}"

    assert stranger.api.get(path).status_code == 404
    assert stranger.post(f"{path}/documents", till.sell()).status_code == 404
    assert stranger.post(f"{path}/revoke", {"reason": "mine now"}).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"size": 501}, "/size"),
        ({"public_key": "A" * 124}, "/public_key"),
        ({"policy": {"types": ["credit_note"]}}, "/policy/types/0"),
        ({"policy": {"max_total": "5.00"}}, "/policy"),
    ],
)
def test_block_that_cannot_be_is_refused(change: Json, pointer: str, outlet: Outlet) -> None:
    body = {
        "outlet_id": outlet.outlet_id,
        "pos_terminal_id": "pos-off",
        "public_key": Terminal().public_key,
        "size": 5,
    }

    answer = outlet.merchant.post("/offline/blocks", body | change)

    assert answer.status_code in (400, 422)
    assert answer.json()["errors"][0]["pointer"] == pointer


# --- tampering with what came back


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("local_previous_hash = repeat('a', 64)", "local_seal"),
        ("local_hash = repeat('a', 64)", "local_seal"),
        ("sequence = 7", "local_seal"),
        ("outlet_id = 'out_other'", "local_seal"),
        ("signature = repeat('A', 86)", "signature"),
        ("auth_code = 'AAAA-BBBB-CCCC-DDDD'", "signature"),
        ("digest = repeat('a', 64)", "signature"),
    ],
)
def test_tampering_with_a_local_seal_is_found(change: str, check: str, till: Till) -> None:
    till.send(till.sell())
    assert verdict(till.outlet)["status"] == "sound"

    with tampering(till.outlet.house, "fiscal.local_seals"):
        till.outlet.house.books.run(
            f"update fiscal.local_seals set {change} where outlet_id = %s",  # noqa: S608
            till.outlet.outlet_id,
        )
        found = walk(till.outlet.house, till.outlet)

    assert (found["finding"]["entry_no"], found["finding"]["check"]) == (3, check)
