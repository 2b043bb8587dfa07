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
    """What the device remembers; each member is replaced on its own.

    `known_invoice_no`: the last one when it was registered. `items`: article key to its number in
    the item code, given once for all. `unsaid`: keys that KRA has perhaps not heard of.
    """

    known_invoice_no: int
    control_unit: str
    machine_no: str
    default_class: str
    rates: dict[str, str]
    last_invoice_no: int = 0
    items: dict[str, int] = {}
    unsaid: list[str] = []

    @property
    def next_invoice_no(self) -> int:
        return max(self.known_invoice_no, self.last_invoice_no) + 1


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

    def reference(self, facts: Mapping[str, Any], outlet: Outlet) -> str:
        return f"{outlet.tin}/{_facts(facts).branch_id}"

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
                known_invoice_no=max(
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
            authority_ref=self.reference(facts, outlet),
            credentials=secret.model_dump_json().encode(),
            masked={"branch_id": given.branch_id, "control_unit": state.control_unit},
            # A device that is registered again keeps its articles and its numbers.
            state=state.model_dump(exclude_unset=True),
        )

    async def submit(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance:
        _, state = _opened(device)
        lines = lines_of(document, state.default_class)
        original_no = _original_no(document)
        items, unsaid = await self._register_articles(document, device, lines, journal)
        codes = {line.article.key: line.article.code(items[line.article.key]) for line in lines}
        rates = {band: Decimal(rate) for band, rate in state.rates.items()}
        first = state.next_invoice_no
        for number in range(first, first + _TRIES):
            body = exact_json.write(sale(document, lines, codes, rates, number, original_no))
            await journal.note({"body": body}, {"unsaid": unsaid, "last_invoice_no": number - 1})
            try:
                return await self._say(document, device, journal)
            except Duplicate:
                found = await self._look_up(document, device, journal)
                if found is not None:
                    return found
        raise Undecided("NUMBERS_TAKEN", f"KRA has other sales from number {first} on")

    async def resume(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance | None:
        """The same bytes again. A sale KRA took under this number is found by looking it up."""
        try:
            return await self._say(document, device, journal)
        except Duplicate:
            # None: another sale has the number, so ours never went through and is told anew.
            return await self._look_up(document, device, journal)

    async def check(self, device: Device, now: datetime) -> Checkup:
        """Compare KRA's rates with those our invoices are computed with."""
        secret, _ = _opened(device)
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
        return Checkup(findings, state={"rates": rates})

    async def _register_articles(
        self, document: SealedDocument, device: Device, lines: Iterable[Line], journal: Journal
    ) -> tuple[dict[str, int], list[str]]:
        """Every article of the sale is known at KRA afterwards: `items` and `unsaid` as they are.

        A number is noted before KRA hears of it: one that it knows never means another article.
        """
        secret, state = _opened(device)
        articles = {line.article.key: line.article for line in lines}
        new = {
            key: article
            for key, article in articles.items()
            if key not in state.items or key in state.unsaid
        }
        if not new:
            return state.items, state.unsaid
        items = dict(state.items)
        for key in new:
            items.setdefault(key, len(items) + 1)
        others = [key for key in state.unsaid if key not in new]
        await journal.note({}, {"items": items, "unsaid": [*others, *new]})
        for key, article in new.items():
            body = article.registration(article.code(items[key]), author(document.payload))
            try:
                await self._units[device.environment].call(
                    "saveItem", body, _identity(secret), journal
                )
            except Unknown as silence:
                # Saying it twice changes nothing, so there is nothing to find out first.
                raise NotNow(silence.code, silence.message) from silence
            except Duplicate:
                pass  # it is known, which is all we want
        return items, others

    async def _say(self, document: SealedDocument, device: Device, journal: Journal) -> Acceptance:
        """Send what is noted, as it is noted."""
        secret, _ = _opened(device)
        body = journal.progress["body"]
        data = await self._units[device.environment].send(
            "saveTrnsSalesOsdc", body, _identity(secret), journal
        )
        return _acceptance(document, device, exact_json.read(body), data)

    async def _look_up(
        self, document: SealedDocument, device: Device, journal: Journal
    ) -> Acceptance | None:
        """What KRA has under the noted number: our sale, or None when it is another one."""
        secret, _ = _opened(device)
        told = exact_json.read(journal.progress["body"])
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
        return _acceptance(document, device, told, data)


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
        # No reason for the sales after it to wait.
        raise Rejected(
            "authority_original_missing",
            f"{document.original_number} is not at KRA, so its credit cannot be",
        )
    return int(document.original.counters["invoice_no"])


def _acceptance(
    document: SealedDocument, device: Device, told: Mapping[str, Any], data: Any
) -> Acceptance:
    secret, state = _opened(device)
    try:
        receipt = Receipt.of(data)
        qr = qr_text(device.environment, secret.pin, secret.branch, receipt.signature)
    except (KeyError, TypeError, ValueError) as strange:
        raise Undecided(
            "NOT_UNDERSTOOD", f"KRA took {document.fiscal_number} and its answer has no receipt"
        ) from strange
    number = int(told["invcNo"])
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
        device_state={"last_invoice_no": max(state.last_invoice_no, number)},
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
