"""Which provider signs, and what choosing it costs."""

import subprocess
import sys

import pytest

from functions.invoices.signers import make_signer
from scripts.stack.places import ROOT
from shared.config import ConfigError, Settings

FACTS = {
    "function_name": "invoices",
    "data_api_url": "http://127.0.0.1",
    "data_api_token": "none",
    "supabase_url": "http://127.0.0.1",
    "functions_url": "http://127.0.0.1",
}


def test_who_signs_with_a_file_never_loads_the_sdk_of_kms() -> None:
    look = (
        "import sys; from functions.invoices.handler import create;"
        "from shared.config import Settings;"
        f"create(Settings(**{FACTS!r}));"
        "print([name for name in sys.modules if name.startswith(('alibabacloud', 'Tea'))])"
    )

    told = subprocess.run(  # noqa: S603  our own words
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == "[]"


def test_kms_without_its_settings_names_all_of_them() -> None:
    settings = Settings(**FACTS, fiscal_signing_provider="alibaba_kms")

    with pytest.raises(ConfigError) as missing:
        make_signer(settings)

    assert missing.value.problems == (
        "KMS_KEY_ID is not set.",
        "KMS_ACCESS_KEY_ID is not set.",
        "KMS_ACCESS_KEY_SECRET is not set.",
    )


def test_unknown_provider_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="fiscal_signing_provider"):
        Settings(**FACTS, fiscal_signing_provider="pen")
