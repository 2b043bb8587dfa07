"""The wire shapes of /webhook-delivery."""

from typing import Annotated

from pydantic import BaseModel, Field


class Dispatched(BaseModel):
    """How much was sent before this answer, and how much is still on its way."""

    sent: Annotated[int, Field(examples=[12])]
    in_flight: Annotated[int, Field(examples=[1])]
