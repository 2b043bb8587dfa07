"""From a rail's callback to `succeeded` in the answer to a GET."""

from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from scripts.benchmarks.intents import PATH, Payers, confirm_load
from scripts.benchmarks.load import News, deliver, percentile, send
from scripts.benchmarks.place import Place
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure
from scripts.benchmarks.wire import request

AT_ONCE: Final = 8

_WAITING: Final = """
select t.rail_ref, t.payment_intent_id, t.tenant_id
from payments.transfers as t
where t.state = 'ACCEPTED' and t.tenant_id = any(%s)
"""


def measure_callbacks(place: Place, rounds: Rounds, count: int) -> list[Figure]:
    """The callbacks are sent from here, a few at once, as Daraja would."""
    payers = Payers(first=200_000)
    deliver(news(place, payers, 2 * AT_ONCE))

    runs = rounds.prepared("callbacks", lambda: news(place, payers, count), deliver)
    return [
        figure(
            f"callback answered, {AT_ONCE} at once: p99",
            runs,
            lambda seen: percentile(seen.answered_ms, 0.99),
            "ms",
            Target("<", 200),
        ),
        figure(
            f"callback to succeeded visible, {AT_ONCE} at once: p50",
            runs,
            lambda seen: percentile(seen.visible_ms, 0.5),
            "ms",
        ),
        figure(
            f"callback to succeeded visible, {AT_ONCE} at once: p99",
            runs,
            lambda seen: percentile(seen.visible_ms, 0.99),
            "ms",
            Target("<", 100),
        ),
    ]


def news(place: Place, payers: Payers, count: int) -> News:
    """Confirm `count` payments that nobody answers; the callbacks that say they were paid."""
    place.daraja(mode="manual", prompt_lifetime_s=3600)
    send(confirm_load(place, payers, count), expect=200)
    shops = {shop.tenant_id: shop for shop in place.shops}
    with place.stack.database.connect() as connection:
        waiting = connection.execute(_WAITING, (list(shops),)).fetchall()
    prompts = _prompts(place)
    payments = []
    for rail_ref, intent, tenant in waiting:
        bearer = {"Authorization": f"Bearer {shops[tenant].key}"}
        look = request("GET", f"{PATH}/{intent}", bearer)
        payments.append((_callback(prompts[rail_ref]), look.decode()))
    gateway = place.stack.ports.gateway
    return News(gateway, place.intents.port, AT_ONCE, payments)


def _prompts(place: Place) -> dict[str, dict[str, Any]]:
    url = f"{place.stack.daraja_url}/control/prompts"
    prompts = httpx.get(url, trust_env=False, timeout=30).raise_for_status().json()
    return {prompt["checkout_request_id"]: prompt for prompt in prompts}


def _callback(prompt: dict[str, Any]) -> str:
    """What Daraja posts when the payer has paid (its STK documentation)."""
    paid = {
        "Amount": prompt["amount"],
        "MpesaReceiptNumber": f"BENCH{prompt['phone'][-9:]}",
        "TransactionDate": 20260301141519,
        "PhoneNumber": int(prompt["phone"]),
    }
    result = {
        "MerchantRequestID": prompt["merchant_request_id"],
        "CheckoutRequestID": prompt["checkout_request_id"],
        "ResultCode": 0,
        "ResultDesc": "The service request is processed successfully.",
        "CallbackMetadata": {"Item": [{"Name": name, "Value": paid[name]} for name in paid]},
    }
    path = urlsplit(prompt["callback_url"]).path
    return request("POST", path, {}, {"Body": {"stkCallback": result}}).decode()
