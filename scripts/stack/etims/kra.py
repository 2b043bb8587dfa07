"""KRA's books: devices, articles and sales, with a control unit's counters and signatures."""

import base64
import hmac
import secrets
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from scripts.stack.etims.refusals import Refusal
from scripts.stack.etims.rules import BANDS, ITEM_CODE, PIN, RATES, check_credit, check_sale
from shared.authority import exact_json

NAIROBI = ZoneInfo("Africa/Nairobi")
Fault = Literal[
    "down",  # 502 of a gateway, nothing kept
    "lost_answer",  # the sale is kept, the connection ends without an answer
    "unanswered",  # the connection ends before anything is kept
    "late",  # the sale is kept, the answer is the gateway's 504
    "busy",  # 990
    "reject",  # 910
    "unknown_error",  # 999, nothing kept
]


@dataclass
class Unit:
    """The control unit of one branch."""

    pin: str
    branch: str
    key: str
    number: int
    secret: bytes
    counters: Counter[str] = field(default_factory=Counter)
    last_no: int = 0

    @property
    def name(self) -> str:
        return f"KRACU{self.number:09d}"


class Kra:
    """Everything the simulator knows. A PIN's sale numbers are its own, whatever the branch."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._journal = state / "journal.jsonl"
        self._open_books()
        for line in self._journal.read_bytes().splitlines() if self._journal.exists() else ():
            self._write_down(**exact_json.read(line))

    def reset(self) -> None:
        """Empty books."""
        self._journal.unlink(missing_ok=True)
        self._open_books()

    def _open_books(self) -> None:
        self.units: dict[tuple[str, str], Unit] = {}
        self.items: dict[tuple[str, str], dict[str, str]] = {}
        self.sales: dict[tuple[str, int], dict[str, Any]] = {}
        self.receipts: dict[tuple[str, int], dict[str, str]] = {}
        self.rates = dict(RATES)
        self._faults: deque[str] = deque()

    def arm(self, fault: Fault, times: int) -> None:
        self._faults.extend([fault] * times)

    def strikes(self, *faults: Fault) -> str | None:
        """The next armed fault when it is one of these; it is spent."""
        if self._faults and self._faults[0] in faults:
            return self._faults.popleft()
        return None

    def install(self, body: Mapping[str, Any]) -> dict[str, Any]:
        pin, branch = str(body.get("tin")), str(body.get("bhfId"))
        serial = str(body.get("dvcSrlNo") or "")
        if not PIN.match(pin) or len(branch) != 2 or not serial:
            raise Refusal("910", "tin, bhfId or dvcSrlNo")
        if (pin, branch) in self.units:
            raise Refusal("902")
        self._keep(pin=pin, branch=branch, key=secrets.token_hex(16), secret=secrets.token_hex(32))
        unit = self.units[pin, branch]
        return {
            "info": {
                "tin": pin,
                "taxprNm": "A taxpayer",
                "bhfId": branch,
                "hqYn": "Y" if branch == "00" else "N",
                "dvcId": f"{unit.number:016d}",
                "sdcId": unit.name,
                "mrcNo": f"WIS{unit.number:08d}",
                "cmcKey": unit.key,
                "lastSaleInvcNo": unit.last_no,
            }
        }

    def unit(self, headers: Mapping[str, str]) -> Unit:
        """Who is speaking. Refusal 900 without headers, 901 for a stranger."""
        if not all(headers.get(name) for name in ("tin", "bhfid", "cmckey")):
            raise Refusal("900")
        unit = self.units.get((headers["tin"], headers["bhfid"]))
        if unit is None or not hmac.compare_digest(unit.key, headers["cmckey"]):
            raise Refusal("901")
        return unit

    def codes(self) -> dict[str, Any]:
        return {
            "clsList": [
                {
                    "cdCls": "04",
                    "cdClsNm": "Taxation Type",
                    "userDfnNm1": "TaxRate",
                    "useYn": "Y",
                    "dtlList": [
                        {"cd": band, "cdNm": band, "userDfnCd1": str(self.rates[band])}
                        for band in BANDS
                    ],
                }
            ]
        }

    def save_item(self, unit: Unit, body: Mapping[str, Any]) -> None:
        code = str(body.get("itemCd"))
        if not ITEM_CODE.match(code) or body.get("taxTyCd") not in BANDS:
            raise Refusal("910", "itemCd or taxTyCd")
        for name in ("itemClsCd", "itemTyCd", "itemNm", "orgnNatCd", "pkgUnitCd", "qtyUnitCd"):
            if not isinstance(body.get(name), str) or not body[name]:
                raise Refusal("910", f"{name} is missing")
        if code[2] != body["itemTyCd"] or code[3:5] != body["pkgUnitCd"]:
            raise Refusal("910", "itemCd does not say what the item is")
        self._keep(pin=unit.pin, branch=unit.branch, item=code, band=body["taxTyCd"])

    def save_sale(self, unit: Unit, sale: dict[str, Any]) -> dict[str, str]:
        check_sale(sale, self.items[unit.pin, unit.branch])
        at = unit.pin, int(sale["invcNo"])
        if at in self.sales:
            raise Refusal("994")
        if sale["invcNo"] <= unit.last_no:
            raise Refusal("910", "invcNo goes back")
        if sale["orgInvcNo"]:
            original = self.sales.get((unit.pin, sale["orgInvcNo"]))
            if original is None:
                raise Refusal("910", "orgInvcNo is not known")
            check_credit(sale, original, self._credits(unit.pin, sale["orgInvcNo"]))
        label = "NC" if sale["orgInvcNo"] else "NS"
        receipt = self._sign(unit, sale, unit.counters[label] + 1, unit.counters["all"] + 1)
        self._keep(pin=unit.pin, branch=unit.branch, sale=sale, receipt=receipt)
        return receipt

    def look_up(self, unit: Unit, body: Mapping[str, Any]) -> dict[str, Any]:
        at = unit.pin, int(body.get("invcNo") or 0)
        if at not in self.sales:
            raise Refusal("001")
        return {**self.sales[at], **self.receipts[at]}

    def _keep(self, **fact: Any) -> None:
        """Into the journal, then into the books: a restart reads them from there."""
        with self._journal.open("a") as journal:
            journal.write(exact_json.write(fact) + "\n")
        self._write_down(**fact)

    def _write_down(self, pin: str, branch: str, **fact: Any) -> None:
        if "key" in fact:
            number, secret = len(self.units) + 1, bytes.fromhex(fact["secret"])
            self.units[pin, branch] = Unit(pin, branch, fact["key"], number, secret)
            self.items[pin, branch] = {}
        elif "item" in fact:
            self.items[pin, branch][fact["item"]] = fact["band"]
        else:
            unit, sale = self.units[pin, branch], fact["sale"]
            unit.last_no = sale["invcNo"]
            unit.counters["NC" if sale["orgInvcNo"] else "NS"] += 1
            unit.counters["all"] += 1
            self.sales[pin, sale["invcNo"]] = sale
            self.receipts[pin, sale["invcNo"]] = fact["receipt"]

    def _credits(self, pin: str, original_no: int) -> list[dict[str, Any]]:
        return [
            sale
            for (of, _), sale in self.sales.items()
            if of == pin and sale["orgInvcNo"] == original_no
        ]

    def _sign(
        self, unit: Unit, sale: Mapping[str, Any], current: int, total: int
    ) -> dict[str, str]:
        said = f"{unit.pin}{unit.branch}{sale['invcNo']}{sale['totAmt']}{sale['cfmDt']}{current}"
        digest = base64.b32encode(hmac.digest(unit.secret, said.encode(), sha256)).decode()
        return {
            "curRcptNo": str(current),
            "totRcptNo": str(total),
            "intrlData": digest[:26],
            "rcptSign": digest[26:42],
            "sdcDateTime": f"{datetime.now(NAIROBI):%Y%m%d%H%M%S}",
        }
