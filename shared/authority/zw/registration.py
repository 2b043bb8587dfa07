"""What a taxpayer was given by ZIMRA for a device, checked before FDMS is asked anything."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import FieldError, InvalidParameter

_RULES: Final = {
    "device_id": (re.compile(r"[1-9][0-9]{0,9}", re.ASCII), "is the number of the device"),
    "serial_no": (re.compile(r"[\x21-\x7e]{1,20}"), "has 1 to 20 characters, no blanks"),
    "activation_key": (re.compile(r"[A-Za-z0-9]{8}", re.ASCII), "has eight letters and digits"),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """The activation key is used once and never kept."""

    device_id: int
    serial_no: str
    activation_key: str


def read_facts(given: Mapping[str, Any]) -> Facts:
    """InvalidParameter names every field that is missing, malformed or unknown."""
    errors: list[FieldError] = [
        {"pointer": f"/{name}", "detail": rule}
        for name, (pattern, rule) in _RULES.items()
        if not pattern.fullmatch(str(given.get(name, "")))
    ]
    errors += [
        {"pointer": f"/{name}", "detail": "is not a fact of a fiscal device"}
        for name in given
        if name not in _RULES
    ]
    if errors:
        raise InvalidParameter(f"{errors[0]['pointer'][1:]}: {errors[0]['detail']}", errors=errors)
    return Facts(int(given["device_id"]), given["serial_no"], given["activation_key"])
