"""A merchant's Daraja credentials: the sealed document's shape, and what may be shown of it."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from shared.errors import FieldError, InvalidRequest

_HIDDEN = "******"
_NUMBER = r"^[1-9][0-9]{4,7}$"  # short codes and tills travel as numbers: no leading zero


class MpesaCredentials(BaseModel):
    """Daraja app keys and the short code whose passkey signs the prompts.

    `shortcode` is the pay bill, or for a till its store (head office) number; `till_number` is
    given for tills only and is where the money goes.
    """

    # hide_input_in_errors: a validation error must not print a secret.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    consumer_key: SecretStr = Field(min_length=1, max_length=200)
    consumer_secret: SecretStr = Field(min_length=1, max_length=200)
    passkey: SecretStr = Field(min_length=1, max_length=200)
    shortcode: str = Field(pattern=_NUMBER)
    till_number: str | None = Field(default=None, pattern=_NUMBER)
    type: Literal["paybill", "till"] = "paybill"

    @model_validator(mode="after")
    def _till_has_a_number(self) -> Self:
        if (self.type == "till") != (self.till_number is not None):
            raise ValueError("till_number is given exactly when type is till")
        return self

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
        return shown | ({"till_number": self.till_number} if self.till_number else {})


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
