"""How KRA says no."""

from typing import Final

MESSAGES: Final = {
    "000": "It is succeeded",
    "001": "There is no search result",
    "900": "There is no Header information",
    "901": "It is not valid device",
    "902": "This device is installed",
    "910": "Request parameter error",
    "912": "There is a request Method error",
    "990": "The maximum number of views are exceeded",
    "994": "There is an overlapped Data",
    "999": "There is an unknown error. Please ask the administrator",
}


class Refusal(Exception):
    """A result code, and what was wrong in words of the simulator's own."""

    def __init__(self, code: str, why: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = f"{MESSAGES[code]}: {why}" if why else MESSAGES[code]
