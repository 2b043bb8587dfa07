"""What restore-archive says before it has read anything."""

from pathlib import Path

import pytest

from scripts import restore_archive


@pytest.mark.parametrize("text", [None, "not JSON", '{"keys": 1}'])
def test_keys_that_cannot_be_read_are_no_verdict_about_the_archive(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.json"
    if text is not None:
        keys.write_text(text)

    assert restore_archive.main(["fiscal/CD/m/o/", "--keys", str(keys)]) == 2
    assert "keys.json" in capsys.readouterr().err
