"""shared/vault.py: the sealed layout, rotation, and what a failure says."""

import base64
import hashlib
import hmac

import pytest
from pydantic import SecretStr

from shared.vault import KeyMissing, SealBroken, Vault, VaultError

ONE = base64.b64encode(b"\x01" * 32).decode()
TWO = base64.b64encode(b"\x02" * 32).decode()


def vault(**keys: str) -> Vault:
    return Vault({name.removeprefix("v"): SecretStr(key) for name, key in keys.items()})


def test_header_is_layout_then_key_version() -> None:
    raw = base64.b64decode(vault(v1=ONE, v258=TWO).seal(b"pin", "t/mpesa/sandbox"))

    assert raw[:3] == bytes([1, 1, 2])
    assert len(raw) == 3 + 12 + len(b"pin") + 16


def test_sealing_twice_never_gives_the_same_text() -> None:
    one = vault(v1=ONE)

    assert one.seal(b"pin", "here") != one.seal(b"pin", "here")


def test_highest_version_seals_and_every_version_opens() -> None:
    old = vault(v1=ONE).seal(b"pin", "here")
    both = vault(v1=ONE, v2=TWO)

    new = both.seal(b"pin", "here")

    assert (both.version_of(old), both.version_of(new)) == (1, 2)
    assert both.open(old, "here") == both.open(new, "here") == b"pin"


def test_resealing_a_current_value_changes_nothing() -> None:
    one = vault(v1=ONE)
    sealed = one.seal(b"pin", "here")

    assert one.reseal(sealed, "here") == sealed


def test_value_of_a_key_that_is_gone_names_the_version() -> None:
    sealed = vault(v1=ONE).seal(b"pin", "here")

    with pytest.raises(KeyMissing, match="master key 1"):
        vault(v2=TWO).open(sealed, "here")


@pytest.mark.parametrize("context", ["there", "her", "here ", ""])
def test_wrong_context_fails_without_telling_key_value_or_context(context: str) -> None:
    one = vault(v1=ONE)
    sealed = one.seal(b"hunter2-consumer-secret", "here")

    with pytest.raises(SealBroken) as broken:
        one.open(sealed, context)

    assert "hunter2" not in str(broken.value)
    assert ONE not in str(broken.value)
    assert broken.value.__suppress_context__


def test_wrong_key_under_the_same_version_fails() -> None:
    sealed = vault(v1=ONE).seal(b"pin", "here")

    with pytest.raises(SealBroken):
        vault(v1=TWO).open(sealed, "here")


@pytest.mark.parametrize("sealed", ["", "not base64!", "AQAB", "AA" * 40])
def test_text_that_is_no_sealed_value_is_refused(sealed: str) -> None:
    with pytest.raises(SealBroken):
        vault(v1=ONE).open(sealed, "here")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "holds no master key"),
        ({"index": ONE}, "holds no master key"),
        ({"1": "c2hvcnQ="}, "key 1 is not the base64 of 32 bytes"),
        ({"1": "§"}, "key 1 is not the base64 of 32 bytes"),
        ({"0": ONE}, "names 1 to 65535"),
        ({"65536": ONE}, "names 1 to 65535"),
        ({"first": ONE}, "names 1 to 65535"),
    ],
)
def test_wrong_keys_are_refused_at_the_start_without_showing_them(
    keys: dict[str, str], message: str
) -> None:
    with pytest.raises(VaultError, match=message) as wrong:
        Vault({name: SecretStr(key) for name, key in keys.items()})

    assert ONE not in str(wrong.value)


def test_blind_index_is_the_documented_derivation_of_master_key_one() -> None:
    # HKDF-SHA256 (RFC 5869) by hand: extract with a salt of zeros, expand one block.
    extracted = hmac.digest(b"\0" * 32, b"\x01" * 32, hashlib.sha256)
    index_key = hmac.digest(extracted, b"stalela blind index 1\x01", hashlib.sha256)
    message = (3).to_bytes(4, "big") + b"t_1" + b"254712345678"

    index = vault(v1=ONE).blind_index("254712345678", "t_1")

    assert index == hmac.digest(index_key, message, hashlib.sha256).hex()


def test_blind_index_keeps_contexts_apart_even_where_the_bytes_meet() -> None:
    one = vault(v1=ONE)

    assert one.blind_index("bc", "a") != one.blind_index("c", "ab")


def test_blind_index_without_its_key_says_what_is_missing() -> None:
    with pytest.raises(KeyMissing, match="index"):
        vault(v2=TWO).blind_index("254712345678")
