"""What the fixtures of results cannot hold: balances, and kinds that are read elsewhere."""

import json

import pytest

from shared.rails.base import AccountBalance, CallbackNotUnderstood
from shared.rails.mpesa import results

ACCOUNTS = (
    "Working Account|KES|113500.00|113500.00|0.00|0.00&Utility\nAccount|KES|97500.50|0.00|25.00|0"
    "&Charges Paid Account|KES|-1540.00|-1540.00|0.00|0.00"
)


def body(code: object = 0, **parameters: object) -> bytes:
    pairs = [{"Key": key, "Value": value} for key, value in parameters.items()]
    return json.dumps(
        {
            "Result": {
                "ResultCode": code,
                "ResultDesc": "said",
                "ResultParameters": {"ResultParameter": pairs},
            }
        }
    ).encode()


def test_balances_are_read_account_by_account_below_zero_too() -> None:
    report = results.read_balance(body(AccountBalance=ACCOUNTS, BOCompletedTime=20261121104003))

    assert report.accounts == (
        AccountBalance("Working Account", "KES", 11350000, 11350000, 0),
        AccountBalance("Utility Account", "KES", 9750050, 0, 2500),
        AccountBalance("Charges Paid Account", "KES", -154000, -154000, 0),
    )
    assert str(report.occurred_at) == "2026-11-21 07:40:03+00:00"


def test_an_account_may_tell_only_what_is_available() -> None:
    report = results.read_balance(body(AccountBalance="Merchant Account|KES|5.00"))

    assert report.accounts == (AccountBalance("Merchant Account", "KES", 500),)


@pytest.mark.parametrize("code", [15, "18", 26, "100000001"])
def test_a_balance_that_was_not_told_says_why(code: object) -> None:
    report = results.read_balance(body(code))

    assert (report.accounts, report.code, report.message) == ((), str(code), "said")


@pytest.mark.parametrize(
    "accounts",
    [None, 5, "Working Account", "Working Account|KES", "Working Account|XXX|1", "A|KES|much"],
)
def test_a_balance_that_cannot_be_read_is_refused(accounts: object) -> None:
    with pytest.raises(CallbackNotUnderstood):
        results.read_balance(body(AccountBalance=accounts))
