"""A merchant's Daraja credentials: the sealed document's shape, and what may be shown of it."""

from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from shared.errors import FieldError, InvalidRequest

_HIDDEN = "******"
_NUMBER = r"^[1-9][0-9]{4,7}$"  # short codes and tills travel as numbers: no leading zero


@dataclass(frozen=True, slots=True)
class Initiator:
    """The operator of the short code in whose name money leaves it, and the rail's certificate."""

    name: str
    password: SecretStr = field(repr=False)
    certificate: str = field(repr=False)


class MpesaCredentials(BaseModel):
    """Daraja app keys and the short code whose passkey signs the prompts.

    `shortcode` is the pay bill, or for a till its store (head office) number; `till_number` is
    given for tills only and is where the money goes. The initiator is needed to pay out, reverse
    and ask for balances; `certificate` (PEM) is the one of the environment, from Daraja's portal.
    `b2c_shortcode` pays out where that is another short code than the one that collects.
    """

    # hide_input_in_errors: a validation error must not print a secret.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    consumer_key: SecretStr = Field(min_length=1, max_length=200)
    consumer_secret: SecretStr = Field(min_length=1, max_length=200)
    passkey: SecretStr = Field(min_length=1, max_length=200)
    shortcode: str = Field(pattern=_NUMBER)
    till_number: str | None = Field(default=None, pattern=_NUMBER)
    type: Literal["paybill", "till"] = "paybill"
    initiator_name: str | None = Field(default=None, min_length=1, max_length=100)
    initiator_password: SecretStr | None = Field(default=None, min_length=1, max_length=200)
    certificate: str | None = Field(default=None, min_length=1, max_length=8000)
    b2c_shortcode: str | None = Field(default=None, pattern=_NUMBER)

    @model_validator(mode="after")
    def _till_has_a_number(self) -> Self:
        if (self.type == "till") != (self.till_number is not None):
            raise ValueError("till_number is given exactly when type is till")
        return self

    @model_validator(mode="after")
    def _initiator_is_whole(self) -> Self:
        given = (self.initiator_name, self.initiator_password, self.certificate)
        if any(given) and not all(given):
            raise ValueError(
                "initiator_name, initiator_password and certificate are given together"
            )
        return self

    @property
    def collects_at(self) -> str:
        """Where a payer's money goes: the till, or the pay bill."""
        return self.till_number or self.shortcode

    @property
    def payout_shortcode(self) -> str:
        """Whose utility account pays out."""
        return self.b2c_shortcode or self.shortcode

    @property
    def initiator(self) -> Initiator | None:
        """None: these credentials collect, and do nothing else."""
        if not (self.initiator_name and self.initiator_password and self.certificate):
            return None
        return Initiator(self.initiator_name, self.initiator_password, self.certificate)

    def masked(self) -> dict[str, str]:
        """Give what may be shown: numbers in full, the end of the consumer key, no secret."""
        key = self.consumer_key.get_secret_value()
        shown = {
            "consumer_key": _HIDDEN + (key[-4:] if len(key) >= 16 else ""),
            "consumer_secret": _HIDDEN,
            "passkey": _HIDDEN,
            "shortcode": self.shortcode,
            "type": self.type,
        }
        optional = {
            "till_number": self.till_number,
            "initiator_name": self.initiator_name,
            "initiator_password": _HIDDEN if self.initiator_password else None,
            "b2c_shortcode": self.b2c_shortcode,
        }
        return shown | {name: value for name, value in optional.items() if value}


def read_credentials(document: bytes) -> MpesaCredentials:
    """Parse the opened document. InvalidRequest names each field and rule, never a value."""
    try:
        return MpesaCredentials.model_validate_json(document)
    except ValidationError as problem:
        errors = [
            FieldError(pointer="".join(f"/{part}" for part in error["loc"]), detail=error["msg"])
            for error in problem.errors(include_input=False, include_url=False)
        ]
        raise InvalidRequest("The M-Pesa credentials are malformed", errors=errors) from None
