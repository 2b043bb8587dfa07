import json
from collections.abc import Callable

import pytest

from scripts.stack import install


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a machine that has just these programs, where we are an ordinary user."""

    def have(*programs: str) -> None:
        found = {name: f"/usr/bin/{name}" for name in programs}
        monkeypatch.setattr("scripts.stack.install.shutil.which", found.get)
        monkeypatch.setattr("scripts.stack.install.os.geteuid", lambda: 1000)

    return have


def test_machine_without_node_is_told_in_one_sentence(only: Callable[..., None]) -> None:
    only("apt-get")

    with pytest.raises(install.Missing, match=r"^Node 20 or newer with npm is needed[^\n]*\.$"):
        install.install_node_packages()


def test_old_node_is_named_with_its_version(
    only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only("node", "npm")
    monkeypatch.setattr(install, "output", lambda *_: "v18.19.0")

    with pytest.raises(install.Missing, match=r"found 18\.19\.0"):
        install.install_node_packages()


def test_ordinary_user_without_sudo_is_told_what_to_do(only: Callable[..., None]) -> None:
    only("apt-get")

    with pytest.raises(install.Missing, match=r"run \./scripts/setup once as root"):
        install.apt("install", "postgresql")


def test_machine_without_apt_is_told_what_is_missing(only: Callable[..., None]) -> None:
    only("sudo")

    with pytest.raises(install.Missing, match=r"Postgres 15\+ is missing .* no apt-get"):
        install.apt("install", "postgresql")


def test_lock_file_names_every_package_with_its_hash() -> None:
    lock = json.loads((install.ROOT / "package-lock.json").read_text())

    packages = [facts for name, facts in lock["packages"].items() if name]
    assert packages
    assert all(facts["integrity"].startswith("sha512-") for facts in packages)
