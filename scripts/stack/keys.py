"""The secrets of one local stack: made once, kept in its state directory, readable by its owner."""

import base64
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

LIFE_OF_ROLE_TOKEN_S = 10 * 365 * 86_400
LIFE_OF_USER_TOKEN_S = 3600


class Keys:
    """`keys.json` of a state directory. Created on first use; later uses find the same secrets."""

    def __init__(self, state: Path) -> None:
        self.path = state / "keys.json"
        self._facts: dict[str, Any] = {}
        if self.path.exists():
            self._facts = json.loads(self.path.read_text())
            if missing := {n: f for n, f in _accounts().items() if n not in self._facts}:
                self.remember(**missing)  # a state directory of an earlier release
        else:
            self._facts = _generate()
            self._save()
        self._private = jwt.PyJWK(self._facts["signing_key"], algorithm="ES256")

    def __getitem__(self, name: str) -> Any:
        return self._facts[name]

    def get(self, name: str) -> str | None:
        """A text fact such as a seeded merchant key; None before it was remembered."""
        return self._facts.get(name)

    def remember(self, **facts: str) -> None:
        """Keep more facts, such as the merchant keys of the seeded tenant."""
        self._facts |= facts
        self._save()

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public half of the signing key, as /auth/v1/.well-known/jwks.json answers it."""
        private = self._facts["signing_key"]
        public = {name: private[name] for name in ("kty", "crv", "x", "y", "kid")}
        return {"keys": [public | {"alg": "ES256", "use": "sig", "key_ops": ["verify"]}]}

    def sign(self, claims: dict[str, Any]) -> str:
        """An ES256 token of these claims."""
        header = {"kid": self._facts["signing_key"]["kid"]}
        return jwt.encode(claims, self._private, algorithm="ES256", headers=header)

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a user token of ours. Raises jwt.InvalidTokenError."""
        public = jwt.PyJWK(self.jwks()["keys"][0])
        return jwt.decode(token, public, algorithms=["ES256"], audience="authenticated", leeway=30)

    def role_token(self, role: str) -> str:
        """The long-lived Data API token of one database role, minted once."""
        tokens: dict[str, str] = self._facts["role_tokens"]
        if role not in tokens:
            now = int(time.time())
            # Back-dated, so that a server whose clock lags a little accepts it at once.
            life = {"iat": now - 60, "exp": now + LIFE_OF_ROLE_TOKEN_S}
            tokens[role] = self.sign({"role": role, "iss": "stalela-local"} | life)
            self._save()
        return tokens[role]

    def _save(self) -> None:
        draft = self.path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self._facts, file, indent=2)
        draft.replace(self.path)


def _generate() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(key, as_dict=True)
    return {
        "signing_key": jwk | {"kid": secrets.token_hex(8), "alg": "ES256"},
        "publishable_key": f"sb_publishable_{secrets.token_urlsafe(24)}",
        "secret_key": f"sb_secret_{secrets.token_urlsafe(24)}",
        "internal_token": secrets.token_urlsafe(32),
        "vault_keys": {"1": base64.b64encode(secrets.token_bytes(32)).decode()},
        "role_tokens": {},
        **_accounts(),
    }


def _accounts() -> dict[str, str]:
    """Who we are at the simulators."""
    secret = base64.b64encode(secrets.token_bytes(24)).decode()
    return {
        "resend_api_key": f"re_{secrets.token_urlsafe(24)}",
        "resend_webhook_secret": f"whsec_{secret}",
        "oss_access_key_id": f"LTAI5t{secrets.token_hex(9)}",
        "oss_access_key_secret": secrets.token_urlsafe(24),
    }
