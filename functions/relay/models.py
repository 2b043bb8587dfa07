"""The wire shapes of /relay."""

from typing import Annotated

from pydantic import BaseModel, Field


class Drained(BaseModel):
    """How many events were worked on."""

    done: Annotated[int, Field(examples=[3])]
