"""Daraja's synchronous errors (rails reference 2.7): code, HTTP status and usual text."""

from collections.abc import Mapping
from random import Random

ERRORS: Mapping[str, tuple[int, str]] = {
    "400.002.02": (400, "Bad Request - Invalid Payload"),
    "400.002.05": (400, "Invalid Request Payload"),
    "400.003.01": (400, "Invalid Access Token"),
    "400.003.02": (400, "Bad Request - Invalid ShortCode"),
    "400.008.01": (400, "Invalid Authentication passed"),
    "400.008.02": (400, "Invalid grant type passed"),
    "401.002.01": (401, "Error Occurred - Invalid Access Token"),
    "403.002.1001": (403, "The app is not authorised for this product"),
    "404.001.01": (404, "Resource not found"),
    "404.001.03": (404, "Invalid Access Token"),
    "404.001.04": (404, "Invalid Authentication Header"),
    "405.001": (405, "Method Not Allowed"),
    "500.001.1001": (500, ""),
    "500.002.1001": (500, "Duplicate OriginatorConversationID"),
    "500.003.02": (429, "Error Occurred: Spike Arrest Violation"),
    "500.003.03": (500, "Error Occurred: Quota Violation"),
    "500.003.1001": (500, "Internal Server Error"),
    "00.002.1001": (503, "Service is currently under maintenance. Please try again later"),
}


class Refusal(Exception):
    """The request ends here with Daraja's error shape; nothing was processed."""

    def __init__(self, code: str, message: str | None = None, status: int | None = None) -> None:
        usual_status, usual_text = ERRORS.get(
            code, (int(code[:3]) if code[:3].isdigit() else 500, "")
        )
        self.code = code
        self.status = status or usual_status
        self.message = usual_text if message is None else message
        super().__init__(f"{code} {self.message}")

    def body(self, rng: Random, *, varied: bool) -> dict[str, str]:
        """Some gateways capitalise the keys, so now and then this one does."""
        parts = {
            "requestId": f"{rng.randint(1000, 99999)}-{rng.randint(10**6, 10**8)}-1",
            "errorCode": self.code,
            "errorMessage": self.message,
        }
        if varied and rng.random() < 0.1:
            return {name[0].upper() + name[1:]: value for name, value in parts.items()}
        return parts


def invalid(field: str) -> Refusal:
    """A field rule was broken; the message names the field, as theirs does."""
    return Refusal("400.002.02", f"Bad Request - Invalid {field}")
