from pathlib import Path

import pytest

from scripts.stack.places import ROOT
from scripts.stack.reference_data import DataError, primary_key, render

TABLES = """
create table shop.colours (
    code text primary key,
    name text
);

create table shop.moves (
    from_state text not null,
    event text not null,
    to_state text,
    primary key (from_state, event)
);
"""


def checkout(root: Path, **files: str) -> Path:
    """A tree with TABLES for the schema `shop` and the named files under shared/."""
    named = {f"shared/{name.replace('__', '.')}": text for name, text in files.items()}
    for path, text in ({"sql/shop/tables.sql": TABLES} | named).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_rows_are_upserted_by_primary_key_with_empty_as_null(tmp_path: Path) -> None:
    root = checkout(tmp_path, shop__colours__csv="code,name\nred,it's red\nnone,\n")

    text = render(root)[root / "sql/shop/data.sql"]

    assert "('red', 'it''s red'),\n('none', null)" in text
    assert "on conflict (code) do update set\n    name = excluded.name;" in text


def test_tables_come_in_the_order_of_their_definitions(tmp_path: Path) -> None:
    root = checkout(
        tmp_path,
        shop__moves__csv="from_state,event,to_state\na,go,b\n",
        shop__colours__csv="code,name\nred,Red\n",
    )

    text = render(root)[root / "sql/shop/data.sql"]

    assert text.index("shop.colours") < text.index("shop.moves")
    assert "on conflict (from_state, event) do update" in text


def test_json_file_carries_documents(tmp_path: Path) -> None:
    root = checkout(tmp_path, shop__colours__json='[{"code": "red", "name": {"en": "Red"}}]')

    text = render(root)[root / "sql/shop/data.sql"]

    assert """('red', '{"en": "Red"}')""" in text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("shop__colours__csv", "code,name\nred\n", "1 fields"),
        ("shop__colours__csv", "name\nRed\n", "lacks the key column code"),
        ("shop__colours__csv", "code,name\n", "has no rows"),
        ("shop__sizes__csv", "code\nxl\n", "no `create table shop.sizes`"),
    ],
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        render(checkout(tmp_path, **{name: text}))


def test_inline_and_listed_primary_keys_are_read() -> None:
    assert primary_key(TABLES, "shop.colours")[1] == ["code"]
    assert primary_key(TABLES, "shop.moves")[1] == ["from_state", "event"]


def test_committed_data_files_are_what_the_csv_files_say() -> None:
    stale = [str(path) for path, text in render(ROOT).items() if path.read_text() != text]

    assert stale == []
