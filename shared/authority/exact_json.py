"""JSON whose numbers are decimals: authorities want amounts as numbers, and we know no floats."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any


def write(value: object) -> str:
    """JSON text; a Decimal is a number with exactly its digits, and zero has no sign."""
    assert not isinstance(value, float), "an amount is never a float"
    if isinstance(value, Decimal):
        return f"{value if value else abs(value):f}"
    if isinstance(value, Mapping):
        members = (f"{json.dumps(name)}:{write(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(write(member) for member in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def read(text: str | bytes) -> Any:
    """Parse JSON; numbers with a point are Decimals. ValueError when it is none."""
    try:
        return json.loads(text, parse_float=Decimal)
    except RecursionError as nested:
        raise ValueError("is nested too deeply") from nested
