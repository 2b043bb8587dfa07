"""A cashier sees and issues what is theirs: through every function, and through the tables."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from psycopg import sql

from shared.canonical import canonical_bytes, canonical_hash
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from tests.sql.reports.till import Till
from tests.support.sql import Refused, Row

DOCUMENTS = ("fiscal.invoices", "fiscal.fiscal_ledger", "fiscal.events", "signing.signing_queue")

# Thousands of documents like the one that `bela` sold.
COPIES = {
    "invoices": (
        "insert into fiscal.invoices select (jsonb_populate_record(i, jsonb_build_object("
        "'invoice_id', public.new_id('inv'), 'fiscal_number', 'TST-COPY-' || i.invoice_id || n,"
        "'sequence', n, 'created_at', i.created_at + n * interval '1 ms'))).*"
        " from fiscal.invoices as i, generate_series(100, 4000) as n"
        " where i.tenant_id = %s and i.cashier_id = 'bela'"
    ),
    "drafts": (
        "insert into fiscal.drafts select (jsonb_populate_record(d, jsonb_build_object("
        "'draft_id', public.new_id('drf')))).*"
        " from fiscal.drafts as d, generate_series(100, 4000) as n"
        " where d.tenant_id = %s and d.document ->> 'cashier_id' = 'bela'"
    ),
}


@dataclass(frozen=True)
class Person:
    """A signed-in member of the till's organisation."""

    till: Till
    app_role: str = "cashier"
    outlet_id: str | None = None
    user_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def joined(self) -> "Person":
        self.till.books.run("insert into public.users (user_id) values (%s)", self.user_id)
        self.till.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role, outlet_id)"
            " values (%s, %s, %s, %s)",
            self.till.tenant_id,
            self.user_id,
            self.app_role,
            self.outlet_id,
        )
        return self

    def named(self, label: str, outlet_id: str | None = None) -> "Person":
        """Who signs in as this cashier."""
        put_operator(self.till, label, self.user_id, outlet_id)
        return self

    @property
    def headers(self) -> dict[str, str]:
        return {"x-stalela-user-id": self.user_id, "x-stalela-tenant-id": self.till.tenant_id}

    def ask(self, function: str, /, *, role: str = "fn_invoices", **arguments: Any) -> Row:
        answer = self.till.api.call(role, self.headers, function, **arguments)
        return dict(json.loads(answer["body"]))

    def listed(self, **filters: Any) -> list[str]:
        """The numbers on the first page."""
        page = self.ask("fiscal.list_invoices", filters=filters, page_size=20, page_after=None)
        return [row["fiscal_number"] for row in page["data"]]

    def seal(self, document: Document, key: str | None = None, body_hash: str = "same") -> str:
        """Number it; the fiscal number."""
        sealing = self.till.api.call(
            "fn_invoices",
            self.headers,
            "fiscal.seal",
            idempotency_key=key or str(uuid.uuid4()),
            body_hash=body_hash,
            **computed(document),
        )
        return str(sealing["work"]["fiscal_number"])

    def draft(self, document: Document) -> Row:
        return self.ask(
            "fiscal.save_draft",
            idempotency_key=str(uuid.uuid4()),
            body_hash="same",
            purpose="invoice",
            document=document.model_dump(mode="json", exclude_none=True),
            **computed(document),
        )

    def reads(self, table: str) -> set[str]:
        """The documents whose rows this person's token opens in a table, once it is granted."""
        column = {"fiscal.invoices": "invoice_id", "fiscal.events": "subject_id"}.get(
            table, "fiscal_number"
        )
        claims = {"role": "authenticated", "sub": self.user_id, "tenant_id": self.till.tenant_id}
        claims |= {"app_role": self.app_role}
        claims |= {"outlet_id": self.outlet_id} if self.outlet_id else {}
        connection = self.till.books.connection
        schema, name = table.split(".")
        with connection.transaction(force_rollback=True):
            connection.execute(
                sql.SQL("grant usage on schema {} to authenticated").format(sql.Identifier(schema))
            )
            connection.execute(
                sql.SQL("grant select on {} to authenticated").format(sql.Identifier(schema, name))
            )
            connection.execute("grant usage on schema fiscal to authenticated")
            connection.execute(
                "select set_config('request.jwt.claims', %s, true),"
                " set_config('role', 'authenticated', true)",
                [json.dumps(claims)],
            )
            query = sql.SQL("select {} from {}").format(
                sql.Identifier(column), sql.Identifier(schema, name)
            )
            return {row[0] for row in connection.execute(query)}


def computed(document: Document) -> Row:
    """What a function sends of a document."""
    priced = price(document)
    minor = 10**priced.scale
    return {
        "payload": canonical_bytes(priced.canonical).decode(),
        "canonical_payload_hash": canonical_hash(priced.canonical),
        "tax_summary": [*priced.tax_summary()],
        "total_minor": int(priced.total * minor),
        "tax_minor": int(priced.total_tax * minor),
    }


def put_operator(
    till: Till, label: str, user_id: str | None, outlet_id: str | None = None, **members: Any
) -> Row:
    arguments = {"kind": "cashier", "name": label, "status": "active"} | members
    return till.ask(
        "fiscal.put_operator",
        "fn_merchants",
        outlet_id=outlet_id or till.outlet_id,
        label=label,
        user_id=user_id,
        **arguments,
    )


def another_outlet(till: Till) -> str:
    """A second outlet of the same taxpayer."""
    return str(
        till.ask(
            "fiscal.create_outlet",
            "fn_merchants",
            outlet_code=f"{till.code}B",
            name="Limete",
            time_zone="Africa/Kinshasa",
            cut_off_hour=0,
            address=None,
        )["id"]
    )


@pytest.fixture
def amina(till: Till) -> Person:
    """The cashier `amina` of the till's outlet."""
    return Person(till).joined().named("amina")


@pytest.fixture
def bela(till: Till) -> Person:
    """Her colleague `bela`."""
    return Person(till).joined().named("bela")


@pytest.fixture
def sold(till: Till) -> tuple[Row, Row]:
    """A sale of `amina` and one of `bela`, by the shop's own system."""
    hers, his = (till.document(cashier_id=label) for label in ("amina", "bela"))
    return till.seal(hers), till.seal(his)


def refusal(asked: Any, *arguments: Any, **named: Any) -> tuple[str, str]:
    """The code and the pointer of what was refused."""
    with pytest.raises(Refused) as caught:
        asked(*arguments, **named)
    errors = caught.value.extras.get("errors", [{"pointer": ""}])
    return caught.value.code, errors[0]["pointer"]


def test_cashier_lists_own_documents_alone(
    sold: tuple[Row, Row], amina: Person, bela: Person
) -> None:
    hers, his = (row["fiscal_number"] for row in sold)

    assert amina.listed() == [hers]
    assert bela.listed() == [his]
    assert amina.listed(cashier_id="bela", outlet_id="another") == [hers]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("fiscal.get_invoice", {}),
        ("fiscal.get_creditable", {}),
        ("fiscal.get_printable", {}),
        ("fiscal.list_prints", {}),
        (
            "fiscal.print_invoice",
            {"idempotency_key": "k", "body_hash": "h", "format": "pdf", "language": "en"},
        ),
    ],
)
def test_cashier_opens_no_document_of_another(
    sold: tuple[Row, Row], amina: Person, till: Till, function: str, arguments: Row
) -> None:
    till.books.run(
        "update fiscal.invoices set status = 'fiscalized' where tenant_id = %s", till.tenant_id
    )
    own, other = (row["id"] for row in sold)

    assert refusal(amina.ask, function, invoice_id=other, **arguments)[0] == "40401"
    assert amina.ask(function, invoice_id=own, **arguments)


def test_cashier_reads_elsewhere_what_is_theirs_alone(
    sold: tuple[Row, Row], amina: Person, till: Till
) -> None:
    own, other = sold

    mails = amina.ask("messages.list_document_mails", role="fn_receipts", invoice_id=own["id"])
    assert mails == {"data": []}
    asked = "messages.list_document_mails"
    assert refusal(amina.ask, asked, role="fn_receipts", invoice_id=other["id"])[0] == "40401"
    asked = "fiscal.inclusion_proof"
    number = other["fiscal_number"]
    assert refusal(amina.ask, asked, role="fn_integrity", fiscal_number=number)[0] == "40401"
    number = own["fiscal_number"]
    assert refusal(amina.ask, asked, role="fn_integrity", fiscal_number=number)[0] == "40911"
    asked = "fiscal.numbered_invoice"
    assert refusal(amina.ask, asked, fiscal_number=other["fiscal_number"])[0] == "40401"


@pytest.mark.parametrize("app_role", ["admin", "finance", "owner", "auditor"])
def test_everybody_else_sees_the_outlet(sold: tuple[Row, Row], till: Till, app_role: str) -> None:
    person = Person(till, app_role, till.outlet_id).joined()
    elsewhere = another_outlet(till)
    manager_elsewhere = Person(till, "admin", elsewhere).joined()

    assert person.listed() == [row["fiscal_number"] for row in reversed(sold)]
    assert manager_elsewhere.listed() == []
    assert person.reads("fiscal.invoices") == {row["id"] for row in sold}
    assert manager_elsewhere.reads("fiscal.invoices") == set()


def test_key_finds_what_it_looks_for(sold: tuple[Row, Row], till: Till) -> None:
    hers, his = (row["fiscal_number"] for row in sold)
    wanted = {hers: {"fiscal_number": hers}, his: {"cashier_id": "bela"}}

    found = {
        number: till.ask(
            "fiscal.list_invoices", "fn_invoices", filters=filters, page_size=20, page_after=None
        )["data"]
        for number, filters in wanted.items()
    }

    assert {number: [row["fiscal_number"] for row in rows] for number, rows in found.items()} == {
        hers: [hers],
        his: [his],
    }


@pytest.mark.parametrize("table", DOCUMENTS)
def test_tables_show_a_cashier_what_the_functions_do(
    sold: tuple[Row, Row], amina: Person, till: Till, table: str
) -> None:
    own, other = ({row["id"], row["fiscal_number"]} for row in sold)

    seen = amina.reads(table)

    assert seen & own
    assert not seen & other
    assert seen <= own
    assert Person(till, "admin").joined().reads(table) & other


def test_tables_of_reports_are_closed_to_cashiers(till: Till, amina: Person) -> None:
    z = till.close()

    assert amina.reads("fiscal.reports") == set()
    assert Person(till, "finance").joined().reads("fiscal.reports") == {z["fiscal_number"]}


@pytest.mark.parametrize("filters", [{}, {"cashier_id": "amina"}])
def test_cashier_reads_no_report(amina: Person, till: Till, filters: Row) -> None:
    asked = {"outlet_id": till.outlet_id, "cashier_id": None, "pos_terminal_id": None} | filters

    assert refusal(amina.ask, "fiscal.x_report", role="fn_reports", **asked)[0] == "40311"


def test_cashier_sells_under_no_other_name(till: Till, amina: Person, bela: Person) -> None:
    hers, his = till.document(cashier_id="amina"), till.document(cashier_id="bela")

    number = amina.seal(hers)

    assert amina.listed() == [number]
    assert refusal(amina.seal, his) == ("42275", "/cashier_id")
    assert refusal(amina.draft, his) == ("42275", "/cashier_id")
    assert till.seal(his)["sequence"] == 2  # nothing was numbered in between


def test_person_whom_nobody_named_a_cashier_neither_sells_nor_sees(
    sold: tuple[Row, Row], till: Till
) -> None:
    stranger = Person(till).joined()

    assert stranger.listed() == []
    assert stranger.reads("fiscal.invoices") == set()
    with pytest.raises(Refused, match=f"name you one, with user_id {stranger.user_id}"):
        stranger.seal(till.document(cashier_id="amina"))


def test_key_of_another_cashier_tells_nothing(till: Till, amina: Person, bela: Person) -> None:
    document = till.document(cashier_id="amina")
    amina.seal(document, key="the-same-key")

    assert refusal(bela.seal, document, key="the-same-key") == ("42275", "/cashier_id")


def test_cashier_keeps_to_their_outlet(till: Till, sold: tuple[Row, Row], amina: Person) -> None:
    elsewhere = another_outlet(till)
    namesake = till.seal(till.document(cashier_id="amina", outlet_id=elsewhere))

    assert namesake["fiscal_number"] not in amina.listed()
    assert refusal(amina.ask, "fiscal.get_invoice", invoice_id=namesake["id"])[0] == "40401"
    document = till.document(cashier_id="amina", outlet_id=elsewhere)
    assert refusal(amina.seal, document)[0] == "40401"


def test_cashier_credits_own_sales_alone(
    till: Till, sold: tuple[Row, Row], amina: Person, bela: Person
) -> None:
    hers = sold[0]
    credit = {
        "invoice_type": "credit_note",
        "original_fiscal_number": hers["fiscal_number"],
        "credit_reason": "returned_goods",
    }

    by_another = refusal(bela.seal, till.document(cashier_id="bela", **credit))
    amina.seal(till.document(cashier_id="amina", **credit))

    assert by_another == ("42275", "/original_fiscal_number")
    assert len(amina.listed()) == 2


def test_supervisor_credits_what_anybody_of_the_outlet_sold(
    till: Till, sold: tuple[Row, Row]
) -> None:
    supervisor = Person(till, "admin", till.outlet_id).joined()

    number = supervisor.seal(
        till.document(
            cashier_id="supervisor",
            invoice_type="credit_note",
            original_fiscal_number=sold[0]["fiscal_number"],
            credit_reason="returned_goods",
        )
    )

    assert number in supervisor.listed()


def test_cashier_handles_own_drafts_alone(till: Till, amina: Person, bela: Person) -> None:
    draft = amina.draft(till.document(cashier_id="amina"))
    page = {"filters": {}, "page_size": 20, "page_after": None}

    assert [row["id"] for row in amina.ask("fiscal.list_drafts", **page)["data"]] == [draft["id"]]
    assert bela.ask("fiscal.list_drafts", **page)["data"] == []
    assert refusal(bela.ask, "fiscal.get_draft", draft_id=draft["id"])[0] == "40401"
    assert refusal(bela.ask, "fiscal.cancel_draft", draft_id=draft["id"])[0] == "40401"
    admin = Person(till, "admin").joined()
    assert admin.ask("fiscal.get_draft", draft_id=draft["id"])["id"] == draft["id"]


def test_one_person_is_one_cashier(till: Till, amina: Person) -> None:
    assert refusal(put_operator, till, "bela", amina.user_id) == ("40914", "/user_id")

    put_operator(till, "amina", None)

    assert put_operator(till, "bela", amina.user_id)["user_id"] == amina.user_id


@pytest.mark.parametrize("kind", ["terminal", "cashier"])
def test_only_members_are_named_cashiers(till: Till, kind: str) -> None:
    stranger = str(uuid.uuid4())

    assert refusal(put_operator, till, "till", stranger, kind=kind) == ("42262", "/user_id")


@pytest.mark.parametrize("noun", ["invoices", "drafts"])
def test_list_of_a_cashier_reads_own_rows_alone(till: Till, amina: Person, noun: str) -> None:
    """By an index: what colleagues sold costs nothing."""
    sells = {"invoices": Person.seal, "drafts": Person.draft}[noun]
    sells(amina, till.document(cashier_id="amina"))
    sells(Person(till, "admin").joined(), till.document(cashier_id="bela"))
    with till.books.connection.transaction():
        till.books.run("set local session_replication_role = replica")
        till.books.run(COPIES[noun], till.tenant_id)
    till.books.run(f"analyze fiscal.{noun}")

    with till.books.connection.transaction():
        till.books.run(
            "select set_config('role', 'fn_invoices', true),"
            " set_config('request.headers', %s, true)",
            json.dumps(amina.headers),
        )
        before = rows_read(till, noun)
        body = till.books.value(f"select (fiscal.list_{noun}('{{}}', 20, null)).body")
        read = rows_read(till, noun) - before

    assert len(json.loads(body)["data"]) == 1
    assert read < 50


def rows_read(till: Till, noun: str) -> int:
    """Rows of a table that this transaction has fetched so far."""
    return int(
        till.books.value(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_all_tables"
            " where relid = %s::regclass",
            f"fiscal.{noun}",
        )
    )
