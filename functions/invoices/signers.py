"""The signer this process was configured with, behind its breaker. Loads no other provider."""

from pathlib import Path

from shared.config import Settings
from shared.signing.base import Signer
from shared.signing.breaker import GuardedSigner


def make_signer(settings: Settings) -> GuardedSigner:
    """FISCAL_SIGNING_PROVIDER's. ConfigError names every setting it lacks. Connects to nobody."""
    return GuardedSigner(_provider(settings))


def _provider(settings: Settings) -> Signer:
    if settings.fiscal_signing_provider == "alibaba_kms":
        # Its SDK takes a third of a second to load, which nobody else shall pay.
        from shared.signing.alibaba_kms import AlibabaKms

        settings.require("KMS_KEY_ID", "KMS_ACCESS_KEY_ID", "KMS_ACCESS_KEY_SECRET")
        return AlibabaKms(
            settings.kms_key_id,
            settings.kms_access_key_id,
            settings.kms_access_key_secret.get_secret_value(),
            region=settings.kms_region,
            endpoint=settings.kms_endpoint,
        )
    from shared.signing.local import LocalSigner

    return LocalSigner(Path(settings.invoice_key_file))
