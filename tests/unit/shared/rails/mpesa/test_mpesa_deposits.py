"""C2B: the addresses registered, the bodies asked about and reported, the answers given."""

import json
from typing import Any

import pytest

from shared.errors import CredentialsRefused, InvalidParameter
from shared.money import Money
from shared.rails.base import CallbackNotUnderstood, DepositRefusal, DepositUrls, RailUnavailable
from shared.rails.mpesa import deposits
from shared.rails.mpesa.credentials import read_credentials
from tests.unit.shared.rails.mpesa.initiators import document

URLS = DepositUrls(
    validation="https://pay.example.ke/functions/v1/momo-callback/c2b/0a1b/validation",
    confirmation="https://pay.example.ke/functions/v1/momo-callback/c2b/0a1b/confirmation",
)


def body(**changes: Any) -> bytes:
    fields = {
        "TransactionType": "Pay Bill",
        "TransID": "UKL2D5E6F7",
        "TransTime": "20261120090240",
        "TransAmount": "12000.00",
        "BusinessShortCode": "600174",
        "BillRefNumber": "rent nov 4B",
        "InvoiceNumber": "",
        "OrgAccountBalance": "113500.00",
        "ThirdPartyTransID": "dep_1",
        "MSISDN": "2547 ***** 126",
        "FirstName": "BRIAN",
        "MiddleName": "",
        "LastName": "OTIENO",
    } | changes
    return json.dumps(fields).encode()


def test_a_confirmation_is_read_whole() -> None:
    deposit = deposits.read_deposit(body())

    assert deposit.to_json() == {
        "receipt": "UKL2D5E6F7",
        "amount_minor": 1200000,
        "currency": "KES",
        "paid_to": "600174",
        "account_reference": "rent nov 4B",
        "payer_masked": "+2547******26",
        "occurred_at": "2026-11-20T06:02:40+00:00",
        "transaction_type": "Pay Bill",
        "balance_minor": 11350000,
        "validation_ref": "dep_1",
    }
    assert deposit.payer_name == "BRIAN OTIENO"
    assert "OTIENO" not in repr(deposit)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("2547****126", "+2547******26"),
        ("25470****149", "+2547******49"),
        ("254700000126", "+2547******26"),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", None),
        ("", None),
    ],
)
def test_a_payer_is_shown_by_what_every_version_tells(told: str, shown: str | None) -> None:
    assert deposits.read_deposit(body(MSISDN=told)).payer_masked == shown


@pytest.mark.parametrize("amount", ["10", "10.00", 10, "10.0"])
def test_an_amount_is_read_in_every_spelling(amount: object) -> None:
    assert deposits.read_deposit(body(TransAmount=amount)).amount == Money(1000, "KES")


def test_a_phone_in_place_of_a_name_is_no_name() -> None:
    told = body(FirstName="254700000126", MiddleName="", LastName="")

    assert deposits.read_deposit(told).payer_name is None


@pytest.mark.parametrize("balance", ["", None, "much"])
def test_a_missing_balance_decides_nothing(balance: object) -> None:
    deposit = deposits.read_deposit(body(OrgAccountBalance=balance))

    assert (deposit.balance, deposit.receipt) == (None, "UKL2D5E6F7")


@pytest.mark.parametrize(
    "changes",
    [
        {"TransID": ""},
        {"TransID": None},
        {"TransAmount": ""},
        {"TransAmount": "0"},
        {"TransAmount": "-5"},
        {"TransAmount": "ten"},
        {"BusinessShortCode": ""},
    ],
)
def test_a_deposit_without_its_facts_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CallbackNotUnderstood):
        deposits.read_deposit(body(**changes))


def test_addresses_are_registered_so_that_nobody_is_turned_away_when_we_are_down() -> None:
    built = deposits.register_body(read_credentials(document()), URLS)

    assert built == {
        "ShortCode": 600123,
        "ResponseType": "Completed",
        "ConfirmationURL": URLS.confirmation,
        "ValidationURL": URLS.validation,
    }


def test_an_address_that_daraja_refuses_is_named() -> None:
    urls = DepositUrls("https://pay.example/mpesa/validation", "https://pay.example/x")

    with pytest.raises(InvalidParameter):
        deposits.register_body(read_credentials(document()), urls)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {"OriginatorCoversationID": "1", "ResponseCode": "0"}),
        (500, {"errorCode": "500.003.1001", "errorMessage": "Urls are already registered."}),
    ],
)
def test_registered_now_or_before_is_registered(status: int, said: dict[str, str]) -> None:
    deposits.read_registration(status, json.dumps(said).encode())


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (500, {"errorCode": "500.003.1001", "errorMessage": "Internal"}, RailUnavailable),
        (502, {}, RailUnavailable),
        (200, {"ResponseCode": "1"}, RailUnavailable),
        (400, {"errorCode": "400.003.02"}, CredentialsRefused),
    ],
)
def test_a_registration_that_failed_says_how(
    status: int, said: dict[str, str], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        deposits.read_registration(status, json.dumps(said).encode())


def test_a_validation_is_answered_in_codes() -> None:
    assert deposits.answer_validation(None, "dep_1") == {
        "ResultCode": "0",
        "ResultDesc": "Accepted",
        "ThirdPartyTransID": "dep_1",
    }
    assert deposits.answer_validation(DepositRefusal.ACCOUNT, None)["ResultCode"] == "C2B00012"
    assert {deposits.answer_validation(r, None)["ResultCode"] for r in DepositRefusal} == {
        f"C2B0001{n}" for n in range(1, 7)
    }
