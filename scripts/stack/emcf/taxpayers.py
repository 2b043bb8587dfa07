"""Who the simulated DGI knows: a taxpayer's device, and the token it speaks with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt


@dataclass(frozen=True, slots=True)
class Taxpayer:
    """Whose request it is: their NIF, the device's NIM, and until when the token holds."""

    nif: str
    nim: str
    valid_until: int


class TokenRefused(Exception):
    """Not a token of ours, or not any more."""


def issue(secret: str, nif: str, nim: str, valid_until: datetime) -> str:
    """A token of a device."""
    claims = {"nif": nif, "nim": nim, "exp": int(valid_until.timestamp())}
    return jwt.encode(claims, secret, algorithm="HS256")


def read(secret: str, header: str, now: datetime) -> Taxpayer:
    """The taxpayer behind an Authorization header. TokenRefused."""
    scheme, _, token = header.partition(" ")
    if scheme != "Bearer":
        raise TokenRefused("no bearer token")
    try:
        # Expiry is by the simulator's own clock, which tests move.
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=["HS256"], options={"verify_exp": False}
        )
    except jwt.InvalidTokenError:
        raise TokenRefused("not a token of this authority") from None
    if claims["exp"] <= now.timestamp():
        raise TokenRefused("the token has expired")
    return Taxpayer(claims["nif"], claims["nim"], claims["exp"])
