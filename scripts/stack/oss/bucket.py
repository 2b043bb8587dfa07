"""A bucket on disk: objects that are written once, and a retention policy that holds."""

import base64
import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.stack.oss.signatures import Refused

LAPSES = timedelta(hours=24)  # a policy that is not locked by then is gone


@dataclass
class Policy:
    """Write once, read many: InProgress can be aborted, Locked only extended."""

    worm_id: str
    days: int
    state: str
    created_at: str


@dataclass(frozen=True)
class Stored:
    """What is kept of an object beside its bytes."""

    key: str
    size: int
    etag: str
    written_at: str
    headers: dict[str, str]


class Bucket:
    """One bucket in `folder`. Names of objects are hashed: a key is no path of ours."""

    def __init__(self, folder: Path, days: int | None) -> None:
        self._folder = folder
        (folder / "objects").mkdir(parents=True, exist_ok=True)
        if days is not None and self.policy() is None:
            self.lock(self.propose(days))

    def put(self, key: str, body: bytes, headers: dict[str, str], *, once: bool) -> Stored:
        """Keep an object. Refused when there is one that may not be replaced."""
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        arrived = base64.b64encode(md5).decode()
        if headers.get("content-md5", arrived) != arrived:
            raise Refused(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        if self.find(key) is not None:
            if once:
                raise Refused(409, "FileAlreadyExists", "The object you specified exists.")
            self._check_mutable()
        stored = Stored(
            key,
            len(body),
            md5.hex().upper(),
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}",
            {
                name: value
                for name, value in headers.items()
                if name == "content-type" or name.startswith("x-oss-meta-")
            },
        )
        self._bytes_of(key).write_bytes(body)
        self._facts_of(key).write_text(json.dumps(asdict(stored)))
        return stored

    def find(self, key: str) -> Stored | None:
        """What is known of an object; None when there is none."""
        facts = self._facts_of(key)
        return Stored(**json.loads(facts.read_text())) if facts.exists() else None

    def read(self, key: str) -> tuple[Stored, bytes]:
        """An object. Refused when there is none."""
        stored = self.find(key)
        if stored is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        return stored, self._bytes_of(key).read_bytes()

    def delete(self, key: str) -> None:
        """Forget an object, as far as the policy lets it be forgotten."""
        if self.find(key) is not None:
            self._check_mutable()
            self._bytes_of(key).unlink()
            self._facts_of(key).unlink()

    def list(self, prefix: str) -> list[Stored]:
        """Objects whose keys begin so, by key."""
        files = (self._folder / "objects").glob("*.json")
        stored = [Stored(**json.loads(file.read_text())) for file in files]
        return sorted(
            (one for one in stored if one.key.startswith(prefix)), key=lambda one: one.key
        )

    def rot(self, key: str) -> None:
        """Flip one bit on the disk, as years do."""
        file = self._bytes_of(key)
        file.write_bytes(flipped(file.read_bytes()))

    def policy(self) -> Policy | None:
        """The retention policy, if there is one that has not lapsed."""
        file = self._folder / "worm.json"
        if not file.exists():
            return None
        policy = Policy(**json.loads(file.read_text()))
        age = datetime.now(UTC) - datetime.fromisoformat(policy.created_at)
        return None if policy.state == "InProgress" and age > LAPSES else policy

    def propose(self, days: int) -> str:
        """A policy that can still be taken back; its id."""
        if not 1 <= days <= 25_550:
            raise Refused(400, "InvalidWORMConfiguration", "RetentionPeriodInDays is 1 to 25550.")
        if self.policy() is not None:
            raise Refused(409, "WORMConfigurationLocked", "The bucket has a retention policy.")
        policy = Policy(uuid.uuid4().hex.upper(), days, "InProgress", datetime.now(UTC).isoformat())
        self._keep(policy)
        return policy.worm_id

    def lock(self, worm_id: str) -> None:
        """Make the policy hold for good."""
        policy = self.policy()
        if policy is None or policy.worm_id != worm_id:
            raise Refused(404, "NoSuchWORMConfiguration", "There is no such retention policy.")
        policy.state = "Locked"
        self._keep(policy)

    def _keep(self, policy: Policy) -> None:
        (self._folder / "worm.json").write_text(json.dumps(asdict(policy)))

    def _check_mutable(self) -> None:
        policy = self.policy()
        if policy is not None and policy.state == "Locked":
            raise Refused(409, "FileImmutable", "The object you specified is immutable.")

    def _bytes_of(self, key: str) -> Path:
        return self._folder / "objects" / hashlib.sha256(key.encode()).hexdigest()

    def _facts_of(self, key: str) -> Path:
        return self._bytes_of(key).with_suffix(".json")


def flipped(body: bytes) -> bytes:
    """The same but for one bit."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
