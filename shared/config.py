"""The settings of one function, read once at start. Nothing else reads the environment.

A name in the environment is the field's name in capitals: DATA_API_URL, VAULT_KEYS. Lists and
mappings are JSON. `Settings(...)` takes explicit values only (the local gateway builds one per
function); `Settings.from_environment()` is for a bundle and its own process.
"""

import json
import os
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator


class ConfigError(Exception):
    """One sentence per setting that is missing or wrong. Never holds a value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


class Settings(BaseModel):
    """Everything a function may be told from outside. A secret prints as stars."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    function_name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    data_api_url: str = Field(pattern=r"^https?://")
    data_api_token: SecretStr
    data_api_key: SecretStr = SecretStr("")  # hosted: the publishable key; own PostgREST: none
    supabase_url: str = Field(pattern=r"^https?://")
    functions_url: str = Field(pattern=r"^https?://")  # public base: https://…/functions/v1
    vault_keys: dict[str, SecretStr] = Field(default_factory=dict)  # see shared/vault.py
    internal_tokens: list[SecretStr] = Field(default_factory=list, max_length=2)
    daraja_sandbox_url: str = "https://sandbox.safaricom.co.ke"
    daraja_production_url: str = "https://api.safaricom.co.ke"
    etims_sandbox_url: str = "https://etims-api-sbx.kra.go.ke/etims-api"
    etims_production_url: str = "https://etims-api.kra.go.ke/etims-api"
    fdms_test_url: str = "https://fdmsapitest.zimra.co.zw"
    fdms_production_url: str = "https://fdmsapi.zimra.co.zw"
    fdms_ca_file: str = ""  # PEM of who signs FDMS's web server; empty: whom the system trusts
    edef_sandbox_url: str = "https://developper.dgirdc.cd/edef"
    edef_production_url: str = "https://edef.dgirdc.cd"
    resend_url: str = "https://api.resend.com"
    resend_api_key: SecretStr = SecretStr("")  # none: mail is kept and not sent
    resend_webhook_secrets: list[SecretStr] = Field(default_factory=list, max_length=2)
    mail_from: str = "Stalela <receipts@stalela.example>"
    operator_email: str = ""  # hears the platform's alerts; empty: nobody does
    relay_url: SecretStr = SecretStr("")  # nats://user:password@host:4222 of the distributed log
    invoice_key_file: str = ".stalela/invoice-key.pem"  # the local signer's; made when missing
    fiscal_signing_provider: Literal["local", "alibaba_kms"] = "local"
    kms_key_id: str = ""  # whose newest version signs when no key is registered, and at a rotation
    kms_region: str = "eu-central-1"
    kms_endpoint: str = Field(default="", pattern=r"^(https?://.+)?$")  # empty: the region's own
    kms_access_key_id: str = ""
    kms_access_key_secret: SecretStr = SecretStr("")
    oss_endpoint: str = ""  # https://oss-eu-central-1.aliyuncs.com, where documents are archived
    oss_region: str = ""  # eu-central-1: part of every signature
    oss_bucket: str = ""  # with a locked retention policy; empty: nothing is archived
    oss_access_key_id: SecretStr = SecretStr("")
    oss_access_key_secret: SecretStr = SecretStr("")
    verify_url: str = ""  # public base of the QR codes; empty: /verify of functions_url
    trusted_proxies: int = Field(default=0, ge=0, le=10)  # proxies of ours in front of us
    callback_sources: list[str] = Field(default_factory=list)  # CIDRs; empty: not checked
    ip_requests_per_s: int = Field(default=50, ge=0)  # 0 switches the limit off
    ip_burst: int = Field(default=200, ge=1)
    global_requests_per_s: int = Field(default=1000, ge=0)  # per instance; 0 switches it off
    global_burst: int = Field(default=2000, ge=1)
    environment_name: str = "local"  # local, staging, production: where this process runs
    log_level: str = Field(default="info", pattern=r"^(debug|info|warning|error)$")
    version: str = "0"
    host: str = "0.0.0.0"  # noqa: S104  every platform we deploy to forwards to all interfaces
    port: int = Field(default=8080, ge=1, le=65535)

    @field_validator(
        "vault_keys",
        "internal_tokens",
        "callback_sources",
        "resend_webhook_secrets",
        mode="before",
    )
    @classmethod
    def _decode_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("must be JSON") from None

    @classmethod
    def from_environment(cls, required: Iterable[str] = ()) -> "Settings":
        """Read the environment. required: more names this function cannot start without.

        Raises ConfigError with every missing or wrong name at once.
        """
        wanted = [name.upper() for name in required]
        problems = [_missing(name) for name in wanted if not os.environ.get(name)]
        known = {name: name.upper() for name in cls.model_fields}
        try:
            read = cls.model_validate(
                {name: os.environ[key] for name, key in known.items() if key in os.environ}
            )
        except ValidationError as invalid:
            found = (
                _sentence(error["loc"], error["type"], error["msg"])
                for error in invalid.errors(include_input=False)
            )
            raise ConfigError(dict.fromkeys([*found, *problems])) from None
        if problems:
            raise ConfigError(problems)
        return read

    def require(self, *names: str) -> Self:
        """These settings, or ConfigError naming every one of `names` that is empty."""
        problems = [_missing(name) for name in names if not getattr(self, name.lower())]
        if problems:
            raise ConfigError(problems)
        return self


def _missing(name: str) -> str:
    return f"{name.upper()} is not set."


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location).upper()
    if kind == "missing":
        return _missing(name)
    return f"{name} is wrong: {message.removeprefix('Value error, ')}."
