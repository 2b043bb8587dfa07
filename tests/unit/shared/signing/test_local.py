"""Keys in files: made once, kept, added to."""

import asyncio
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Barrier

import pytest

from shared.signing.base import SignerUnavailable
from shared.signing.local import LocalSigner
from shared.signing.verification import is_signed

DIGEST = sha256(b"this is message\n").digest()


@pytest.mark.parametrize("alg", ["ES256", "PS256"])
async def test_key_is_made_once_and_signs_the_digest_as_it_is(tmp_path: Path, alg: str) -> None:
    path = tmp_path / "keys" / "key.pem"
    key = await LocalSigner(path, alg).newest()

    signed = await LocalSigner(path, alg).sign(key, DIGEST)

    assert is_signed(DIGEST, signed.value, alg, key.spki)
    assert not is_signed(sha256(DIGEST).digest(), signed.value, alg, key.spki)
    assert path.stat().st_mode & 0o077 == 0


async def test_those_who_need_the_first_key_at_the_same_time_get_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, together = tmp_path / "key.pem", Barrier(4)
    link = Path.hardlink_to
    monkeypatch.setattr(Path, "hardlink_to", lambda *names: (together.wait(5), link(*names)))
    signer = LocalSigner(path)

    keys = await asyncio.gather(*(signer.newest() for _ in range(together.parties)))

    assert {*keys} == {await LocalSigner(path).newest()}
    assert [*tmp_path.iterdir()] == [path]


async def test_older_key_signs_after_a_new_one_was_made(tmp_path: Path) -> None:
    signer = LocalSigner(tmp_path / "key.pem")
    old = await signer.newest()

    new = await signer.create()

    assert (new.key_version, await LocalSigner(tmp_path / "key.pem").newest()) == ("2", new)
    for key in (old, new):
        assert is_signed(DIGEST, (await signer.sign(key, DIGEST)).value, key.alg, key.spki)


async def test_key_that_another_instance_holds_is_not_replaced_silently(tmp_path: Path) -> None:
    here, there = LocalSigner(tmp_path / "here.pem"), LocalSigner(tmp_path / "there.pem")
    theirs = await there.newest()
    await here.newest()

    with pytest.raises(SignerUnavailable, match="is another key"):
        await here.sign(theirs, DIGEST)
    with pytest.raises(SignerUnavailable, match="holds no key of alibaba_kms"):
        await here.sign(replace(theirs, provider="alibaba_kms"), DIGEST)


async def test_missing_version_is_not_made_by_signing(tmp_path: Path) -> None:
    signer = LocalSigner(tmp_path / "key.pem")
    key = await signer.newest()

    with pytest.raises(SignerUnavailable, match=r"key\.7\.pem cannot be read"):
        await signer.sign(replace(key, key_version="7"), DIGEST)

    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]
