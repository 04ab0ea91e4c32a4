"""The one door to questions: demo, files, benchmarks in a folder of files, the hub."""

import json

import pytest

from c3po_adaptive.errors import ArtifactError, DataError, UnknownNameError
from c3po_adaptive.tasks import benchmarks, questions


def rows(*ids, **extra):
    return "".join(
        json.dumps({"id": i, "task": "t", "question": f"{i}?", "choices": ["a", "b"], "answer": 0} | extra) + "\n"
        for i in ids
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A benchmark in two files, of which one has splits of its own, and one called alike."""
    (tmp_path / "arc_easy.train.jsonl").write_text(rows("t1", "t2", "t3"))
    (tmp_path / "arc_easy.test.jsonl").write_text(rows("v1", split="validation") + rows("e1", "e2", split="test"))
    (tmp_path / "arc_easy_too.test.jsonl").write_text(rows("other"))
    (tmp_path / "whole.jsonl").write_text(rows("w1"))
    monkeypatch.setenv("C3PO_DATA", str(tmp_path))
    return tmp_path


def ids(*args, **options):
    return [q.id for q in questions(*args, **options)]


def test_a_benchmarks_files_are_told_apart_by_split(folder):
    assert ids("arc_easy", split="train") == ["t1", "t2", "t3"]
    assert ids("arc_easy", split="validation") == ["v1"]
    assert ids("arc_easy", split="test") == ["e1", "e2"]
    assert {q.split for q in questions("arc_easy", split="train")} == {"train"}


def test_a_source_may_name_its_own_split(folder):
    assert ids("arc_easy:train", split="test") == ["t1", "t2", "t3"]
    assert len(ids("demo:validation", split="test")) == 112
    assert len(ids("arc_easy:train", limit=2)) == 2


def test_one_without_splits(folder):
    assert ids("whole") == ["w1"]


def test_a_split_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(DataError, match=r"a split that it has \(one of 'test', 'train', 'validation'\)"):
        questions("arc_easy", split="dev")


def test_a_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_text(rows("q"))
    assert ids("a:b") == ["q"]


def test_what_the_folder_has_not_is_asked_of_the_hub(folder, monkeypatch):
    monkeypatch.setattr(benchmarks, "_library", lambda: (_ for _ in ()).throw(ArtifactError("no library here")))
    with pytest.raises(ArtifactError, match="no library here"):
        questions("piqa", split="validation")
    with pytest.raises(UnknownNameError, match="did you mean arc_easy"):
        questions("arc_eazy", split="test")
