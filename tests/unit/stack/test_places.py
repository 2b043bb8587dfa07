from pathlib import Path

import pytest

from scripts.stack.places import SOCKET_PATH_MAX, StackError, base_port, socket_directory


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
