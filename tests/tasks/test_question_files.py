"""Question files: what is read, what is refused, and that a message says where and what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from c3po_adaptive.errors import DataError, SettingError, UnknownNameError
from c3po_adaptive.tasks import demo_questions, load_questions, questions
from c3po_adaptive.types import Question

BENCHMARKS = Path(__file__).parents[2].parent / "shared" / "benchmarks"

ROW = {"id": "q0", "task": "toy", "question": "What floats on water?", "choices": ["a stone", "a boat"], "answer": 1}
LETTERED = {
    "answerKey": "B",
    "question": {
        "question_concept": "water",
        "stem": "What floats on water?",
        "choices": [{"label": "A", "text": "a stone"}, {"label": "B", "text": "a boat"}],
    },
}


def row(**changes):
    return ROW | changes


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return lambda *rows: write(tmp_path / "toy.jsonl", *rows)


def many(n: int) -> list[dict]:
    return [row(id=f"q{i}", split="test" if i % 2 else "validation") for i in range(n)]


class TestReading:
    def test_jsonl_in_file_order(self, file):
        loaded = load_questions(file(row(id="b"), "", row(id="a", subject="physics", split="test")))
        assert loaded == [
            Question("b", ROW["question"], ("a stone", "a boat"), 1, "toy"),
            Question("a", ROW["question"], ("a stone", "a boat"), 1, "toy", "physics", "test"),
        ]

    def test_array_is_told_by_its_content_not_its_name(self, tmp_path):
        path = tmp_path / "toy.jsonl"
        path.write_text("\n  " + json.dumps(many(3), indent=2))
        assert [q.id for q in load_questions(str(path))] == ["q0", "q1", "q2"]

    def test_line_separators_and_a_byte_order_mark_are_no_line_ends(self, tmp_path):
        text = json.dumps(row(question="one\u2028two\x85three"), ensure_ascii=False)
        (tmp_path / "toy.jsonl").write_text("\ufeff" + text, encoding="utf-8")
        assert load_questions(tmp_path / "toy.jsonl")[0].question == "one\u2028two\x85three"

    def test_null_subject_and_split_are_the_same_as_none(self, file):
        assert load_questions(file(row(subject=None, split=None)))[0].split == ""

    def test_what_a_question_is_about(self, tmp_path):
        path, row = tmp_path / "long.jsonl", {"question": "Long. What floats?", "choices": ["a", "b"], "answer": 0}
        path.write_text(json.dumps(row | {"about": "What floats?"}) + "\n" + json.dumps(row | {"about": None}))
        assert [question.about for question in load_questions(path)] == ["What floats?", ""]
        for broken in (3, " "):
            path.write_text(json.dumps(row | {"about": broken}))
            with pytest.raises(DataError, match="'about'"):
                load_questions(path)

    def test_answer_key_format(self, tmp_path):
        path = write(tmp_path / "commonsense_qa.dev.jsonl", LETTERED, LETTERED | {"id": "x", "task": "mine"})
        first, second = load_questions(path)
        assert first == Question(
            "commonsense_qa.dev.0", ROW["question"], ("a stone", "a boat"), answer=1, task="commonsense_qa"
        )
        assert (second.id, second.task) == ("x", "mine")

    def test_answer_key_in_an_array_and_in_the_hubs_form(self, tmp_path):
        path = tmp_path / "commonsenseQA.json"
        flat = {"question": "Q?", "choices": {"label": ["1", "2"], "text": ["x", "y"]}, "answerKey": "1"}
        path.write_text(json.dumps([LETTERED, flat]))
        assert [(q.id, q.answer) for q in load_questions(path)] == [("commonsenseQA.0", 1), ("commonsenseQA.1", 0)]

    def test_question_choices_and_answer_are_enough(self, tmp_path):
        bare = {k: ROW[k] for k in ("question", "choices", "answer")}
        path = write(tmp_path / "facts.2024.jsonl", bare, "", bare | {"id": "mine"}, bare | {"task": "other"})
        assert [(q.id, q.task) for q in load_questions(path)] == [
            ("facts.2024.0", "facts"),
            ("mine", "facts"),
            ("facts.2024.2", "other"),
        ]

    @pytest.mark.parametrize("answer", [1, "a boat", "B"])
    def test_the_answer_by_place_text_or_letter(self, file, answer):
        assert load_questions(file(row(answer=answer)))[0].answer == 1

    def test_a_letter_that_is_the_text_of_the_same_choice(self, file):
        assert load_questions(file(row(choices=["A", "B"], answer="B")))[0].answer == 1
        assert load_questions(file(row(choices=["7", "8"], answer="8")))[0].answer == 1

    def test_the_first_usual_split_is_kept_where_none_is_named(self, file):
        path = file(*many(4))
        assert [q.id for q in load_questions(path, usual=("dev", "test"))] == ["q1", "q3"]
        assert [q.id for q in load_questions(path, split="validation", usual=("test",))] == ["q0", "q2"]
        assert len(load_questions(path, usual=("train",))) == 4
        assert len(load_questions(file(ROW), usual=("test",))) == 1, "one without splits is taken whole"

    def test_split(self, file):
        assert [q.id for q in load_questions(file(*many(4)), split="test")] == ["q1", "q3"]

    def test_limit_is_nested_the_same_everywhere_and_spread(self, file):
        path = file(*many(200))
        twenty, fifty = (load_questions(path, limit=n) for n in (20, 50))
        assert fifty[:20] == twenty
        assert [q.id for q in twenty[:3]] == [q.id for q in load_questions(file(*many(200)[::-1]), limit=3)]
        # An even spread has mean 99.5 here; the first fifty rows would have 24.5.
        assert 80 < sum(int(q.id[1:]) for q in fifty) / 50 < 120
        assert len(load_questions(path, limit=1000)) == 200

    def test_limit_acts_after_split(self, file):
        assert {q.split for q in load_questions(file(*many(20)), split="test", limit=7)} == {"test"}


class TestRefusals:
    """Each message names the file, the line or index, what was expected and what came."""

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ('{"id": "x", "task"', r"expected one JSON object per line, got .*column 19"),
            ("[1, 2]", r"expected a JSON object for each question, got \[1, 2\]"),
            ({k: v for k, v in ROW.items() if k != "answer"}, r"expected the field 'answer', got only 'id', 'task'"),
            ({k: v for k, v in ROW.items() if k != "question"}, r"expected the field 'question'"),
            (
                {"Query": "?", "options": ["a", "b"], "label": 0},
                r"field 'question', got only 'Query', 'options', 'label'; did you mean 'Query' for 'question', "
                r"'options' for 'choices', 'label' for 'answer'\? Rename what you mean\.",
            ),
            ({"question": "?", "choices": ["a", "b"], "anser": 0}, r"did you mean 'anser' for 'answer'\?"),
            ({k: v for k, v in ROW.items() if k != "choices"}, r"expected the field 'choices'"),
            (row(id="x", answer=2), r"index from 0 to 1, got 2"),
            (row(id="x", answer=-1), r"index from 0 to 1, got -1"),
            (row(id="x", answer="C"), r"the text or the letter of one choice, got 'C', which is none of these"),
            (row(id="x", answer="b"), r"got 'b', which is none of these"),
            (row(id="x", answer="1"), r"got '1', which is none of these"),
            (row(id="x", answer="a", choices=["a", "a"]), r"got 'a', which is that of several"),
            (row(id="x", answer="A", choices=["B", "A"]), r"got 'A', which is that of several"),
            (row(id="x", answer=True), r"'answer' to be an integer \(0-based\) or a string, got True"),
            (row(id="x", answer=None), r"'answer' to be an integer \(0-based\) or a string, got None"),
            (row(id=None), r"'id' to be a string, got None"),
            (row(id=7), r"'id' to be a string, got 7"),
            (row(id=""), r"some text in the fields 'id' and 'question'"),
            (row(id="x", question=" "), r"some text in the fields 'id' and 'question'"),
            (row(id="x", choices="ab"), r"'choices' to be a list, got 'ab'"),
            (row(id="x", choices=["only"]), r"at least two choices, got 1"),
            (row(id="x", choices=["a", " "]), r"every choice to be a string with some text, got ' '"),
            (row(id="x", choices=["a", 3]), r"every choice to be a string with some text, got 3"),
            (LETTERED | {"answerKey": "F"}, r"answerKey to be one of the labels \['A', 'B'\], got 'F'"),
            ({"question": LETTERED["question"]}, r"expected the field 'answerKey'"),
            ({"question": {"stem": "?"}, "answerKey": "A"}, r"expected the field 'choices', got only 'stem'"),
            ({"question": {"choices": []}, "answerKey": "A"}, r"expected the field 'stem'"),
            ({"question": "?", "choices": ["a", "b"], "answerKey": "A"}, r"choices of the form \{label, text\}"),
            ({"question": "?", "choices": [{"text": "a"}], "answerKey": "A"}, r"field 'label', got only 'text'\."),
        ],
    )
    def test_a_bad_row(self, file, bad, message):
        with pytest.raises(DataError, match=rf"toy\.jsonl, line 3: .*{message}"):
            load_questions(file(ROW, "", bad))

    def test_a_bad_row_of_an_array_is_named_by_its_index(self, tmp_path):
        path = tmp_path / "toy.json"
        path.write_text(json.dumps([ROW, row(answer=9)]))
        with pytest.raises(DataError, match=r"toy\.json, index 1: .*from 0 to 1, got 9"):
            load_questions(path)

    def test_a_broken_array(self, tmp_path):
        path = tmp_path / "toy.json"
        path.write_text('[\n{"id": 1,}\n]')
        with pytest.raises(DataError, match=r"toy\.json, line 2: expected a JSON array"):
            load_questions(path)

    def test_the_same_id_twice_names_both_lines(self, file):
        with pytest.raises(DataError, match=r"line 3: expected each id once, got 'q0' again .*toy\.jsonl, line 1\)"):
            load_questions(file(ROW, row(id="q1"), ROW))

    @pytest.mark.parametrize("text", ["", "\n \n", "[]"])
    def test_no_question_at_all(self, tmp_path, text):
        path = tmp_path / "empty.jsonl"
        path.write_text(text)
        with pytest.raises(DataError, match=r"empty\.jsonl: expected at least one question, got none"):
            load_questions(path)

    def test_a_missing_file_with_close_names(self, file):
        path = file(ROW)
        with pytest.raises(DataError, match=r"tov\.jsonl, but there is none; did you mean 'toy\.jsonl'\?"):
            load_questions(path.with_name("tov.jsonl"))

    def test_a_missing_file_in_a_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match="but there is none; check the path"):
            load_questions(tmp_path / "no" / "where.jsonl")

    def test_a_folder(self, tmp_path):
        with pytest.raises(DataError, match="Expected a question file, got the folder"):
            load_questions(tmp_path)

    @pytest.mark.parametrize("name", ["toy.csv", "toy.TSV", "toy.parquet"])
    def test_a_table(self, tmp_path, name):
        (tmp_path / name).write_text("question,answer\na boat,0\n")
        with pytest.raises(DataError, match=rf"in .*{name}, got \{name[3:].lower()} format; write JSON lines"):
            load_questions(tmp_path / name)

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "toy.jsonl").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DataError, match="expected UTF-8 text"):
            load_questions(tmp_path / "toy.jsonl")

    def test_an_unknown_split_lists_those_present(self, file):
        with pytest.raises(DataError, match="got 'train'; there are test, validation; choose"):
            load_questions(file(*many(4)), split="train")
        with pytest.raises(DataError, match="got 'train'; its questions name no split; leave split out"):
            load_questions(file(ROW), split="train")

    def test_a_limit_below_one(self, file):
        with pytest.raises(SettingError, match="at least 1, got 0"):
            load_questions(file(ROW), limit=0)


class TestDemo:
    @pytest.mark.parametrize("split", ["references", "validation", "test"])
    def test_every_split_loads(self, split):
        assert len(demo_questions(split)) > 50
        assert len(demo_questions(split, limit=5)) == 5

    def test_splits_share_no_question(self):
        ids = [q.id for split in ("references", "validation", "test") for q in demo_questions(split)]
        assert len(ids) == len(set(ids))

    def test_an_unknown_split(self):
        with pytest.raises(UnknownNameError, match="got 'train'; there are references, validation, test; "):
            demo_questions("train")


class TestOneEntry:
    def test_demo(self):
        assert questions("demo", split="test", limit=4) == demo_questions("test", limit=4)
        with pytest.raises(DataError, match="demo: expected a split"):
            questions("demo")

    def test_a_file(self, file):
        assert questions(file(*many(4)), split="test", limit=1)[0].split == "test"

    def test_a_missing_file_is_not_taken_for_a_hub_id(self, tmp_path):
        with pytest.raises(DataError, match="but there is none"):
            questions(str(tmp_path / "gone.jsonl"))


def test_nothing_heavy_is_imported():
    heavy = "{'torch', 'transformers', 'datasets', 'sentence_transformers', 'tokenizers'}"
    code = f"import sys, c3po_adaptive.tasks, c3po_adaptive.references.embedding; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason=f"the shared benchmark files are not at {BENCHMARKS}")
def test_every_shared_benchmark_loads():
    paths = sorted(BENCHMARKS.glob("*.jsonl"))
    assert paths, f"no JSONL file in {BENCHMARKS}"
    for path in paths:
        loaded = load_questions(path)
        assert len(loaded) == path.read_text(encoding="utf-8").count("\n")
        assert {q.task for q in loaded} == {path.name.split(".")[0]}
