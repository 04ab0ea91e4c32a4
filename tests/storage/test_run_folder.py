"""A run folder survives interruption, and refuses what is not its own."""

import json

import pytest

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.identity import digest
from c3po_adaptive.storage.run_folder import RECORDS, claim


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
    (tmp_path / RECORDS).write_text("")
    with pytest.raises(DataError, match=r"config\.json"):
        claim(tmp_path, {})


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    # Simulated: tests may run as root, whom permissions do not stop.
    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(DataError, match="read-only"):
        claim(tmp_path, {})


def test_a_run_of_another_version_says_so(tmp_path):
    claim(tmp_path / "run", {"seed": 0})
    with pytest.raises(DataError, match=r"they differ in loss\); another version began it, .*name another --out"):
        claim(tmp_path / "run", {"seed": 0, "loss": "choices"})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"hash": "x", "config": 3}'])
def test_a_broken_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json: expected"):
        claim(tmp_path, {})
