import base64
import json
import struct
from hashlib import sha256

import pytest

from scripts.stack.places import ROOT
from shared.canonical import NotCanonical, canonical_bytes, canonical_hash
from shared.fiscal.chain import GENESIS, entry_hash
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.fiscal.seal import Seal, auth_code

FIXTURES = ROOT / "tests/fixtures/fiscal"
COMPUTED = ("tax_rate", "line_base", "tax_amount", "line_total")

# Known answers of RFC 8785 and of the fiscal reference, section 23.1.
DOCUMENTS = [
    (
        '[ 56, { "d": true, "10": null, "1": [ ] } ]',
        "099601b171cafed97c333f8878d68e7f8c8f795412adb34b2fdcf0e7c7beac42",
    ),
    (
        (
            '{"peach":"This sorting order","péché":"is wrong according to French",'
            '"pêche":"but canonicalization MUST","sin":"ignore locale"}'
        ),
        "d99d0ebdcb0033cb858cfa830ae46bc0fb3309413b271f1da828c89901a27ed5",
    ),
    (
        (
            r'{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],'
            r'"string":"\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/",'
            r'"literals":[null,true,false]}'
        ),
        "2d5e01a318d0f0879ab568c4be289c8b1f64ef8921a53c6277d5e069978baacb",
    ),
]
NUMBERS = [
    ("0000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("44b52d02c7e14af6", "1e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
]


@pytest.mark.parametrize(("text", "digest"), DOCUMENTS)
def test_known_documents(text: str, digest: str) -> None:
    assert sha256(canonical_bytes(json.loads(text))).hexdigest() == digest


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_known_numbers(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))

    assert canonical_bytes(number).decode() == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, -(2**53), {"a": "\ud800"}])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical_bytes(value)


@pytest.mark.parametrize(
    ("number", "digest"),
    [
        (1, "f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"),
        (2, "7a3fe2d346f1c297015461bf1d9040f884339b9f7bb672d5018fb31f5d74d218"),
    ],
)
@pytest.mark.parametrize("is_declared", [True, False])
def test_invoices_of_the_reference_byte_for_byte(
    number: int, digest: str, is_declared: bool
) -> None:
    text = (FIXTURES / f"invoice_{number}.json").read_text()
    sent = json.loads(text)
    if not is_declared:
        del sent["tax_groups"], sent["tax_rounding_adjustment"]
        sent["totals"] = {"currency": "CDF"}
        sent["items"] = [
            {name: value for name, value in item.items() if name not in COMPUTED}
            for item in sent["items"]
        ]

    canonical = price(Document.model_validate(sent)).canonical

    assert canonical_bytes(canonical).decode() == text
    assert canonical_hash(canonical) == digest


def test_first_seal_and_chain_entry_of_the_reference() -> None:
    seal = Seal(
        jurisdiction="CD",
        outlet_id="outlet-kin001",
        fiscal_authority_id="stalela-signer-01",
        fiscal_number="STL-KIN001-000001",
        sequence=1,
        canonical_payload_hash="f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a",
        previous_hash=GENESIS,
        sealed_at="2026-02-17T04:00:02Z",
        key_id="cd-es256-2026a",
    )

    entry = entry_hash(seal.fiscal_number, seal.canonical_payload_hash, seal.sealed_at, GENESIS)

    assert base64.b64encode(seal.digest()) == b"93iCJKT1QpJmRMcLYx57nMGIVs7PnNUMDd/fMbY8tr8="
    assert entry == "b66208286231f5add609acdab73a263bbf8698f3bb0bc99690d00fed2037eeea"


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        (
            "iDu6ayrlq8NSybWEUPDVXudNMolbJpW2sCSn3sOBr55wr0pV6B_hwOyFZVM5bgTvwomAfnXFitB5HuinAzjn4Q",
            "K56Y-BV6M-60QQ-5NM4",
        ),
        (
            "d6BkjdgIvLrmXBlSRv6Tmve15ZG0iKRhZf9wZjEtnu2RyjEANuTQ08ycOQhxUKHtfwUwZ1nZgdeap4QXftm0CQ",
            "KKGT-4JMF-X5RD-HCXH",
        ),
    ],
)
def test_code_that_people_compare(signature: str, code: str) -> None:
    assert auth_code(base64.urlsafe_b64decode(signature + "==")) == code


def test_second_chain_entry_of_the_reference() -> None:
    assert (
        entry_hash(
            "STL-KIN001-000002",
            "7a3fe2d346f1c297015461bf1d9040f884339b9f7bb672d5018fb31f5d74d218",
            "2026-02-17T04:05:01Z",
            "b66208286231f5add609acdab73a263bbf8698f3bb0bc99690d00fed2037eeea",
        )
        == "b5d1a94d8094ffee27a495fbe08c6bc94c6bffcccb934213132b85f2f41a15dc"
    )
