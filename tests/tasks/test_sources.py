"""The one door to questions: demo, files, benchmarks in a folder of files, the hub."""

import json
import sys

import pytest

from c3po_adaptive.analysis.dataset_in_words import DatasetsInWords
from c3po_adaptive.errors import DataError, PluginError, UnknownNameError
from c3po_adaptive.tasks import questions, sources
from c3po_adaptive.tasks.sources import ASKED, LEARNED_FROM
from c3po_adaptive.types import Question


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
    with pytest.raises(DataError, match="got 'dev'; there are test, train, validation; "):
        questions("arc_easy", split="dev")


def test_a_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_text(rows("q"))
    assert ids("a:b") == ["q"]


class TestOfPackages:
    """Sources that installed packages bring, by their prefix."""

    @pytest.fixture
    def install(self, install_package):
        """A function that puts a package with one source on the path."""

        def write(name, text, prefix="mine"):
            install_package(name, text, sources.GROUP, prefix, f"{name}:rows")

        return write

    def test_rows_become_questions(self, install):
        install(
            "brings_rows",
            """
def rows(name, *, split, usual):
    for answer in range(2):
        yield f"row {answer}", {"question": f"{name} {split} {usual}?", "choices": ["a", "b"], "answer": answer}
""",
        )
        found = questions("mine:a/b:test", split="train", usual=("dev",))
        assert [(q.id, q.task, q.question, q.answer) for q in found] == [
            (f"a/b.{i:05d}", "mine:a/b", "a/b test ('dev',)?", i) for i in range(2)
        ]
        assert len(questions("mine:a/b", limit=1)) == 1
        asked = {"name": "d", "questions": "mine:a", "references": ["mine:b:train"]}
        said = DatasetsInWords({"datasets": [asked]}).references("d")
        assert said == "b", "not 'mine', of both"

    def test_questions_as_they_are_of_sets_of_its_own(self, install):
        install(
            "brings_sets",
            """
from c3po_adaptive import Question

class Rows:
    sets = ("colors",)

    def __call__(self, name, *, split, usual):
        for part in name.split(","):
            yield part, Question(part, f"{part} {split}?", ("a", "b"), 1, task="own")

rows = Rows()
""",
        )
        assert questions("mine:colors,arc_easy:test") == [
            Question(part, f"{part} test?", ("a", "b"), 1, task="own") for part in ("colors", "arc_easy")
        ]
        with pytest.raises(DataError, match="colors: expected each id once"):
            questions("mine:colors,colors")
        asked = {"name": "d", "questions": "arc_easy:test", "references": ["mine:arc_easy:train", "mine:colors"]}
        assert DatasetsInWords({"datasets": [asked]}).references("d") == "mine:arc_easy + mine:colors"
        with pytest.raises(UnknownNameError, match="did you mean 'mine:colors'"):
            questions("mine-colors")
        install("brings_nothing", "1 / 0", "broken")
        with pytest.raises(PluginError, match="broken:… in brings_nothing:rows, got ZeroDivisionError"):
            questions("broken:colors")

    def test_what_is_wrong_is_told_by_name(self, install):
        install(
            "brings_faults",
            """
def rows(name, *, split, usual):
    yield "row 7", {"question": "?", "choices": ["a", "b"], "answer": 0 if name == "raises" else 2}
    1 / 0
""",
        )
        with pytest.raises(DataError, match="row 7: expected answer to be an index from 0 to 1, got 2"):
            questions("mine:out-of-bounds")
        with pytest.raises(PluginError, match="mine:raises to be read by brings_faults:rows, got ZeroDivisionError"):
            questions("mine:raises")
        install("brings_more", "")
        with pytest.raises(PluginError, match="brings mine:raises, got brings_faults:rows and brings_more"):
            questions("mine:raises")

    def test_names_without_a_prefix(self, install, folder):
        """Behind files, and before a folder of that name; two that take one are refused."""
        text = """
class Rows:
    names = ("corals", "arc_easy", "mmlu")

    def takes(self, name):
        return name in self.names

    def __call__(self, name, *, split, usual):
        yield "row 0", {"question": f"{name} {split} {usual}?", "choices": ["a", "b"], "answer": 0}

rows = Rows()
"""
        install("brings_names", text)
        (folder / "corals").mkdir()
        (folder / "corals" / "test.jsonl").write_text(rows("file"))
        found = questions("corals:dev", usual=("train",))
        assert [(q.id, q.task, q.question) for q in found] == [("corals.00000", "corals", "corals dev ('train',)?")]
        assert ids("mine:corals") == ["corals.00000"]
        assert ids("arc_easy:train") == ["t1", "t2", "t3"]
        assert ids(folder / "corals") == ["file"]
        with pytest.raises(UnknownNameError, match="did you mean 'corals'"):
            questions("coral")
        install("brings_others", text)
        with pytest.raises(PluginError, match="one package that brings corals, got brings_"):
            questions("corals:test")

    @pytest.mark.parametrize("ours", ["demo", "arc_easy"])
    def test_none_stands_in_the_place_of_ours(self, install, folder, ours):
        install("brings_ours", "1 / 0", ours)
        assert questions(f"{ours}:test")

    def test_a_companion_that_is_not_there_is_named(self, monkeypatch):
        monkeypatch.setattr(sources, "entry_points", lambda **asked: ())
        with pytest.raises(UnknownNameError, match=r"got lm_eval:arc_easy; .* pip install 'c3po_adaptive\[eval\]'"):
            questions("lm_eval:arc_easy:test")
        with pytest.raises(UnknownNameError, match=r"got 'piqa'; there is demo; .* plugins/benchmarks"):
            questions("piqa:test")


class TestFolders:
    """Folders of benchmark files are read without the ``datasets`` library."""

    @pytest.fixture(autouse=True)
    def without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)

    def test_a_folder_of_files_by_name_and_split(self, folder):
        assert ids(folder, split="train") == ["t1", "t2", "t3"]
        assert ids(f"{folder}:validation") == ["v1"]
        assert ids(folder, usual=ASKED) == ["e1", "e2", "other"]
        assert ids(folder, usual=LEARNED_FROM) == ["t1", "t2", "t3"]
        assert {q.task for q in questions(folder)} == {"t"}

    def test_a_folder_of_one_file_a_split(self, tmp_path):
        folder = tmp_path / "toy"
        folder.mkdir()
        bare = json.dumps({"question": "?", "choices": ["a", "b"], "answer": "b"}) + "\n"
        for name in ("train", "test"):
            (folder / f"{name}.jsonl").write_text(bare * 2)
        found = questions(folder, usual=ASKED)
        assert [(q.id, q.task, q.split) for q in found] == [("test.0", "toy", "test"), ("test.1", "toy", "test")]
        with pytest.raises(DataError, match=r"got 'tets'; did you mean 'test'\? There are test, train"):
            questions(folder, split="tets")

    def test_one_beside_another(self, tmp_path):
        (tmp_path / "sums").mkdir()
        with pytest.raises(UnknownNameError, match=r"did you mean '.*/sums'"):
            questions(tmp_path / "sum")


class TestUsualSplits:
    """What is taken where no split is named."""

    def test_the_demos(self):
        assert questions("demo", usual=ASKED) == questions("demo:test")
        assert questions("demo", usual=LEARNED_FROM) == questions("demo:references")

    def test_of_files(self, folder):
        """What is asked is not learned from, where there is anything else."""
        (folder / "piqa.validation.jsonl").write_text(rows("v1", split="validation") + rows("e1", "e2", split="test"))
        assert ids("piqa", usual=ASKED) == ["e1", "e2"]
        assert ids("piqa", usual=LEARNED_FROM) == ["v1"]
        (folder / "sciq.test.jsonl").write_text(rows("only"))
        assert ids("sciq", usual=LEARNED_FROM) == ["only"]


@pytest.mark.parametrize("source", ["", "a\0b"])
def test_no_source(source):
    with pytest.raises(DataError, match="Expected a source of questions"):
        questions(source)
