"""A run folder survives interruption, and refuses what is not its own."""

import json

import pytest

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.identity import digest
from c3po_adaptive.storage.run_folder import Records, claim, read_records


def row(id_="a", arm="base", seed=0, **more):
    return {"id": id_, "dataset": "demo", "arm": arm, "seed": seed, **more}


def test_rows_come_back(tmp_path):
    records = Records(tmp_path)
    rows = [row("a"), row("b", text="ß\u2028\n"), row("a", seed=1)]
    for r in rows:
        records.append(r)
    assert read_records(tmp_path) == rows
    assert Records(tmp_path).done() == {("base", "demo", "a", 0), ("base", "demo", "b", 0), ("base", "demo", "a", 1)}


def test_done_is_a_copy(tmp_path):
    records = Records(tmp_path)
    records.done().add(("base", "demo", "a", 0))
    records.append(row("a"))


@pytest.mark.parametrize("tail", ['{"id": "b", "arm', '{"id": "b"}', "\xc3"])
def test_resume_cuts_a_half_written_line(tmp_path, tail):
    Records(tmp_path).append(row("a"))
    path = tmp_path / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail.encode("latin-1"))
    assert read_records(tmp_path) == [row("a")]
    assert path.read_bytes() != whole, "reading leaves the folder as it is"
    resumed = Records(tmp_path)
    assert path.read_bytes() == whole
    resumed.append(row("b"))
    assert [r["id"] for r in read_records(tmp_path)] == ["a", "b"]


def test_cut_in_the_very_first_line(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"id"')
    assert Records(tmp_path).done() == set()


@pytest.mark.parametrize("line", ["{half", "[1]", '{"id": "x"}', "", "3"])
def test_a_broken_line_elsewhere_is_named(tmp_path, line):
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join([json.dumps(row("a")), line, json.dumps(row("b")), ""]))
    with pytest.raises(DataError, match=rf"line 2 of {path}"):
        Records(tmp_path)


def test_a_row_twice_is_refused_when_written(tmp_path):
    records = Records(tmp_path)
    records.append(row("a"))
    with pytest.raises(DataError, match="twice"):
        records.append(row("a"))


def test_rows_that_stand_there_again_are_read_with_a_warning_and_mended_by_who_writes(tmp_path):
    """As two processes left a folder that wrote at once, before folders were held by one."""
    path = tmp_path / "records.jsonl"
    lines = [json.dumps(row(i, text=text)) + "\n" for i, text in (("a", "first"), ("b", "ß\u2028"), ("a", "second"))]
    path.write_text("".join(lines) + '{"cut')
    before = path.read_bytes()
    with pytest.warns(UserWarning, match=r"holds 1 rows again \(lines 3\).*the first of each is taken"):
        assert [r["text"] for r in read_records(tmp_path)] == ["first", "ß\u2028"]
    assert path.read_bytes() == before, "reading changes nothing"
    with pytest.warns(UserWarning, match="rows again"):
        records = Records(tmp_path)
    records.append(row("c"))
    assert [r["id"] for r in read_records(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_only_finite_json_is_written(tmp_path, value):
    records = Records(tmp_path)
    with pytest.raises(DataError, match="finite JSON"):
        records.append(row("a", value=value))
    assert not (tmp_path / "records.jsonl").exists()


def test_append_needs_its_keys(tmp_path):
    with pytest.raises(DataError, match="seed"):
        Records(tmp_path).append({"id": "a", "arm": "base", "dataset": "demo"})


def test_no_records(tmp_path):
    with pytest.raises(DataError, match=r"records\.jsonl"):
        read_records(tmp_path)


def test_append_to_a_folder_that_is_gone(tmp_path):
    with pytest.raises(DataError, match="append"):
        Records(tmp_path / "gone").append(row("a"))


def test_write_whole_replaces_and_leaves_nothing_behind(tmp_path):
    for text in ("old", "new ß"):
        write_text(tmp_path / "f.txt", text)
    assert (tmp_path / "f.txt").read_text(encoding="utf-8") == "new ß"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_write_whole_keeps_the_old_file_when_interrupted(tmp_path, monkeypatch):
    write_text(tmp_path / "f.txt", "old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "f.txt", "new")
    assert (tmp_path / "f.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_claim_and_resume(tmp_path):
    folder, config = tmp_path / "a" / "b", {"steps": 10, "layers": (1, 2)}
    assert claim(folder, config) == digest(config) == claim(folder, {"layers": [1, 2], "steps": 10})
    assert json.loads((folder / "config.json").read_text()) == {
        "hash": digest(config),
        "made": {"model": None, "command": None},
        "config": {"steps": 10, "layers": [1, 2]},
    }


def test_another_run_is_refused_with_what_differs(tmp_path):
    claim(tmp_path, {"steps": 10, "seed": 0})
    with pytest.raises(DataError, match=r"Expected .* got .*differ in steps\).*--out"):
        claim(tmp_path, {"steps": 5, "seed": 0})


def test_records_without_a_config_are_refused(tmp_path):
    Records(tmp_path).append(row("a"))
    with pytest.raises(DataError, match=r"config\.json"):
        claim(tmp_path, {})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"hash": "x", "config": 3}'])
def test_a_broken_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json: expected"):
        claim(tmp_path, {})


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="another --out"):
            claim(folder, {})


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    # Simulated: tests may run as root, whom permissions do not stop.
    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(DataError, match="read-only"):
        claim(tmp_path, {})


def test_a_config_that_json_cannot_hold(tmp_path):
    with pytest.raises(DataError, match="JSON"):
        claim(tmp_path, {"model": object()})


def test_a_run_of_another_version_says_so(tmp_path):
    claim(tmp_path / "run", {"seed": 0})
    with pytest.raises(DataError, match=r"they differ in loss\); another version began it, .*name another --out"):
        claim(tmp_path / "run", {"seed": 0, "loss": "choices"})
