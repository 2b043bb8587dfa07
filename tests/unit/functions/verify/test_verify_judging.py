"""The judgement: every check fails alone, and a miss is judged with the same work as a hit."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.verify.judging import Facts, Question, Verdict, judge
from shared.fiscal import proof
from shared.fiscal.chain import GENESIS, entry_hash
from shared.fiscal.seal import Seal, auth_code
from shared.signing.encoding import from_base64url, publish

Json = dict[str, Any]
SIGNER = ec.derive_private_key(0x57A1E1A, ec.SECP256R1())
NUMBER = "STL-KIN001-000002"
BEFORE = {
    "fiscal_number": "STL-KIN001-000001",
    "canonical_payload_hash": "a" * 64,
    "sealed_at": "2026-02-17T04:00:00Z",
    "previous_hash": GENESIS,
}
PREVIOUS = BEFORE | {"is_local": False}


def facts(**members: Any) -> Json:
    """What SQL says about a document that is as it was sealed; keywords replace members."""
    spki = SIGNER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    seal = Seal(
        jurisdiction="CD",
        outlet_id="out_1",
        fiscal_authority_id="stalela-cd-01",
        fiscal_number=NUMBER,
        sequence=2,
        canonical_payload_hash="b" * 64,
        previous_hash=entry_hash(**BEFORE),
        sealed_at="2026-02-17T04:00:02Z",
        key_id="cd-es256-2026-01",
    )
    der = SIGNER.sign(seal.digest(), ec.ECDSA(Prehashed(SHA256())))
    signature = publish(der, "ES256")
    own = entry_hash(NUMBER, seal.canonical_payload_hash, seal.sealed_at, seal.previous_hash)
    return {
        "is_known": True,
        "environment": "production",
        "seal": {name: getattr(seal, name) for name in Seal.__dataclass_fields__ if name != "v"},
        "signed": {
            "entry_hash": own,
            "signature": signature,
            "signature_alg": "ES256",
            "auth_code": auth_code(from_base64url(signature)),
        },
        "key": {
            "key_id": seal.key_id,
            "jurisdiction": "CD",
            "environment": "production",
            "alg": "ES256",
            "public_key": {"spki": base64.b64encode(spki).decode()},
            "valid_until": None,
            "revoked_at": None,
        },
        "payload_hash": seal.canonical_payload_hash,
        "local": None,
        "is_first": False,
        "previous": PREVIOUS,
        "next": {"previous_hash": own},
        "merchant_name": "Acacia Books",
        "outlet_name": "Gombe",
        "total": "1160.00",
        "currency": "CDF",
        "invoice_type": "sale",
        "credited": "none",
        "authority_sync_status": "NOT_APPLICABLE",
        "authority_acknowledged_at": None,
    } | members


def judged(told: Json, code: str | None = None, **paper: str) -> Verdict:
    """What is found with the right code, or with `code`."""
    right = told["signed"]["auth_code"]
    question = Question.of(NUMBER, right if code is None else code, **paper)
    return judge(Facts.model_validate(told), question)


def test_document_as_it_was_sealed_is_verified() -> None:
    verdict = judged(facts())

    assert (verdict.status, verdict.problems, verdict.is_shown) == ("verified", (), True)
    assert judged(facts(next=None)).status == "verified"


@pytest.mark.parametrize(
    ("members", "problems"),
    [
        ({"payload_hash": "c" * 64}, ("payload_hash",)),
        ({"payload_hash": None}, ("payload_hash",)),
        ({"environment": "sandbox"}, ("key",)),
        ({"is_first": True}, ("chain",)),
        ({"previous": None}, ("chain",)),
        ({"previous": PREVIOUS | {"canonical_payload_hash": "d" * 64}}, ("chain",)),
        ({"previous": PREVIOUS | {"sealed_at": "2026-02-17T05:00:00Z"}}, ("chain", "time")),
        ({"next": {"previous_hash": "e" * 64}}, ("chain",)),
    ],
)
def test_what_does_not_fit_is_named(members: Json, problems: tuple[str, ...]) -> None:
    verdict = judged(facts(**members))

    assert (verdict.status, verdict.problems) == ("tampered", problems)


@pytest.mark.parametrize(
    ("part", "member", "value", "problems"),
    [
        ("seal", "outlet_id", "out_2", ("signature",)),
        ("seal", "sequence", 3, ("signature",)),
        ("signed", "entry_hash", "f" * 64, ("entry_hash", "chain")),
        ("signed", "auth_code", "K56Y-BV6M-60QQ-5NM4", ("auth_code",)),
        ("signed", "signature_alg", "PS256", ("key",)),
        ("key", "revoked_at", "2026-02-17T04:00:01Z", ("revoked_key",)),
        ("key", "valid_until", "2026-02-17T04:00:01Z", ("key",)),
    ],
)
def test_part_that_does_not_fit_is_named(
    part: str, member: str, value: object, problems: tuple[str, ...]
) -> None:
    told = facts()
    told[part] |= {member: value}

    assert judged(told).problems == problems


def test_first_of_a_chain_follows_nothing() -> None:
    told = facts(previous=None, is_first=True)

    assert judged(told).problems == ("chain",)  # its previous_hash is not the genesis


@pytest.mark.parametrize("paper", [{"sealed_at": "2026-02-17T04:00:03Z"}, {"authority": "zw-01"}])
def test_paper_that_says_otherwise_is_altered(paper: dict[str, str]) -> None:
    assert judged(facts(), **paper).problems == ("paper",)


@pytest.mark.parametrize(
    ("known", "own", "code", "is_shown"),
    [
        (True, False, None, True),
        (True, False, "K56YBV6M60QQ5NM4", False),
        (True, False, "", False),
        (True, True, "K56YBV6M60QQ5NM4", True),
        (False, False, None, False),
        (False, True, None, False),
    ],
)
def test_only_who_has_the_paper_or_sealed_it_sees_it(
    known: bool, own: bool, code: str | None, is_shown: bool
) -> None:
    assert judged(facts(is_known=known, is_own=own), code).is_shown is is_shown


@pytest.mark.parametrize(("known", "code"), [(True, None), (True, "K56Y"), (False, "K56Y")])
def test_hit_and_miss_are_the_same_work(
    monkeypatch: pytest.MonkeyPatch, known: bool, code: str | None
) -> None:
    verified: list[bytes] = []

    def counted(digest: bytes, signature: str, alg: str, spki: str) -> bool:
        verified.append(digest)
        return True

    monkeypatch.setattr(proof, "is_signed", counted)

    judged(facts(is_known=known), code)

    assert len(verified) == 1


@pytest.mark.parametrize(
    "written",
    ["stl-kin001-000002", " STL-KIN001-000002 ", "STL-KIN001-000002\u200f"],
)
def test_number_is_read_as_people_write_it(written: str) -> None:
    assert Question.of(written, "").fiscal_number == NUMBER


def test_qr_of_ours_is_read_and_others_are_not() -> None:
    ours = (
        "https://v.example/functions/v1/verify/i?fn=STL-KIN001-000002&ac=K56YBV6M60QQ5NM4"
        "&ts=2026-02-17T04%3A00%3A02Z&fa=stalela-cd-01"
    )

    assert Question.of_qr(ours) == Question(
        NUMBER, "K56YBV6M60QQ5NM4", "2026-02-17T04:00:02Z", "stalela-cd-01"
    )
    assert Question.of_qr(ours.replace("/i?", "/j?")) is None
    assert Question.of_qr("F;CD123;ABC;20260217040002") is None
