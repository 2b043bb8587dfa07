"""A document file verifies by itself, and a change of it is found by the check it belongs to."""

import base64
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from scripts.verify_invoice import main
from shared.canonical import canonical_hash
from shared.fiscal.chain import GENESIS, entry_hash
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.fiscal.proof import CHECKED, Check, prove, read_keys
from shared.fiscal.seal import Seal, auth_code
from shared.signing.encoding import from_base64url, publish

Json = dict[str, Any]
Path_ = tuple[str | int, ...]
SIGNER = ec.derive_private_key(0x57A1E1A, ec.SECP256R1())
STRANGER = ec.derive_private_key(0xBAD, ec.SECP256R1())


def key_list(**members: Any) -> Json:
    spki = SIGNER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = {
        "key_id": "cd-es256-2026-01",
        "jurisdiction": "CD",
        "environment": "production",
        "alg": "ES256",
        "public_key": {"spki": base64.b64encode(spki).decode()},
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": None,
        "status": "active",
        "revoked_at": None,
    }
    return {"keys": [key | members]}


def sign(seal: Seal, signer: ec.EllipticCurvePrivateKey = SIGNER) -> str:
    der = signer.sign(seal.digest(), ec.ECDSA(Prehashed(SHA256())))
    return publish(der, "ES256")


def seal_file(document: Json, signer: ec.EllipticCurvePrivateKey = SIGNER) -> Json:
    """The answer of GET /invoices/{id} for a document, sealed here as the house seals."""
    priced = price(Document.model_validate(document))
    seal = Seal(
        jurisdiction="CD",
        outlet_id=document["outlet_id"],
        fiscal_authority_id="stalela-cd-01",
        fiscal_number="STL-KIN001-000001",
        sequence=1,
        canonical_payload_hash=canonical_hash(priced.canonical),
        previous_hash=GENESIS,
        sealed_at="2026-02-17T04:00:02Z",
        key_id="cd-es256-2026-01",
    )
    signature = sign(seal, signer)
    return {
        "id": "inv_01kaj3vq1nfr5r3e2n9v4d8yzx",
        "object": "invoice",
        "status": "fiscalized",
        "fiscal_number": seal.fiscal_number,
        "sequence": 1,
        "sealed": {
            "fiscal_authority_id": seal.fiscal_authority_id,
            "sealed_at": seal.sealed_at,
            "auth_code": auth_code(from_base64url(signature)),
            "signature": signature,
            "signature_alg": "ES256",
            "key_id": seal.key_id,
            "canonical_payload_hash": seal.canonical_payload_hash,
            "previous_hash": seal.previous_hash,
            "ledger_hash": entry_hash(
                seal.fiscal_number,
                seal.canonical_payload_hash,
                seal.sealed_at,
                seal.previous_hash,
            ),
        },
        "document": priced.canonical,
        "tax_summary": priced.tax_summary(),
        "credited_amount": "0.00",
        "original_invoice": None,
        "authority_sync_status": "NOT_APPLICABLE",
        "authority": None,
        "environment": "production",
        "created_at": "2026-02-17T04:00:02.104221+00:00",
    }


@pytest.fixture
def file(invoice: Callable[..., Json]) -> Json:
    return seal_file(invoice(metadata={"till": "3"}, notes="Merci"))


def checks(file: object, keys: Json | None = None) -> set[str]:
    return {str(finding.check) for finding in prove(file, read_keys(keys or key_list()))}


def test_document_verifies_with_the_published_key(file: Json) -> None:
    assert prove(file, read_keys(key_list())) == []


def test_document_verifies_however_its_file_is_written(file: Json) -> None:
    def reversed_members(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: reversed_members(value[name]) for name in sorted(value, reverse=True)}
        return [reversed_members(each) for each in value] if isinstance(value, list) else value

    rewritten = json.loads(json.dumps(reversed_members(file), indent=4, ensure_ascii=True))

    assert checks(rewritten) == set()


# --- a change anywhere is found


def leaves(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """The place of every text, number and null in a decoded file."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, member in members:
        if isinstance(member, dict | list) and member:
            yield from leaves(member, (*at, name))
        else:
            yield (*at, name)


def changed(value: Any) -> Any:
    """Another value of the same type, as close as it gets."""
    if isinstance(value, str):
        last = value[-1:]
        return value[:-1] + ("1" if last != "1" else "2")
    return value + 1 if isinstance(value, int) else "added"


def put(file: Json, place: Path_, value: Any) -> Json:
    tampered = copy.deepcopy(file)
    holder: Any = tampered
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return tampered


FOUND_BY = {
    ("object",): Check.FILE,
    ("status",): Check.FILE,
    ("fiscal_number",): Check.ENTRY_HASH,
    ("sequence",): Check.SIGNATURE,
    ("sealed", "fiscal_authority_id"): Check.SIGNATURE,
    ("sealed", "sealed_at"): Check.FILE,  # its last letter is the zone; other times are below
    ("sealed", "auth_code"): Check.AUTH_CODE,
    ("sealed", "signature"): Check.SIGNATURE,
    ("sealed", "signature_alg"): Check.KEY,
    ("sealed", "key_id"): Check.KEY,
    ("sealed", "canonical_payload_hash"): Check.PAYLOAD_HASH,
    ("sealed", "previous_hash"): Check.ENTRY_HASH,
    ("sealed", "ledger_hash"): Check.ENTRY_HASH,
    ("document",): Check.PAYLOAD_HASH,
    ("tax_summary",): Check.SUMMARY,
    ("original_invoice",): Check.SUMMARY,
    ("environment",): Check.KEY,
}


def check_of(place: Path_) -> Check:
    (found,) = [check for start, check in FOUND_BY.items() if place[: len(start)] == start]
    return found


def places() -> list[Path_]:
    """Every leaf of a file like the fixture's."""
    item = {
        "line_no": 1,
        "code": "C-1",
        "description": "Article",
        "kind": "goods",
        "quantity": "1",
        "unit_price": "100000.00",
    }
    document = {
        "schema_version": "1.0",
        "jurisdiction": "CD",
        "merchant_tin": "308123456",
        "outlet_id": "outlet-kin001",
        "pos_terminal_id": "pos-1",
        "cashier_id": "cashier-1",
        "invoice_type": "sale",
        "timestamp": "2026-02-17T04:00:00Z",
        "tax_group_manifest_version": "CD-2026-01",
        "price_mode": "exclusive",
        "client": {"classification": "individual"},
        "items": [item],
        "totals": {"currency": "CDF"},
        "payments": [{"method": "cash", "amount": "116000.00", "currency": "CDF"}],
        "notes": "Merci",
        "metadata": {"till": "3"},
    }
    return [place for place in leaves(seal_file(document)) if place[0] in CHECKED]


@pytest.mark.parametrize("place", places(), ids=lambda place: ".".join(map(str, place)))
def test_changed_member_is_found(file: Json, place: Path_) -> None:
    value: Any = file
    for name in place:
        value = value[name]

    found = checks(put(file, place, changed(value)))

    assert check_of(place) in found


@pytest.mark.parametrize("place", places(), ids=lambda place: ".".join(map(str, place)))
def test_missing_member_is_found(file: Json, place: Path_) -> None:
    tampered = copy.deepcopy(file)
    holder: Any = tampered
    for name in place[:-1]:
        holder = holder[name]
    del holder[place[-1]]

    assert checks(tampered) != set()


@pytest.mark.parametrize("place", [("document",), ("document", "items", 0), ("sealed",)])
@pytest.mark.parametrize("value", [None, [], "text", 7, 1.5, float("nan"), 2**70, "\ud800"])
def test_nonsense_is_a_finding_and_never_an_error(file: Json, place: Path_, value: Any) -> None:
    assert checks(put(file, place, value)) != set()


@pytest.mark.parametrize("nonsense", [None, [], "text", 7, {}, {"object": "invoice"}])
def test_what_is_no_invoice_is_said_to_be_none(nonsense: Any) -> None:
    assert checks(nonsense) == {"file"}


def test_members_that_are_added_beside_the_seal_prove_nothing(file: Json) -> None:
    assert checks(file | {"copies": 2}) == set()
    assert checks(put(file, ("document", "copies"), 2)) == {"payload_hash"}


def test_document_without_its_seal_is_not_sealed(file: Json) -> None:
    waiting = file | {"sealed": None, "status": "pending_signature"}

    assert checks(waiting) == {"file"}


def test_time_that_was_moved_is_found_in_hash_and_signature(file: Json) -> None:
    moved = put(file, ("sealed", "sealed_at"), "2026-02-17T04:00:03Z")

    assert checks(moved) == {"entry_hash", "signature"}


def test_hashes_made_to_fit_do_not_fit_the_signature(file: Json) -> None:
    forged = put(file, ("document", "totals", "total"), "1.00")
    sealed = forged["sealed"]
    sealed["canonical_payload_hash"] = canonical_hash(forged["document"])
    sealed["ledger_hash"] = entry_hash(
        forged["fiscal_number"],
        sealed["canonical_payload_hash"],
        sealed["sealed_at"],
        sealed["previous_hash"],
    )

    assert checks(forged) == {"signature"}


def test_signature_of_a_stranger_is_none(invoice: Callable[..., Json]) -> None:
    assert checks(seal_file(invoice(), STRANGER)) == {"signature"}


def test_signature_has_one_text(file: Json) -> None:
    signature = file["sealed"]["signature"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bytes = signature[:-1] + alphabet[alphabet.index(signature[-1]) + 1]

    assert base64.urlsafe_b64decode(same_bytes + "==") == from_base64url(signature)
    assert checks(put(file, ("sealed", "signature"), same_bytes)) == {"signature", "auth_code"}


def test_the_other_signature_of_the_same_key_has_another_code(file: Json) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = from_base64url(file["sealed"]["signature"])
    twin = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    text = base64.urlsafe_b64encode(twin).rstrip(b"=").decode()

    assert checks(put(file, ("sealed", "signature"), text)) == {"auth_code"}


# --- keys


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"status": "revoked", "revoked_at": "2026-02-17T04:00:01Z"}, {"revoked_key"}),
        (
            {"revoked_at": "2026-02-17T04:00:01Z", "valid_until": "2026-02-17T04:00:00Z"},
            {"revoked_key"},
        ),
        (
            {"revoked_at": "2026-02-17T04:00:03Z", "valid_until": "2026-02-17T04:00:00Z"},
            {"key"},
        ),
        ({"status": "revoked", "revoked_at": "2026-02-17T04:00:02Z"}, set()),
        ({"status": "revoked", "revoked_at": "2026-03-01T00:00:00+02:00"}, set()),
        ({"status": "retired", "valid_until": "2026-02-17T04:00:01Z"}, {"key"}),
        ({"status": "retired", "valid_until": "2026-02-17T04:00:02.1Z"}, set()),
        ({"jurisdiction": "KE"}, {"key"}),
        ({"environment": "sandbox"}, {"key"}),
        ({"alg": "PS256"}, {"key", "signature"}),
        ({"key_id": "cd-es256-2025-01"}, {"key"}),
        ({"public_key": {"spki": "bm8ga2V5"}}, {"signature"}),
        ({"public_key": {"spki": "%%%"}}, {"signature"}),
    ],
)
def test_key_must_have_been_the_one_in_use(file: Json, members: Json, found: set[str]) -> None:
    assert checks(file, key_list(**members)) == found


@pytest.mark.parametrize(
    "published", [None, [], {}, {"keys": [{}]}, key_list(alg="none"), key_list(valid_until="soon")]
)
def test_list_that_is_no_list_of_keys_is_refused(published: Any) -> None:
    with pytest.raises(ValueError, match=r"keys|the file: must be an object"):
        read_keys(published)


# --- the script


@pytest.fixture
def saved(tmp_path: Path, file: Json) -> list[str]:
    (tmp_path / "invoice.json").write_text(json.dumps(file))
    (tmp_path / "keys.json").write_text(json.dumps(key_list()))
    return [str(tmp_path / "invoice.json"), "--keys", str(tmp_path / "keys.json")]


def test_script_says_what_it_checked(saved: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(saved) == 0

    printed = capsys.readouterr().out
    assert printed.count("  ok  ") == len(Check)
    assert (
        "not verified: authority, authority_sync_status, created_at, credited_amount, id" in printed
    )
    assert "verified: STL-KIN001-000001, sealed at 2026-02-17T04:00:02Z" in printed


def test_script_names_what_is_wrong(saved: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(saved[0])
    path.write_text(path.read_text().replace('"line_total": "116000.00"', '"line_total": "6.00"'))

    assert main(saved) == 1

    printed = capsys.readouterr().out
    assert "  FAIL  payload_hash  the document's hash is " in printed
    assert "NOT verified: invoice.json" in printed
    assert printed.count("  ok  ") == len(Check) - 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"status": "fiscalized", "status": "void"}', "a member is there twice"),
    ],
)
def test_script_refuses_what_it_cannot_read(
    saved: list[str], capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    Path(saved[0]).write_text(text)

    assert main(saved) == 2

    assert complaint in capsys.readouterr().err


def test_script_refuses_keys_that_are_none(
    saved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(saved[2]).write_text("[]")

    assert main(saved) == 2

    printed = capsys.readouterr().err
    assert printed.endswith("is no answer of /verify/keys: the file: must be an object\n")


def test_script_names_a_file_that_is_missing(
    saved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(saved[0]).unlink()

    assert main(saved) == 2

    printed = capsys.readouterr().err
    assert printed == f"verify-invoice: {saved[0]} cannot be read: No such file or directory\n"
