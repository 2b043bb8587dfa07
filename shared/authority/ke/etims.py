"""Kenya: KRA's eTIMS, as an online sales control unit (OSCU) of each branch.

A sale is told once, under a number of ours that a PIN never uses twice. Numbers of branches are
apart (branch 03 counts from 300000001), so that branches need not agree on the next one. The body
is noted whole before it is sent: after a silence the same bytes go again, and KRA says that the
number was used (994) or takes the sale.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.authority import exact_json
from shared.authority.base import (
    Acceptance,
    Blocked,
    Checkup,
    Device,
    DeviceRefused,
    Finding,
    Journal,
    NotAccepted,
    NotNow,
    Outlet,
    Registration,
    Rejected,
    SealedDocument,
    Undecided,
    Unknown,
)
from shared.authority.ke.osdc import Duplicate, Identity, Osdc
from shared.authority.ke.receipt import Receipt, grouped, qr_text
from shared.authority.ke.sale import BANDS, Line, author, lines_of, sale
from shared.authority.wire import Wire
from shared.config import Settings
from shared.errors import AuthorityRefused, AuthorityUnavailable, InvalidParameter
from shared.fiscal.rules import jurisdiction
from shared.transport import HttpTransport

BRANCH_NUMBERS: Final = 100_000_000  # sales a branch can number before it meets the next one
_SINCE: Final = "20180101000000"  # code lists are given from a day on; this is before all of them
_TAX_TYPES: Final = "04"  # the class of the code list that holds the rates
_TRIES: Final = 20  # numbers of somebody else's that we step over at once


class Facts(BaseModel):
    """What KRA gave the taxpayer for a branch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    branch_id: str = Field(pattern=r"^[0-9]{2}$")
    device_serial: str = Field(min_length=1, max_length=100)
    default_item_class: str = Field(pattern=r"^[0-9]{8,10}$")


class _Secret(BaseModel):
    pin: str
    branch: str
    key: str


class _State(BaseModel):
    """What the device remembers. `items`: article key to its number in the item code."""

    last_invoice_no: int
    control_unit: str
    machine_no: str
    default_class: str
    rates: dict[str, str]
    items: dict[str, int] = {}


def create(settings: Settings) -> "Etims":
    """Make the authority."""
    return Etims(
        Wire(HttpTransport()),
        {"sandbox": settings.etims_sandbox_url, "production": settings.etims_production_url},
    )


class Etims:
    """The protocol Authority, for Kenya."""

    def __init__(self, wire: Wire, urls: Mapping[str, str]) -> None:
        self._wire = wire
        self._units = {environment: Osdc(wire, url) for environment, url in urls.items()}

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def register(
        self, facts: Mapping[str, Any], outlet: Outlet, environment: str
    ) -> Registration:
        """Install the device. KRA gives its key once: a lost answer means a reset by KRA."""
        given, unit = _facts(facts), self._units[environment]
        try:
            data = await unit.call(
                "selectInitOsdcInfo",
                {"tin": outlet.tin, "bhfId": given.branch_id, "dvcSrlNo": given.device_serial},
                None,
            )
            info = data["info"]
            secret = _Secret(pin=outlet.tin, branch=given.branch_id, key=info["cmcKey"])
            state = _State(
                last_invoice_no=max(
                    int(info.get("lastSaleInvcNo") or 0), int(given.branch_id) * BRANCH_NUMBERS
                ),
                control_unit=info["sdcId"],
                machine_no=info["mrcNo"],
                default_class=given.default_item_class,
                # From here on nothing may fail: the key is given once. `check` brings KRA's own.
                rates={band: str(rate) for band, rate in _our_rates(datetime.now(UTC)).items()},
            )
        except (Rejected, DeviceRefused) as refused:
            raise AuthorityRefused(f"KRA says {refused.code}: {refused.message}") from refused
        except NotAccepted as away:
            raise AuthorityUnavailable("KRA did not answer; try again later") from away
        except (KeyError, TypeError, ValueError, Duplicate) as strange:
            raise AuthorityUnavailable("KRA's answer was not understood") from strange
        return Registration(
            authority_ref=f"{outlet.tin}/{given.branch_id}",
            credentials=secret.model_dump_json().encode(),
            masked={"branch_id": given.branch_id, "control_unit": state.control_unit},
            state=state.model_dump(),
        )

    async def submit(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance:
        lines = lines_of(document, _opened(device)[1].default_class)
        original_no = _original_no(document)
        state, codes = await self._register_articles(document, device, lines, journal)
        return await self._tell(
            document, device, journal, state, lines, codes, original_no, state.last_invoice_no + 1
        )

    async def resume(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance | None:
        """The same bytes again. A sale KRA took under this number is found by looking it up."""
        _, state = _opened(device)
        noted = journal.progress
        state = state.model_copy(update={"items": noted["items"]})
        try:
            return await self._say(document, device, journal, noted["body"], state)
        except Duplicate:
            # None: another sale has the number, so ours never went through and is told anew.
            return await self._look_up(document, device, journal, noted["body"], state)

    async def check(self, device: Device, now: datetime) -> Checkup:
        """Compare KRA's rates with those our invoices are computed with."""
        secret, state = _opened(device)
        try:
            rates = await _rates(self._units[device.environment], _identity(secret))
        except Rejected as refused:
            raise DeviceRefused(refused.code, refused.message) from refused
        except (KeyError, TypeError, ValueError, Duplicate) as strange:
            raise DeviceRefused("NOT_UNDERSTOOD", "the code list has no rates") from strange
        ours = _our_rates(now)
        drift = {
            band: {"kra": rates[band], "ours": str(ours[band])}
            for band in BANDS
            if Decimal(rates[band]) != ours[band]
        }
        findings = [Finding("authority_rates_differ", "critical", drift)] if drift else []
        return Checkup(findings, state=state.model_copy(update={"rates": rates}).model_dump())

    async def _register_articles(
        self, document: SealedDocument, device: Device, lines: Iterable[Line], journal: Journal
    ) -> tuple[_State, dict[str, str]]:
        """Every article of the sale is known at KRA afterwards; its code for each key."""
        secret, state = _opened(device)
        items, codes = dict(state.items), {}
        for article in {line.article.key: line.article for line in lines}.values():
            number = items.get(article.key)
            codes[article.key] = article.code(number or len(items) + 1)
            if number is None:
                body = article.registration(codes[article.key], author(document.payload))
                try:
                    await self._units[device.environment].call(
                        "saveItem", body, _identity(secret), journal
                    )
                except Unknown as silence:
                    # Saying it twice changes nothing, so there is nothing to find out first.
                    raise NotNow(silence.code, silence.message) from silence
                except Duplicate:
                    pass  # it is known, which is all we want
                items[article.key] = len(items) + 1
        return state.model_copy(update={"items": items}), codes

    async def _tell(
        self,
        document: SealedDocument,
        device: Device,
        journal: Journal,
        state: _State,
        lines: list[Line],
        codes: Mapping[str, str],
        original_no: int,
        first_no: int,
    ) -> Acceptance:
        rates = {band: Decimal(rate) for band, rate in state.rates.items()}
        for number in range(first_no, first_no + _TRIES):
            body = exact_json.write(sale(document, lines, codes, rates, number, original_no))
            await journal.note({"body": body, "items": state.items})
            try:
                return await self._say(document, device, journal, body, state)
            except Duplicate:
                found = await self._look_up(document, device, journal, body, state)
                if found is not None:
                    return found
        raise Undecided("NUMBERS_TAKEN", f"KRA has other sales from number {first_no} on")

    async def _say(
        self,
        document: SealedDocument,
        device: Device,
        journal: Journal,
        body: str,
        state: _State,
    ) -> Acceptance:
        secret, _ = _opened(device)
        data = await self._units[device.environment].send(
            "saveTrnsSalesOsdc", body, _identity(secret), journal
        )
        return _acceptance(document, device, secret, state, exact_json.read(body), data)

    async def _look_up(
        self,
        document: SealedDocument,
        device: Device,
        journal: Journal,
        body: str,
        state: _State,
    ) -> Acceptance | None:
        """What KRA has under the body's number: our sale, or None when it is another one."""
        secret, _ = _opened(device)
        told = exact_json.read(body)
        question = {"tin": secret.pin, "bhfId": secret.branch, "invcNo": told["invcNo"]}
        try:
            data = await self._units[device.environment].call(
                "selectInvoiceDetails", question, _identity(secret), journal
            )
        except (Rejected, Duplicate) as strange:
            raise Undecided(
                "LOOK_UP_FAILED", "KRA knows the number and does not show it"
            ) from strange
        if not isinstance(data, Mapping) or "trdInvcNo" not in data:
            raise Undecided("LOOK_UP_FAILED", "KRA knows the number and does not show its sale")
        if str(data["trdInvcNo"]) != document.fiscal_number:
            return None
        try:
            same = Decimal(str(data["totAmt"])) == told["totAmt"]
        except (KeyError, InvalidOperation):
            same = False
        if not same:
            raise Undecided("ANOTHER_TOTAL", "KRA has this document with another total")
        return _acceptance(document, device, secret, state, told, data)


def _facts(facts: Mapping[str, Any]) -> Facts:
    try:
        return Facts.model_validate(dict(facts))
    except ValidationError as wrong:
        raise InvalidParameter(
            "The device's facts are not what KRA gives for a branch",
            errors=[
                {"pointer": "/" + "/".join(map(str, one["loc"])), "detail": one["msg"]}
                for one in wrong.errors(include_input=False)
            ],
        ) from None


def _opened(device: Device) -> tuple[_Secret, _State]:
    return (
        _Secret.model_validate_json(device.credentials),
        _State.model_validate(dict(device.state)),
    )


def _identity(secret: _Secret) -> Identity:
    return Identity(secret.pin, secret.branch, secret.key)


def _original_no(document: SealedDocument) -> int:
    """KRA's number of what a credit credits; 0 for a sale."""
    if "original_fiscal_number" not in document.payload:
        return 0
    if document.original is None:
        raise Blocked(
            "authority_original_missing",
            f"{document.original_number} is not at KRA, so its credit cannot be",
        )
    return int(document.original.counters["invoice_no"])


def _acceptance(
    document: SealedDocument,
    device: Device,
    secret: _Secret,
    state: _State,
    told: Mapping[str, Any],
    data: Any,
) -> Acceptance:
    try:
        receipt = Receipt.of(data)
        qr = qr_text(device.environment, secret.pin, secret.branch, receipt.signature)
    except (KeyError, TypeError, ValueError) as strange:
        raise Undecided(
            "NOT_UNDERSTOOD", f"KRA took {document.fiscal_number} and its answer has no receipt"
        ) from strange
    number = int(told["invcNo"])
    kept = state.model_copy(update={"last_invoice_no": max(state.last_invoice_no, number)})
    return Acceptance(
        code=receipt.signature,
        qr=qr,
        authority_number=f"{state.control_unit}/{receipt.current}",
        authority_time=receipt.at,
        counters={
            "invoice_no": number,
            "receipt": f"{receipt.current}/{receipt.total} {'NC' if told['orgInvcNo'] else 'NS'}",
            "internal_data": grouped(receipt.internal_data),
            "receipt_signature": grouped(receipt.signature),
            "control_unit": state.control_unit,
            "machine_no": state.machine_no,
        },
        raw=exact_json.write(data).encode(),
        device_state=kept.model_dump(),
    )


async def _rates(unit: Osdc, identity: Identity) -> dict[str, str]:
    """Percents of the five bands, from KRA's code list."""
    data = await unit.call("selectCodeList", {"lastReqDt": _SINCE}, identity)
    (types,) = (one for one in data["clsList"] if one["cdCls"] == _TAX_TYPES)
    found = {row["cd"]: str(Decimal(str(row["userDfnCd1"]))) for row in types["dtlList"]}
    return {band: found[band] for band in BANDS}


def _our_rates(now: datetime) -> dict[str, Decimal]:
    rules = jurisdiction("KE")
    groups = rules.manifests[rules.manifest_at(now)].groups
    return {band: (groups[band].rate or Decimal(0)) * 100 for band in BANDS}
