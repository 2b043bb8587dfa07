"""Objects that are written once and kept: Alibaba OSS, the only module that knows its SDK.

Blocking, because the SDK is: functions call it in a thread.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    import oss2

_TIMEOUT_S: Final = 20  # to connect, and between two bytes
_CHUNK: Final = 256 * 1024


class StoreUnavailable(Exception):
    """No answer, or one that says later. What was sent may or may not be there: write it again."""


class Refused(Exception):
    """It answered, and will not have this. Nothing was kept; others may fare better."""


class NotTheSame(Exception):
    """What is kept under a name is not what was to be kept there, and stays as it is."""

    def __init__(self, key: str, *, just_written: bool) -> None:
        super().__init__(key)
        self.just_written = just_written


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
    """One bucket. Each verb raises StoreUnavailable when it has no answer, Refused for a no."""

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
            raise _trouble(trouble) from trouble
        return int(policy.retention_period_days) if policy.state == "Locked" else 0

    def keep(self, key: str, body: IO[bytes], digest: str, media_type: str) -> None:
        """Write `body`, whose SHA-256 is `digest` (hex), under `key`, once, and read it back.

        What comes to harm on its way is Refused. Raises NotTheSame when it came to harm there, or
        something else is there from before.
        """
        import oss2

        body.seek(0)
        arrives = md5(usedforsecurity=False)
        for piece in _pieces(body):
            arrives.update(piece)
        body.seek(0)
        headers = {
            "x-oss-forbid-overwrite": "true",
            "x-oss-meta-sha256": digest,
            "Content-MD5": base64.b64encode(arrives.digest()).decode(),
            "Content-Type": media_type,
        }
        written = True
        try:
            self._bucket.put_object(key, body, headers=headers)
        except oss2.exceptions.ServerError as refused:
            # It is there already, from a try whose answer was lost: the comparison below decides.
            if refused.code not in ("FileAlreadyExists", "FileImmutable"):
                raise _trouble(refused) from refused
            written = False
        except oss2.exceptions.OssError as trouble:
            raise _trouble(trouble) from trouble
        there = sha256()
        for piece in self.read(key):
            there.update(piece)
        if there.hexdigest() != digest:
            raise NotTheSame(key, just_written=written)

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
            raise _trouble(trouble) from trouble

    def names(self, prefix: str) -> list[str]:
        """The objects whose names begin so, in order."""
        import oss2

        try:
            return [one.key for one in oss2.ObjectIteratorV2(self._bucket, prefix=prefix)]
        except oss2.exceptions.OssError as trouble:
            raise _trouble(trouble) from trouble

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
                # MD5 on the way, and every object is read back and compared by SHA-256.
                enable_crc=False,
            )
        return self._opened


def _pieces(body: "IO[bytes] | oss2.models.GetObjectResult") -> Iterator[bytes]:
    while piece := body.read(_CHUNK):
        yield piece


def _trouble(trouble: "oss2.exceptions.OssError") -> Refused | StoreUnavailable:
    # The SDK's own text repeats headers, among them who signed the request.
    reason = f"{trouble.status} {trouble.code or type(trouble).__name__}"
    return Refused(reason) if 400 <= trouble.status < 500 else StoreUnavailable(reason)
