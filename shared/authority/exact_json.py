"""JSON whose numbers are decimals: authorities want amounts as numbers, and we know no floats."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any


def write(value: object) -> str:
    """JSON text; a Decimal is a number with exactly its digits."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        members = (f"{json.dumps(name)}:{write(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(write(member) for member in value) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read(text: str | bytes) -> Any:
    """Parse JSON; numbers with a point are Decimals. ValueError when it is none."""
    return json.loads(text, parse_float=Decimal)
