"""Parquet of others, and names that no file can have: refused with what was wrong."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.doors import command, is_refused, passed
from hostile.test_generated import cut, records, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records.made import made

from c3po_adaptive.analysis.summarize import summarize
from c3po_adaptive.errors import DataError
from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.registry import default_registry
from c3po_adaptive.storage.json_files import read_json
from c3po_adaptive.storage.tables import read_table

MAYBE = ("base_choice", "strength", "neighbours_used", "moved")
"""What a record may be without."""


@cache
def rows():
    """Those of records, as the table has them."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"records-{os.getpid()}.parquet"
    write_parquet(made(records()[:6]), path)
    return pq.read_table(path).to_pylist(), pq.read_schema(path)


def changed(folder, name, value, kind=None):
    """Records with another value in the first place of one column."""
    held, schema = rows()
    first = held[0] | {name: value}
    if kind is not None:
        schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
        held = [row | {name: value} for row in held]
    pq.write_table(pa.Table.from_pylist([first, *held[1:]], schema), folder / "records.parquet")
    return folder / "records.parquet"


def test_records_as_they_are_pass(tmp_path):
    assert len(read_parquet(changed(tmp_path, "id", "other"))) == len(rows()[0])


@pytest.mark.parametrize("name", rows()[1].names)
def test_records_with_nulls(tmp_path, name):
    path = changed(tmp_path, name, None)
    if name in MAYBE:
        assert len(read_parquet(path)) == len(rows()[0])
    else:
        with pytest.raises(DataError, match=f"every row of {name}"):
            read_parquet(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("answer", "choice", "base_choice") for value in (-1, 99, 2**31 - 1)),
        ("scores", [None]),
        ("layers", [None, 1]),
        ("scores", []),
        ("strength", float("nan")),
        ("strength", float("inf")),
        ("of_arm", ""),
        ("of_arm", "null"),
        ("of_arm", "[]"),
        ("of_arm", "{}"),
        ("of_arm", '{"optimizer": 1e'),
        ("of_arm", "[" * 100_000),
    ],
)
def test_records_of_what_is_none(tmp_path, name, value):
    is_refused(lambda: read_parquet(changed(tmp_path, name, value)))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("answer", 2**64 - 1, pa.uint64()),
        ("answer", True, pa.bool_()),
        ("answer", 0.5, pa.float64()),
        ("answer", "0", pa.string()),
        ("scores", 1, pa.int32()),
        ("scores", [0.5], pa.list_(pa.float64())),
        ("id", b"\xff", pa.binary()),
        ("seed", None, pa.null()),
        ("cost_answer", 2**40, pa.int64()),
    ],
)
def test_records_of_other_types(tmp_path, name, value, kind):
    with pytest.raises(DataError, match=f"column {name}"):
        read_parquet(changed(tmp_path, name, value, kind))


value = st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 5)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["answer", "choice", "base_choice", "seed", "moved", "neighbours_used", "cost_prefill"]), value)
def test_records_that_come_in_are_summed_up(tmp_path, name, given_value):
    found = passed(lambda: read_parquet(changed(tmp_path, name, given_value)))
    if isinstance(found, list):
        passed(lambda: summarize(found, config={}, seed=0))


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_bytes_of_records_that_were_changed(tmp_path, data):
    path = written(tmp_path / "b.parquet", cut(data.draw, changed(tmp_path, "id", "a").read_bytes()))
    passed(lambda: read_parquet(path))


def test_texts_that_are_no_utf_8(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\x80a")]
    )
    pq.write_table(pa.table({"a": broken}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"UTF-?8"):
        read_table(tmp_path / "a.parquet", pa.schema([("a", pa.string())]), "texts", "write it again")


def test_columns_that_nobody_asked_for_are_not_read(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read_table(tmp_path / "a.parquet", pa.schema([("a", pa.int64())]), "a table", "make it again")
    assert found.to_pydict() == {"a": [1, 2]}
    with pytest.raises(DataError, match="got int64 for the column a, which is of string; make it again"):
        read_table(tmp_path / "a.parquet", pa.schema([("a", pa.string())]), "a table", "make it again")


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = ["", "x" * 300, "x" * 5000, "dangling", "loop", "folder", "dangling/x", "file/x"]


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A folder with what is no file to read, which is the current one."""
    for suffix in ("", ".py", ".yaml", ".jsonl", ".parquet"):
        (tmp_path / f"dangling{suffix}").symlink_to("nowhere")
        (tmp_path / f"loop{suffix}").symlink_to(f"loop{suffix}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "nul.py").write_bytes(b"x = 1\0\n")
    (tmp_path / "file").write_bytes(b"a\0b\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = ["x" * 300 + ".py", "dangling.py", "loop.py", "folder.py", "nul.py", "a\0.py"]


@pytest.mark.parametrize("name", [*NAMES, *FILES])
def test_plugins_of_names_that_no_file_has(odd, name):
    assert command("plugins", "check", name) == 1
    is_refused(lambda: default_registry().load_file(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "words",
    [
        ["refset", "show"],
        ["report"],
        ["study", "plan"],
        ["models"],
        ["explain", "Is it?", "--refset"],
        ["plugins", "list", "--plugin"],
    ],
    ids=" ".join,
)
def test_what_is_no_file_given_as_one(odd, words, name):
    assert command(*words, name) in (1, 2)


def test_json_of_a_name_that_no_file_can_have():
    is_refused(lambda: read_json(Path("a\0b"), "give another"))
