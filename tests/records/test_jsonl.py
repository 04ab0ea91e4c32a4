"""Records survive interruption, one row for each answer."""

import pytest

from c3po_adaptive.errors import DataError
from c3po_adaptive.records.base import Record
from c3po_adaptive.records.jsonl import Records, read_records


class Said(Record):
    """a record of what was said"""

    text: str = ""


def row(id_="a", arm="base", seed=0, **more):
    return Said(id=id_, dataset="demo", arm=arm, seed=seed, **more)


def test_rows_come_back(tmp_path):
    records = Records(tmp_path, Said)
    rows = [row("a"), row("b", text="ß\u2028\n"), row("a", seed=1)]
    for r in rows:
        records.append(r)
    assert read_records(tmp_path, Said) == rows
    assert Records(tmp_path, Said).done() == {
        ("base", "demo", "a", 0),
        ("base", "demo", "b", 0),
        ("base", "demo", "a", 1),
    }


def test_done_is_a_copy(tmp_path):
    records = Records(tmp_path, Said)
    records.done().add(("base", "demo", "a", 0))
    records.append(row("a"))


@pytest.mark.parametrize("tail", ['{"id": "b", "arm', '{"id": "b"}', "\xc3"])
def test_resume_cuts_a_half_written_line(tmp_path, tail):
    Records(tmp_path, Said).append(row("a"))
    path = tmp_path / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail.encode("latin-1"))
    assert read_records(tmp_path, Said) == [row("a")]
    assert path.read_bytes() != whole, "reading leaves the folder as it is"
    resumed = Records(tmp_path, Said)
    assert path.read_bytes() == whole
    resumed.append(row("b"))
    assert [r.id for r in read_records(tmp_path, Said)] == ["a", "b"]


def test_cut_in_the_very_first_line(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"id"')
    assert Records(tmp_path, Said).done() == set()


@pytest.mark.parametrize("line", ["{half", "[1]", '{"id": "x"}', "", "3"])
def test_a_broken_line_elsewhere_is_named(tmp_path, line):
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join([row("a").model_dump_json(), line, row("b").model_dump_json(), ""]))
    with pytest.raises(DataError, match=rf"line 2 of {path}"):
        Records(tmp_path, Said)


def test_a_row_twice_is_refused_when_written(tmp_path):
    records = Records(tmp_path, Said)
    records.append(row("a"))
    with pytest.raises(DataError, match="twice"):
        records.append(row("a"))


def test_a_row_that_stands_there_again_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(row(i).model_dump_json() + "\n" for i in "aba"))
    with pytest.raises(DataError, match=rf"line 3 of {path}: expected each answer once, got .*'a', 0. again; delete"):
        Records(tmp_path, Said)


def test_no_records(tmp_path):
    with pytest.raises(DataError, match=r"records\.jsonl"):
        read_records(tmp_path, Said)


def test_append_to_a_folder_that_is_gone(tmp_path):
    with pytest.raises(DataError, match="append"):
        Records(tmp_path / "gone", Said).append(row("a"))


def test_what_is_no_number_is_no_record():
    class Measured(Record):
        """a measured record"""

        value: float

    for value in (float("nan"), float("inf"), object()):
        with pytest.raises(ValueError, match="value"):
            Measured(id="a", dataset="demo", arm="base", seed=0, value=value)


def test_records_of_a_later_version_say_so(tmp_path):
    line = row("a").model_dump_json().replace('"schema_version":2', '"schema_version":9')
    (tmp_path / "records.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match="of a later version; update c3po_adaptive"):
        read_records(tmp_path, Said)
