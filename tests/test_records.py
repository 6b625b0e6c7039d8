"""Records survive the disk, and a file that is something else is refused by name."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from stages.core.records import (
    SCHEMA_VERSION,
    BankEntry,
    Demo,
    Episode,
    Message,
    Part,
    RecordError,
    Turn,
    atomic,
    from_json,
    read,
    schema,
    to_frame,
    write,
)

TURN = Turn(
    prompt_tokens=30,
    computed_tokens=12,
    elided=1,
    reply="Think: é ☃\nAction: look\x00",
    reply_tokens=9,
    finish="stop",
    thought="é ☃",
    action="",
    fault="control_characters",
    asked_again=False,
    observation="Nothing happens.",
    valid=False,
    admissible=["look", "go to bed 1"],
)
EPISODE = Episode(
    schema_version=SCHEMA_VERSION,
    episode_id="e1",
    task_id="t1",
    env="alfworld",
    agent="react",
    system="base",
    seed=2**40,
    panel="train",
    panel_sha256="0" * 64,
    category="put",
    category_used="heat",
    skill="put",
    goal="put a mug in shelf",
    hint_ids=["b1"],
    hints=["Look first."],
    opening="You are in a room.",
    turns=[TURN, dataclasses.replace(TURN, admissible=[], valid=True)],
    success=True,
    reward=0.1,
    parts=[Part("price_met", 1.0)],
    steps=2,
    refused=1,
    stop="done",
    prompt_tokens=60,
    reply_tokens=18,
    computed_tokens=42,
    retrieve_tokens=0,
    model="m",
    engine="none",
    machine_failure="",
)
DEMO = Demo(
    SCHEMA_VERSION, "d1", "t1", "alfworld", "react", "put", [], [Message("user", "a"), Message("assistant", "b", True)]
)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (
            Episode,
            [EPISODE, dataclasses.replace(EPISODE, turns=[], hints=[], hint_ids=[], machine_failure="engine down")],
        ),
        (Demo, [DEMO, dataclasses.replace(DEMO, messages=[])]),
        (BankEntry, [BankEntry(SCHEMA_VERSION, "b1", "alfworld", "react", "put", "Look.", 2, 1, ["h1", "h2"], ["e1"])]),
        (Episode, []),
    ],
)
def test_nested_records_come_back_equal(tmp_path: Path, kind: type, rows: list[object]) -> None:
    path = tmp_path / "new" / "rows.parquet"
    write(path, kind, rows)
    assert read(path, kind) == rows
    assert [from_json(kind, dataclasses.asdict(row)) for row in rows] == rows  # type: ignore[call-overload]
    assert os.listdir(path.parent) == ["rows.parquet"]


def test_columns_are_the_fields_in_their_order() -> None:
    columns = schema(Demo)
    assert list(columns) == [f.name for f in dataclasses.fields(Demo)]
    assert columns["messages"] == pl.List(pl.Struct({"role": pl.String, "content": pl.String, "train": pl.Boolean}))


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, Episode, [EPISODE] * 3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_file_is_named_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.parquet: no such file; run `dvc repro`"):
        read(tmp_path / "none.parquet", Demo)


@pytest.mark.parametrize("damage", ["empty", "text", "torn"])
def test_an_unreadable_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "demos.parquet"
    write(path, Demo, [DEMO])
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"demo_id,task_id\n", "torn": whole[: len(whole) // 2]}[damage])
    with pytest.raises(RecordError, match=r"demos\.parquet: not a readable Parquet file"):
        read(path, Demo)


def test_another_schema_is_refused_with_the_columns_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "demos.parquet"
    frame = to_frame(Demo, [DEMO])
    frame.with_columns(kind=pl.lit(1)).write_parquet(path)
    with pytest.raises(
        RecordError, match=r"demos\.parquet: not a table of Demo records; columns that differ: .*'kind'"
    ):
        read(path, Demo)
    frame.drop("hints").write_parquet(path)
    with pytest.raises(RecordError, match=r"demos\.parquet.*'hints'"):
        read(path, Demo)
    with pytest.raises(RecordError, match=r"demos\.parquet: not a table of Episode records"):
        read(path, Episode)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demos.parquet"
    write(path, Demo, [DEMO, dataclasses.replace(DEMO, schema_version=SCHEMA_VERSION + 1)])
    with pytest.raises(
        RecordError, match=rf"demos\.parquet: schema_version \[{SCHEMA_VERSION + 1}\] found, {SCHEMA_VERSION} "
    ):
        read(path, Demo)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "demos.parquet"
    write(path, Demo, [DEMO])
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["demos.parquet"]


def test_a_failed_first_write_leaves_no_file(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd:
        schema_version: int

    with pytest.raises(pl.exceptions.PolarsError):
        write(tmp_path / "odd.parquet", Odd, [Odd("one")])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError), atomic(tmp_path / "odd.parquet"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write(tmp_path / "demos.parquet", Demo, [DEMO])
    assert (tmp_path / "demos.parquet").stat().st_mode & 0o777 == 0o644
