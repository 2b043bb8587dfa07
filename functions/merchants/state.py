"""What lives as long as the app, in the form in which its routes ask for it."""

from typing import Annotated

from fastapi import Depends, Request

from functions.merchants.sealing import SealedCredentials
from shared.db import Database


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _sealed_credentials(request: Request) -> SealedCredentials:
    sealed: SealedCredentials = request.app.state.sealed_credentials
    return sealed


Db = Annotated[Database, Depends(_database)]
Sealed = Annotated[SealedCredentials, Depends(_sealed_credentials)]
