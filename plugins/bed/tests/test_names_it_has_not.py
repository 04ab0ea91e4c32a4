"""What may be asked of the bed that it has not, or cannot give: each is told what to do next."""

import json

import pytest
from c3po_bed.wording import reworded
from c3po_benchmarks import library, reading

from c3po_adaptive.errors import ArtifactError, DataError, UnknownNameError
from c3po_adaptive.tasks import questions
from c3po_adaptive.types import Question


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one file of one kind."""
    row = {"id": "q", "question": "Which topic is this news article about?\nRain.", "choices": ["World", "Sports"]}
    (tmp_path / "agnews_topic.test.jsonl").write_text(json.dumps(row | {"answer": 0}) + "\n")
    monkeypatch.setenv("C3PO_BED", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_folder(monkeypatch):
    monkeypatch.delenv("C3PO_BED", raising=False)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("bed:sean:test", "did you mean 'bed:seen'|did you mean 'seen'"),
        ("bed:agnews:test", r"did you mean 'agnews_topic'.*There are \d+, listed in docs/reference/bed\.md\.$"),
        ("bed:", "the cases are seen, reworded, sibling, unknown, all"),
        ("bed:openbookqa:test", "got 'openbookqa'"),
        ("bed:../secrets:test", "got '../secrets'"),
        ("bed", "expected|Expected .* got 'bed'; did you mean 'bed:"),
    ],
)
def test_names_that_it_has_not(folder, source, told):
    with pytest.raises(UnknownNameError, match=told):
        questions(source)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("bed:seen", r"a split, got None; there are references, validation, test, train; write bed:seen:test"),
        ("bed:seen:tests", r"got 'tests'; did you mean 'test'"),
        ("bed:unknown:train", r"kinds that experts learn for the split 'train', got (agnews|arc|aqua|bbh)_"),
        ("bed:all:train", r"kinds that experts learn for the split 'train'"),
        ("bed:sciq:train", r"kinds that experts learn for the split 'train', got sciq"),
        ("bed:agnews_topic:validation", r"Expected agnews_topic.validation.jsonl in the folder .* no such file in it"),
        ("bed:seen:test", r"Expected movie_review_polarity.test.jsonl in the folder"),
    ],
)
def test_splits_and_files_that_it_has_not(folder, source, told):
    with pytest.raises(DataError, match=told):
        questions(source)


def test_a_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("C3PO_BED", str(tmp_path / "none"))
    with pytest.raises(DataError, match="but there is no folder; mend the path"):
        questions("bed:agnews_topic:test")


def test_a_file_that_is_broken_names_its_line(folder):
    (folder / "agnews_topic.test.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(DataError, match=r"agnews_topic.test.jsonl, line 1: expected the field 'answer'|'choices'"):
        questions("bed:agnews_topic:test")


class TestWithoutAFolder:
    def test_kinds_in_files_alone(self, no_folder):
        with pytest.raises(DataError, match=r"in \$C3PO_BED, as movie_slot.test.jsonl is in files alone; set it, or"):
            questions("bed:movie_slot:test")

    def test_train_rows(self, no_folder):
        with pytest.raises(DataError, match=r"tweet_emotion.train.jsonl is in files alone"):
            questions("bed:tweet_emotion:train")

    def test_no_library(self, no_folder, monkeypatch):
        monkeypatch.setattr(library, "_library", lambda: (_ for _ in ()).throw(ArtifactError("no library here")))
        with pytest.raises(ArtifactError, match="no library here"):
            questions("bed:agnews_topic:test")

    def test_an_empty_variable_is_none(self, monkeypatch):
        monkeypatch.setenv("C3PO_BED", "")
        with pytest.raises(DataError, match="set it"):
            questions("bed:movie_slot:test")

    def test_columns_that_have_changed(self, no_folder, monkeypatch):
        monkeypatch.setattr(reading, "from_hub", lambda *where: [{"headline": "Rain.", "label": 1}])
        with pytest.raises(
            DataError, match=r"agnews_topic \(test\), row 0: expected the column 'text', got 'headline'"
        ):
            questions("bed:agnews_topic:test")

    def test_a_label_of_another_number(self, no_folder, monkeypatch):
        monkeypatch.setattr(reading, "from_hub", lambda *where: [{"text": "Rain.", "label": 9}])
        with pytest.raises(DataError, match=r"agnews_topic \(test\), row 0"):
            questions("bed:agnews_topic:test")


class TestOtherWords:
    def test_another_instruction_than_the_beds(self, folder):
        plain = Question("q", "What is this about? Rain.", ("opinion", "fact"), 0, task="subjectivity")
        with pytest.raises(DataError, match="Question 'q': expected the instruction of subjectivity"):
            reworded(plain)

    def test_another_answer_than_the_beds(self, folder):
        asked = "Is this sentence an opinion or a statement of fact about a story?\nRain."
        with pytest.raises(DataError, match=r"expected answers of subjectivity, opinion, fact; got 'Weather'"):
            reworded(Question("q", asked, ("opinion", "Weather"), 0, task="subjectivity"))
