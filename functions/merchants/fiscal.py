"""The taxpayer behind an organisation, its outlets, terminals and cashiers."""

from typing import Annotated

from fastapi import Path
from fastapi.responses import Response

from functions.merchants import models
from functions.merchants.state import Db
from shared.http.caller import ApiCaller
from shared.http.problem import answers
from shared.http.routes import Router

router = Router("fiscal registry")

OutletId = Annotated[
    str, Path(max_length=64, description="The outlet.", examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"])
]


@router.put(
    "/fiscal",
    responses=answers(models.StoredFiscalMerchant, 400, 401, 403, 409, 422, 429, 503),
)
async def put_fiscal_merchant(body: models.FiscalMerchant, caller: ApiCaller, db: Db) -> Response:
    """Register the organisation as a taxpayer, or correct how it is registered."""
    return (await db.answer("fiscal.put_merchant", body.model_dump(), caller)).response()


@router.get("/fiscal", responses=answers(models.StoredFiscalMerchant, 400, 401, 403, 409, 429, 503))
async def get_fiscal_merchant(caller: ApiCaller, db: Db) -> Response:
    """Read how the organisation is registered as a taxpayer."""
    return (await db.answer("fiscal.get_merchant", {}, caller, idempotent=True)).response()


@router.post(
    "/outlets",
    status_code=201,
    responses=answers(models.Outlet, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def create_outlet(body: models.NewOutlet, caller: ApiCaller, db: Db) -> Response:
    """Open an outlet. Its numbers start at 1 and never start again."""
    return (await db.answer("fiscal.create_outlet", body.model_dump(), caller)).response()


@router.get("/outlets", responses=answers(models.Outlets, 400, 401, 403, 429, 503))
async def list_outlets(caller: ApiCaller, db: Db) -> Response:
    """List the outlets the caller may see: all, or the one a person is limited to."""
    return (await db.answer("fiscal.list_outlets", {}, caller, idempotent=True)).response()


@router.put(
    "/outlets/{outlet_id}/operators",
    responses=answers(models.Operator, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def put_operator(
    outlet_id: OutletId, body: models.PutOperator, caller: ApiCaller, db: Db
) -> Response:
    """Name, rename or block a terminal or cashier of an outlet; say who signs in as the cashier."""
    arguments = {"outlet_id": outlet_id, **body.model_dump(mode="json")}
    return (await db.answer("fiscal.put_operator", arguments, caller)).response()
