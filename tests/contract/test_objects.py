"""The real SDK against the local endpoint, which computes every signature again."""

import io
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import oss2
import pytest

from scripts.stack.oss.app import BUCKET, REGION
from scripts.stack.oss.testing import KEY, SECRET, TEN_YEARS, Vaulted, keeping
from shared.objects import Missing, NotTheSame, Objects, Place, Refused, StoreUnavailable

NAME = "fiscal/CD/mrc_1/out_1/2026/11/21/000001-000002.ledger.jsonl.gz"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vaulted]:
    with keeping(tmp_path_factory.mktemp("oss")) as running:
        yield running


@pytest.fixture
def place(endpoint: Vaulted) -> Place:
    return Place(endpoint.url, REGION, BUCKET, KEY, SECRET)


@pytest.fixture
def objects(place: Place) -> Objects:
    return Objects(place)


def keep(objects: Objects, name: str, body: bytes = b"a day's entries") -> None:
    objects.keep(name, io.BytesIO(body), sha256(body).hexdigest(), "application/gzip")


def test_object_is_kept_and_read_back(objects: Objects) -> None:
    keep(objects, NAME)

    assert b"".join(objects.read(NAME)) == b"a day's entries"
    assert objects.names("fiscal/CD/mrc_1/") == [NAME]


def test_same_object_may_be_written_again_and_another_may_not(objects: Objects) -> None:
    name = NAME + ".again"

    keep(objects, name)
    keep(objects, name)
    with pytest.raises(NotTheSame) as other:
        keep(objects, name, b"another day's")

    assert not other.value.just_written
    assert b"".join(objects.read(name)) == b"a day's entries"


@pytest.mark.parametrize(
    "change",
    [
        {"access_key_secret": "wrong"},
        {"access_key_id": "LTAI5tSomebody"},
        {"region": "eu-central-1"},
        {"bucket": "another-bucket"},
    ],
)
def test_who_is_not_who_they_say_keeps_nothing(
    change: dict[str, str], place: Place, endpoint: Vaulted
) -> None:
    stranger = Objects(replace(place, **change))

    with pytest.raises(Refused, match=r"^40[34] "):
        keep(stranger, NAME + ".forged")

    assert NAME + ".forged" not in endpoint.names()


def test_names_of_any_letters_are_signed_alike(objects: Objects) -> None:
    name = "fiscal/CD/a b+c/é%20~(1)/manifest.json"

    keep(objects, name)

    assert objects.names("fiscal/CD/a b") == [name]


def test_damage_on_the_way_is_refused_and_leaves_nothing(
    objects: Objects, endpoint: Vaulted
) -> None:
    name = NAME + ".garbled"
    endpoint.arm("garble")

    with pytest.raises(Refused, match=r"^400 InvalidDigest$"):
        keep(objects, name)

    assert name not in endpoint.names()
    keep(objects, name)


def test_damage_in_the_storage_is_found_and_stays(objects: Objects, endpoint: Vaulted) -> None:
    name = NAME + ".damaged"
    endpoint.arm("damage")

    for just_written in (True, False):
        with pytest.raises(NotTheSame) as spoilt:
            keep(objects, name)
        assert spoilt.value.just_written is just_written


def test_lost_answer_is_no_harm(objects: Objects, endpoint: Vaulted) -> None:
    name = NAME + ".lost"
    endpoint.arm("lost_answer")

    with pytest.raises(StoreUnavailable):
        keep(objects, name)

    keep(objects, name)


def test_answer_that_breaks_off_is_no_object(objects: Objects, endpoint: Vaulted) -> None:
    name = NAME + ".cut"
    keep(objects, name)
    endpoint.arm("cut")

    with pytest.raises(StoreUnavailable, match="broke off"):
        list(objects.read(name))


def test_outage_is_told_from_absence(objects: Objects, endpoint: Vaulted) -> None:
    with pytest.raises(Missing):
        list(objects.read("nothing"))
    endpoint.arm("down")
    with pytest.raises(StoreUnavailable, match=r"^503 ServiceUnavailable$"):
        list(objects.read("nothing"))


def test_retention_holds_against_everybody(objects: Objects, place: Place) -> None:
    name = NAME + ".held"
    keep(objects, name)
    bucket = oss2.Bucket(oss2.AuthV4(KEY, SECRET), place.endpoint, BUCKET, region=REGION)

    assert objects.retention_days() == TEN_YEARS
    for attempt in (
        lambda: bucket.delete_object(name),
        lambda: bucket.put_object(name, b"other"),
    ):
        with pytest.raises(oss2.exceptions.ServerError) as refused:
            attempt()
        assert (refused.value.status, refused.value.code) == (409, "FileImmutable")
    assert b"".join(objects.read(name)) == b"a day's entries"


def test_policy_counts_once_it_is_locked(tmp_path: Path) -> None:
    with keeping(tmp_path, days=None) as bare:
        objects = Objects(Place(bare.url, REGION, BUCKET, KEY, SECRET))
        bucket = oss2.Bucket(oss2.AuthV4(KEY, SECRET), bare.url, BUCKET, region=REGION)
        days = [objects.retention_days()]
        policy = bucket.init_bucket_worm(30)
        days.append(objects.retention_days())
        bucket.complete_bucket_worm(policy.worm_id)
        days.append(objects.retention_days())

    assert days == [0, 0, 30]
