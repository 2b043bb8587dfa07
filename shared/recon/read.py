"""The formats of statements, by name. A format's module is imported when its first file comes."""

from enum import StrEnum
from typing import TYPE_CHECKING

from shared.recon.base import StatementFile

if TYPE_CHECKING:
    from shared.recon.generic_csv import ColumnMap


class Format(StrEnum):
    """What a statement is written in."""

    MPESA_CSV = "mpesa_csv"
    CSV = "csv"
    CAMT053 = "camt053"
    MT940 = "mt940"


def read_statement(
    format_: Format, body: bytes, columns: "ColumnMap | None" = None
) -> StatementFile:
    """The statement in `body`. columns: needed for, and only for, CSV. Raises StatementRefused."""
    match format_:
        case Format.MPESA_CSV:
            from shared.recon import mpesa_csv

            return mpesa_csv.read(body)
        case Format.CAMT053:
            from shared.recon import camt053

            return camt053.read(body)
        case Format.MT940:
            from shared.recon import mt940

            return mt940.read(body)
        case Format.CSV:
            from shared.recon import generic_csv

            assert columns is not None, "a CSV comes with its columns"
            return generic_csv.read(body, columns)
