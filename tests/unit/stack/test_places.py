from pathlib import Path

import pytest

from scripts.stack.places import SOCKET_PATH_MAX, Ports, StackError, base_port, socket_directory


def test_socket_lies_beside_the_data_when_the_path_is_short() -> None:
    assert socket_directory(Path("/srv/shop")) == Path("/srv/shop/socket")


def test_socket_moves_when_its_path_would_be_too_long_for_the_kernel() -> None:
    deep = Path("/srv") / ("d" * SOCKET_PATH_MAX)

    moved = socket_directory(deep)

    assert len(str(moved / ".s.PGSQL.65535.lock")) <= SOCKET_PATH_MAX
    assert moved != socket_directory(deep / "other")


def test_port_that_is_no_number_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STALELA_PORT", "http")

    with pytest.raises(StackError, match=r"STALELA_PORT .* 'http'"):
        base_port()


@pytest.mark.parametrize("port", ["1023", "65527", "65535", "99999999999"])
def test_port_whose_block_does_not_fit_is_refused(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALELA_PORT", port)

    with pytest.raises(StackError, match=r"from 1024 to 65526, .*: the stack takes 10 ports"):
        base_port()


@pytest.mark.parametrize("port", [1024, 65_526])
def test_port_whose_block_just_fits_is_taken(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STALELA_PORT", str(port))

    assert base_port() == port


@pytest.mark.parametrize(("port", "others"), [(54_321, 54_421), (65_426, 65_526), (65_427, 65_327)])
def test_other_ports_that_are_named_fit_as_well(port: int, others: int) -> None:
    assert Ports(port).others.base == others
