"""The demonstration payment, and what to tell people afterwards."""

import time
import uuid
from typing import Any

import httpx

from scripts.stack.places import StackError
from scripts.stack.process import wait_until
from scripts.stack.seed import PUBLISHABLE_KEY, SECRET_KEY
from scripts.stack.stack import Stack

PHONE, MSISDN = "0712 345 678", "254712345678"
ORDER = {
    "amount": "100.00",
    "currency": "KES",
    "payment_method_types": ["mpesa"],
    "description": "Demonstration",
    "customer": {"name": "Wanjiru Kamau", "email": "wanjiru@mail.example"},
}

GUIDE = """
  API         {functions}            (its page: {functions}/docs)
  Phone       {daraja}            (prompts of the Daraja simulator: enter the PIN there)
  Mailbox     {mailbox}            (receipts and alerts that would have been sent)
  DGI         {emcf}            (DR Congo's e-MCF: POST /control/devices hands out a device)
  KRA         {etims}            (Kenya's eTIMS: any PIN, branch and serial number is installed)
  ZIMRA       {fdms}           (Zimbabwe's FDMS: POST /control/devices sells a device)
  Supabase    {url}
  Postgres    {dsn}
  secret key       {secret}
  publishable key  {publishable}

  By hand:
    KEY={secret}
    once() {{ cat /proc/sys/kernel/random/uuid; }}

    curl -s {functions}/payment-intents -H "Authorization: Bearer $KEY" \\
      -H "Idempotency-Key: $(once)" -H 'Content-Type: application/json' \\
      -d '{{"amount": "250.00", "currency": "KES", "payment_method_types": ["mpesa"]}}'

    curl -s {functions}/payment-intents/pi_.../confirm -H "Authorization: Bearer $KEY" \\
      -H "Idempotency-Key: $(once)" -H 'Content-Type: application/json' \\
      -d '{{"payment_method": {{"type": "mpesa", "phone": "{phone}"}}}}'

    curl -s {functions}/payment-intents/pi_... -H "Authorization: Bearer $KEY"

  Ctrl-C or ./scripts/down stops it; the data stays.
"""


def show(stack: Stack) -> None:
    """Take one payment through the public HTTP API; print each step with its time.

    The only thing done behind the API is what the payer does: the PIN is entered at the simulator.
    Raises StackError when a step is refused, TimeoutError when one does not happen.
    """
    bearer = {"Authorization": f"Bearer {stack.keys[SECRET_KEY]}"}
    with (
        httpx.Client(base_url=stack.functions_url, headers=bearer, timeout=15) as api,
        httpx.Client(base_url=stack.daraja_url, timeout=15) as phone,
    ):
        began = time.monotonic()

        def step(what: str) -> None:
            print(f"  {(time.monotonic() - began) * 1000:6.0f} ms  {what}", flush=True)

        print("\nOne payment of KES 100.00 by M-Pesa, in the sandbox:", flush=True)
        intent = _post(api, "/payment-intents", ORDER)
        path = f"/payment-intents/{intent['id']}"
        step(f"intent created        {intent['id']} {intent['status']}")
        method = {"payment_method": {"type": "mpesa", "phone": PHONE}}
        confirmed = _post(api, f"{path}/confirm", method)
        prompt = _prompt(phone)
        payer = confirmed["latest_transfer"]["payer"]
        step(f"STK prompt shown      on {payer}, {confirmed['status']}")
        _post(phone, f"/control/prompts/{prompt['checkout_request_id']}", {"action": "pay"})
        step("PIN entered")
        wait_until("the callback", lambda: _callback(phone, prompt) is not None, timeout_s=20)
        delivered = _callback(phone, prompt) or {}
        took = f"answered {delivered['status']} in {delivered['latency_ms']:.0f} ms"
        step(f"callback received     {took}")
        wait_until("the payment", lambda: _read(api, path)["status"] == "succeeded", timeout_s=20)
        paid = _read(api, path)
        receipt = paid["latest_transfer"]["receipt"]
        step(f"succeeded             KES {paid['amount_received']}, receipt {receipt}")
        wait_until("the receipt", lambda: _receipt(api, intent["id"]) is not None, timeout_s=20)
        step(f"receipt mailed        to {_receipt(api, intent['id'])}, see the mailbox\n")


def guide(stack: Stack) -> str:
    """URLs, keys and the curl lines to do it by hand."""
    return GUIDE.format(
        functions=stack.functions_url,
        daraja=stack.daraja_url,
        mailbox=stack.mailbox_url,
        emcf=stack.emcf_url,
        etims=stack.etims_url,
        fdms=stack.fdms_url,
        url=stack.url,
        dsn=stack.dsn(),
        secret=stack.keys[SECRET_KEY],
        publishable=stack.keys[PUBLISHABLE_KEY],
        phone=PHONE,
    )


def _post(client: httpx.Client, path: str, body: object) -> dict[str, Any]:
    answer = client.post(path, json=body, headers={"Idempotency-Key": str(uuid.uuid4())})
    if not answer.is_success:
        raise StackError(f"demonstration: POST {path} said {answer.status_code} {answer.text}")
    return dict(answer.json())


def _read(api: httpx.Client, path: str) -> dict[str, Any]:
    return dict(api.get(path).raise_for_status().json())


def _receipt(api: httpx.Client, intent_id: str) -> str | None:
    """To whom (masked) the receipt went, once it did."""
    for receipt in _read(api, f"/receipts/{intent_id}")["data"]:
        if receipt["status"] in ("sent", "delivered"):
            return str(receipt["to"])
    return None


def _prompt(phone: httpx.Client) -> dict[str, Any]:
    prompts = phone.get("/control/prompts", params={"phone": MSISDN}).raise_for_status().json()
    return dict(prompts[0])


def _callback(phone: httpx.Client, prompt: dict[str, Any]) -> dict[str, Any] | None:
    """The delivered callback of this prompt, once it was answered."""
    log = phone.get("/control/log", params={"phone": MSISDN}).raise_for_status().json()
    for delivery in log["callbacks"]:
        if delivery["about"] == prompt["checkout_request_id"] and delivery["status"]:
            return dict(delivery)
    return None
