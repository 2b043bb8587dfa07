"""Laws of the vault: a sealed value opens as itself, in its own context, unaltered."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.vault import SealBroken, Vault, VaultError

_KEY = base64.b64encode(bytes(range(32))).decode()
_OTHER = base64.b64encode(bytes(32)).decode()
vault = Vault({"1": SecretStr(_KEY)})
rotated = Vault({"1": SecretStr(_KEY), "2": SecretStr(_OTHER)})


@given(st.binary(max_size=300), st.text(max_size=40))
def test_opening_what_was_sealed_gives_it_back(plaintext: bytes, context: str) -> None:
    assert vault.open(vault.seal(plaintext, context), context) == plaintext


@given(st.binary(max_size=100), st.text(max_size=40))
def test_resealing_moves_to_the_current_key_and_keeps_the_value(
    plaintext: bytes, context: str
) -> None:
    resealed = rotated.reseal(vault.seal(plaintext, context), context)

    assert rotated.version_of(resealed) == 2
    assert rotated.open(resealed, context) == plaintext


@given(st.lists(st.text(max_size=20), min_size=2, max_size=2, unique=True))
def test_a_value_opens_in_no_other_context(contexts: list[str]) -> None:
    sealed = vault.seal(b"secret", contexts[0])

    with pytest.raises(SealBroken):
        vault.open(sealed, contexts[1])


@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(vault.seal(b"secret", "here")))
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8

    with pytest.raises(VaultError):
        vault.open(base64.b64encode(bytes(raw)).decode(), "here")


@given(st.text(max_size=30), st.text(max_size=10))
def test_blind_index_survives_the_rotation_and_the_loss_of_the_first_key(
    value: str, context: str
) -> None:
    later = Vault({"2": SecretStr(_OTHER), "index": SecretStr(vault.index_key())})

    first = vault.blind_index(value, context)

    assert rotated.blind_index(value, context) == first
    assert later.blind_index(value, context) == first
