"""shared/http/idempotency.py: the hash of a body."""

import hashlib

import pytest
from pydantic import BaseModel

from shared.errors import InvalidRequest
from shared.http.idempotency import body_hash


class Order(BaseModel):
    amount: str
    note: str | None = None
    metadata: dict[str, object] = {}


def test_hash_is_sha256_of_the_canonical_body() -> None:
    canonical = '{"amount":"1.00","metadata":{"a":1,"é":"x"}}'.encode()

    assert (
        body_hash(Order(metadata={"é": "x", "a": 1}, amount="1.00"))
        == hashlib.sha256(canonical).hexdigest()
    )


def test_order_and_space_of_the_senders_json_do_not_matter() -> None:
    one = Order.model_validate_json('{"amount":"1","metadata":{"a":"1","b":"2"}}')
    two = Order.model_validate_json('{ "metadata": {"b":"2","a":"1"}, "amount": "1" }')

    assert body_hash(one) == body_hash(two)


def test_default_is_not_part_of_the_hash_and_an_explicit_null_is() -> None:
    assert body_hash(Order(amount="1")) != body_hash(Order(amount="1", note=None))


def test_absent_body_hashes_like_an_empty_one() -> None:
    assert body_hash(None) == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize("value", [2**60, -(2**60), "\ud800"])
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        body_hash(Order(amount="1", metadata={"a": value}))
