"""Objects that are written once and kept: Alibaba OSS, the only module that knows its SDK.

Blocking, because the SDK is: functions call it in a thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    import oss2

_TIMEOUT_S: Final = 20  # to connect, and between two bytes
_CHUNK: Final = 256 * 1024


class StoreUnavailable(Exception):
    """No answer, or one that says later. What was sent may or may not be there: write it again."""


class NotTheSame(Exception):
    """What is kept under a name is not what was to be kept there."""


class Missing(Exception):
    """There is nothing under this name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects are, and who we are there. `endpoint` is the region's, without bucket."""

    endpoint: str
    region: str
    bucket: str
    access_key_id: str
    access_key_secret: str


class Objects:
    """One bucket. Each verb raises StoreUnavailable when it has no answer."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._opened: oss2.Bucket | None = None

    def retention_days(self) -> int:
        """How long the bucket's locked policy keeps every object; 0 without one."""
        import oss2

        try:
            policy = self._bucket.get_bucket_worm()
        except oss2.exceptions.NoSuchWORMConfiguration:
            return 0
        except oss2.exceptions.OssError as trouble:
            raise _unavailable(trouble) from trouble
        return int(policy.retention_period_days) if policy.state == "Locked" else 0

    def keep(self, key: str, body: IO[bytes], media_type: str) -> str:
        """Write `body` under `key`, once, and read it back; its SHA-256 as hex.

        Raises NotTheSame when another body is kept there, or came to harm on its way.
        """
        import oss2

        digest = _digest(_pieces(body))
        body.seek(0)
        headers = {
            "x-oss-forbid-overwrite": "true",
            "x-oss-meta-sha256": digest,
            "Content-Type": media_type,
        }
        try:
            self._bucket.put_object(key, body, headers=headers)
        except oss2.exceptions.ServerError as refused:
            # It is there already, from a try whose answer was lost: the comparison below decides.
            if refused.code not in ("FileAlreadyExists", "FileImmutable"):
                raise _unavailable(refused) from refused
        except oss2.exceptions.OssError as trouble:
            raise _unavailable(trouble) from trouble
        if _digest(self.read(key)) != digest:
            raise NotTheSame(key)
        return digest

    def read(self, key: str) -> Iterator[bytes]:
        """An object, piece by piece. Raises Missing."""
        import oss2

        try:
            yield from _pieces(self._bucket.get_object(key))
        except oss2.exceptions.NoSuchKey:
            raise Missing(key) from None
        except OSError as broken:
            # The SDK wraps what happens before the first byte of an answer, and nothing after it.
            raise StoreUnavailable(f"the answer broke off: {type(broken).__name__}") from broken
        except oss2.exceptions.OssError as trouble:
            raise _unavailable(trouble) from trouble

    def names(self, prefix: str) -> list[str]:
        """The objects whose names begin so, in order."""
        import oss2

        try:
            return [one.key for one in oss2.ObjectIteratorV2(self._bucket, prefix=prefix)]
        except oss2.exceptions.OssError as trouble:
            raise _unavailable(trouble) from trouble

    @property
    def _bucket(self) -> "oss2.Bucket":
        if self._opened is None:
            import oss2

            place = self._place
            self._opened = oss2.Bucket(
                oss2.AuthV4(place.access_key_id, place.access_key_secret),
                place.endpoint,
                place.bucket,
                connect_timeout=_TIMEOUT_S,
                region=place.region,
                # Every object is read back and compared by SHA-256, which says more.
                enable_crc=False,
            )
        return self._opened


def _pieces(body: "IO[bytes] | oss2.models.GetObjectResult") -> Iterator[bytes]:
    while piece := body.read(_CHUNK):
        yield piece


def _digest(pieces: Iterator[bytes]) -> str:
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _unavailable(trouble: "oss2.exceptions.OssError") -> StoreUnavailable:
    # The SDK's own text repeats headers, among them who signed the request.
    return StoreUnavailable(f"{trouble.status} {trouble.code or type(trouble).__name__}")
