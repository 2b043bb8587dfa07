"""The jurisdictions we know: a folder of data each. Adding one is a folder and a line here."""

from typing import Final

FOLDERS: Final = {"CD": "cd", "KE": "ke", "ZW": "zw"}
