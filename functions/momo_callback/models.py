"""The wire shapes of /momo-callback."""

from typing import Literal

from pydantic import BaseModel


class Acknowledged(BaseModel):
    """What Daraja expects to read: received. It says nothing about what we made of it."""

    ResultCode: Literal[0] = 0
    ResultDesc: Literal["Accepted"] = "Accepted"
