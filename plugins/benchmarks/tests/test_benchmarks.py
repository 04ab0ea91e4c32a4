"""Benchmarks through ``datasets``: row functions on invented rows of the hub's form, local data sets end to end."""

import json
import sys

import datasets
import pytest
from c3po_benchmarks import BENCHMARKS, benchmark_named, published, source
from cli.test_one_door import refused

from c3po_adaptive.errors import ArtifactError, DataError, UnknownNameError
from c3po_adaptive.tasks import ASKED, questions

LABELLED = {"text": ["a brick", "a cork", "a key"], "label": ["A", "B", "C"]}

HUB_ROWS = {
    "arc_easy": {"id": "own-1", "question": "What floats?", "choices": LABELLED, "answerKey": "B"},
    "arc_challenge": {"id": "own-1", "question": "What floats?", "choices": LABELLED, "answerKey": "B"},
    "openbookqa": {"id": "own-1", "question_stem": "What floats?", "choices": LABELLED, "answerKey": "B"},
    "sciq": {
        "question": "What floats?",
        "distractor3": "lead",
        "distractor1": "a brick",
        "distractor2": "a key",
        "correct_answer": "a cork",
        "support": "Corks are light.",
    },
    "piqa": {"goal": "Keep a note dry.", "sol1": "Put it in a sieve.", "sol2": "Put it in a bottle.", "label": 1},
    "hellaswag": {
        "ind": 4,
        "activity_label": "Folding a kite",
        "ctx_a": "",
        "ctx_b": "",
        "ctx": "[header] How to fold a kite [title] Take paper. She",
        "endings": ["eats it.", "folds it [step] twice.", "is a kite.", "swims."],
        "source_id": "x",
        "split": "val",
        "split_type": "indomain",
        "label": "1",
    },
    "commonsense_qa": {
        "id": "own-1",
        "question": "What floats?",
        "question_concept": "float",
        "choices": LABELLED,
        "answerKey": "B",
    },
    "social_iqa": {
        "context": "Ona lent Per a pump.",
        "question": "What will Per do next?",
        "answerA": "sink",
        "answerB": "mend the tyre",
        "answerC": "sleep",
        "label": "2",
    },
    "winogrande": {"sentence": "The key sank, the _ did not.", "option1": "key", "option2": "cork", "answer": "2"},
    "mmlu": {"question": "What floats?", "subject": "physics", "choices": ["lead", "cork", "tin", "iron"], "answer": 1},
    "boolq": {"question": "does cork float", "answer": True, "passage": "Cork is light."},
    "bbh": {"input": "Here: (A) sank.\nWhat floats?\nOptions:\n(A) a brick (or two)\n(B) a cork", "target": "(B)"},
}

EXPECTED = {
    "arc_easy": ("What floats?", "a cork"),
    "arc_challenge": ("What floats?", "a cork"),
    "openbookqa": ("What floats?", "a cork"),
    "sciq": ("What floats?", "a cork"),
    "piqa": ("Keep a note dry.", "Put it in a bottle."),
    "hellaswag": ("Folding a kite: How to fold a kite Take paper. She", "folds it twice."),
    "commonsense_qa": ("What floats?", "a cork"),
    "social_iqa": ("Ona lent Per a pump. What will Per do next?", "mend the tyre"),
    "winogrande": ("The key sank, the _ did not.", "cork"),
    "mmlu": ("What floats?", "cork"),
    "boolq": ("does cork float?", "true"),
    "bbh": ("Here: (A) sank.\nWhat floats?", "a cork"),
}

OURS = {"task": "toy", "question": "What floats?", "choices": ["a key", "a cork"], "answer": 1}


def own_rows(n: int, split: str | None = None) -> list[dict]:
    return [OURS | {"id": f"{split or 'q'}{i}"} | ({"split": split} if split else {}) for i in range(n)]


@pytest.fixture
def asked(monkeypatch):
    """Stands in for the hub: serves ``asked.rows`` and notes what it was asked for."""

    class Asked:
        def __init__(self):
            self.rows, self.call = [], None

        def __call__(self, path, config=None, *, split=None, revision=None):
            self.call = (path, config, split, revision)
            return datasets.Dataset.from_list(self.rows)

    stand_in = Asked()
    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, revision=None: ["train", "validation"])
    return stand_in


class TestBenchmarks:
    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_each_row_becomes_a_question(self, asked, name):
        asked.rows = [HUB_ROWS[name]]
        split = BENCHMARKS[name].splits[-1]
        question, *others = questions(name, split=split)
        subjects = BENCHMARKS[name].subjects
        assert [q.subject for q in (question, *others)] == [*subjects] or not (subjects or others)
        assert (question.question, question.choices[question.answer]) == EXPECTED[name]
        assert (question.task, question.split) == (name, split)
        assert question.id == HUB_ROWS[name].get("id", f"{name}.{split}.00000")
        config = subjects[-1] if subjects else BENCHMARKS[name].config
        assert asked.call == (BENCHMARKS[name].path, config, split, BENCHMARKS[name].revision)

    def test_every_benchmark_has_a_row_here(self):
        assert set(BENCHMARKS) == set(HUB_ROWS) == set(EXPECTED)

    def test_row_functions_are_pure(self):
        for name, row in HUB_ROWS.items():
            row = {"subject": "of the configuration"} | row
            before = repr(row)
            assert BENCHMARKS[name].fields(row) == BENCHMARKS[name].fields(row)
            assert repr(row) == before

    def test_sciq_puts_the_right_option_anywhere(self):
        rows = [HUB_ROWS["sciq"] | {"question": f"What floats {i}?"} for i in range(40)]
        fields = [published.sciq(row) for row in rows]
        assert {f["answer"] for f in fields} == {0, 1, 2, 3}
        assert all(f["choices"][f["answer"]] == "a cork" and len(set(f["choices"])) == 4 for f in fields)

    def test_boolq_false(self):
        assert published.boolq(HUB_ROWS["boolq"] | {"answer": False})["answer"] == 1

    def test_mmlu_keeps_the_subject(self, asked):
        asked.rows = [HUB_ROWS["mmlu"]] * 3
        loaded = questions("mmlu", split="test", limit=2)
        assert {q.subject for q in loaded} == {"physics"}
        assert len(loaded) == 2

    def test_of_big_bench_hard_a_row_whose_target_is_no_option_is_left_out(self, asked):
        row = HUB_ROWS["bbh"]
        asked.rows = [row, row | {"target": "a cork"}, row | {"target": "(C)"}]
        assert len(questions("bbh", split="test")) == len(BENCHMARKS["bbh"].subjects) == 17

    def test_one_split_alone_need_not_be_named(self, asked):
        asked.rows = [HUB_ROWS["bbh"]]
        assert {q.split for q in questions("bbh")} == {"test"} == {q.split for q in questions("bbh", usual=("train",))}

    def test_the_callers_revision_wins(self, asked):
        asked.rows = [HUB_ROWS["piqa"]]
        source("piqa", split="train", revision="abc")
        assert asked.call[3] == "abc"


class TestRefusals:
    @pytest.mark.parametrize("split", ["test", None])
    def test_a_split_without_labels(self, split):
        with pytest.raises(DataError, match=r"hellaswag: expected a labeled split, got .*here are train, validation"):
            questions("hellaswag", split=split)

    @pytest.mark.parametrize(
        ("name", "change"), [("hellaswag", {"label": ""}), ("winogrande", {"answer": ""}), ("piqa", {"label": -1})]
    )
    def test_a_row_without_a_label(self, asked, name, change):
        asked.rows = [HUB_ROWS[name] | change]
        with pytest.raises(DataError, match=rf"{name} \(train\), row 0: expected"):
            questions(name, split="train")

    @pytest.mark.parametrize(
        ("name", "usual", "split"),
        [
            ("arc_easy", ASKED, "test"),
            ("commonsense_qa", ASKED, "validation"),
            ("commonsense_qa", ("references", "train"), "train"),
            ("mmlu", ("references", "train", "validation"), "validation"),
            ("some/thing", ASKED, "validation"),
            ("some/thing", ("references", "train"), "train"),
        ],
    )
    def test_of_usual_splits_the_first_that_there_is_is_taken(self, asked, name, usual, split):
        with pytest.raises(DataError, match="at least one question"):
            questions(name, usual=usual)
        assert asked.call[2] == split

    def test_without_any_usual_one_those_with_labels_are_told(self):
        with pytest.raises(DataError, match="got None; there are dev, validation, test"):
            questions("mmlu", usual=("train",))

    def test_other_columns_than_expected(self, asked):
        asked.rows = [{"prompt": "x", "target": "y"}]
        with pytest.raises(DataError, match=r"piqa \(train\), row 0: expected the column 'goal', got 'prompt', 'tar"):
            questions("piqa", split="train")
        with pytest.raises(DataError, match=r"expected the field 'question', got only .*'prompt', 'target'"):
            questions("some/thing", split="train")

    @pytest.mark.parametrize(
        ("name", "column"),
        [
            *(("arc_easy", c) for c in ("question", "choices", "answerKey")),
            *(("openbookqa", c) for c in ("question_stem", "answerKey")),
            *(("sciq", c) for c in ("correct_answer", "distractor3")),
            *(("piqa", c) for c in ("sol2", "label")),
            *(("hellaswag", c) for c in ("activity_label", "ctx", "endings", "label")),
            *(("commonsense_qa", c) for c in ("question", "choices", "answerKey")),
            *(("social_iqa", c) for c in ("context", "answerC", "label")),
            *(("winogrande", c) for c in ("sentence", "option2", "answer")),
            *(("mmlu", c) for c in ("question", "choices", "answer", "subject")),
            *(("boolq", c) for c in ("question", "answer")),
            *(("bbh", c) for c in ("input", "target")),
        ],
    )
    def test_a_column_that_is_missing_is_named_with_those_that_there_are(self, tmp_path, monkeypatch, name, column):
        """Of a table that the library writes and reads, as the hub's."""
        split, there = BENCHMARKS[name].splits[-1], {k: v for k, v in HUB_ROWS[name].items() if k != column}
        datasets.Dataset.from_list([there]).to_parquet(tmp_path / f"{split}.parquet")
        load, known = datasets.load_dataset, ".*".join(map(repr, there))
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, split, **__: load(str(tmp_path), split=split))
        said = rf"{name} \({split}\), row 0: expected the column '{column}', got .*{known}"
        with pytest.raises(DataError, match=said):
            questions(name, split=split)

    def test_columns_of_another_kind(self, asked):
        asked.rows = [HUB_ROWS["boolq"] | {"question": None}]
        with pytest.raises(DataError, match=r"boolq \(train\), row 0: expected a labeled row .* got .*None"):
            questions("boolq", split="train")

    def test_knowref_is_had_from_files_alone(self, tmp_path, monkeypatch):
        monkeypatch.setenv("C3PO_DATA", str(tmp_path))
        said = r"a file knowref\.SPLIT\.jsonl in the folder that \$C3PO_DATA names, got none: .*KnowRef-60K"
        with pytest.raises(DataError, match=said):
            questions("knowref", usual=("train",))
        (tmp_path / "knowref.test.jsonl").write_text(json.dumps(OURS | {"id": "k", "question": "The _ sank."}))
        assert [q.id for q in questions("knowref", usual=("train",))] == ["k"]

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (datasets.exceptions.DatasetNotFoundError("'google/boolq' doesn't exist on the Hub"), "doesn't exist"),
            (ValueError("BuilderConfig 'x' not found. Available: ['y']"), r"Available: \['y'\]"),
            (datasets.exceptions.DatasetGenerationError("of other columns"), "of other columns"),
        ],
    )
    def test_a_data_set_that_is_missing_or_renamed(self, monkeypatch, error, said):
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(error))
        with pytest.raises(DataError, match=rf"'train' of 'google/boolq' .* failed: .*{said}"):
            questions("boolq", split="train")

    @pytest.mark.parametrize(
        "error", [ConnectionError("no network"), ValueError("Unknown split"), FileNotFoundError("?")]
    )
    def test_the_hub_fails(self, monkeypatch, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(datasets, "load_dataset", fail)
        with pytest.raises(
            DataError, match=r"'validation' of 'google/boolq' .* failed: .*give a local JSONL file"
        ) as info:
            questions("boolq", split="validation")
        assert info.value.__cause__ is error

    def test_the_library_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(ArtifactError, match=r"pip install 'c3po_adaptive\[datasets\]'"):
            questions("boolq", split="train")

    def test_an_unknown_name_suggests(self):
        with pytest.raises(UnknownNameError, match=r"got 'arc_esy'; did you mean 'arc_easy'"):
            questions("arc_esy", split="test")
        with pytest.raises(UnknownNameError, match="got 'nothing'; there are arc_challenge, arc_easy, "):
            questions("nothing", split="test")

    def test_a_hub_id_needs_a_split(self):
        with pytest.raises(
            DataError,
            match="some/thing: expected a labeled split, got None; name one with split, or as some/thing:validation",
        ):
            questions("some/thing")

    def test_the_folder_of_a_model_is_no_questions(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(DataError, match="the folder of a model; a model stands first, or behind --model"):
            questions(tmp_path, split=None)

    def test_a_folder_without_data(self, tmp_path):
        with pytest.raises(DataError, match="Expected a folder that the datasets library can read"):
            questions(tmp_path, split=None)


def test_a_hub_id_with_our_columns(asked):
    asked.rows = own_rows(3)
    assert [q.id for q in questions("some/thing", split="train")] == ["q0", "q1", "q2"]
    assert asked.call == ("some/thing", None, "train", None)


class TestLocalFolders:
    """End to end, with ``datasets`` writing and reading."""

    def test_one_table_saved_to_disk(self, tmp_path):
        datasets.Dataset.from_list(own_rows(2, "test") + own_rows(3, "validation")).save_to_disk(tmp_path / "toy")
        assert len(questions(tmp_path / "toy", split=None)) == 5
        assert [q.id for q in questions(str(tmp_path / "toy"), split="test")] == ["test0", "test1"]
        with pytest.raises(DataError, match="got 'train'; there are test, validation; "):
            questions(tmp_path / "toy", split="train")

    def test_several_splits_saved_to_disk_may_count_anew(self, tmp_path):
        splits = {name: datasets.Dataset.from_list(own_rows(n)) for name, n in (("train", 3), ("test", 2))}
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "toy")
        assert {q.split for q in questions(tmp_path / "toy", split="test")} == {"test"}
        with pytest.raises(DataError, match="expected each id once, got 'q0' again"):
            questions(tmp_path / "toy")

    def test_a_folder_of_parquet_files(self, tmp_path):
        folder = tmp_path / "toy"
        folder.mkdir()
        for split in ("train", "test"):
            rows = [{k: v for k, v in OURS.items() if k != "task"} for _ in range(2)]
            datasets.Dataset.from_list(rows).to_parquet(folder / f"{split}.parquet")
        loaded = questions(folder, split="test")
        assert [(q.id, q.task) for q in loaded] == [("toy.test.00000", "toy"), ("toy.test.00001", "toy")]

    def test_answer_keys(self, tmp_path):
        datasets.Dataset.from_list([HUB_ROWS["arc_easy"]]).save_to_disk(tmp_path / "mine")
        (question,) = questions(tmp_path / "mine")
        assert (question.id, question.answer, question.task) == ("own-1", 1, "mine")


def test_one_by_its_name():
    assert benchmark_named("piqa") is BENCHMARKS["piqa"]
    with pytest.raises(UnknownNameError, match="did you mean 'piqa'"):
        benchmark_named("pica")


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (("demo", "--questions", "comonsense_qa", "--out", "OUT"), "commonsense_qa"),
        (("demo", "--references", "arc_eazy", "--out", "OUT"), "arc_easy"),
        (("demo", "--questions", "arc_easy:tset", "--out", "OUT"), "test"),
        (("refset", "build", "hellaswg", "--out", "OUT"), "hellaswag"),
        (("explain", "x", "--refset", "openbookq"), "openbookqa"),
    ],
)
def test_a_close_name_is_suggested_by_every_command(tmp_path, command, meant):
    words = [tmp_path / "out" if word == "OUT" else word for word in command]
    assert f"did you mean '{meant}'" in refused(*words)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_no_data_set_is_refused_before_a_model_is_loaded(tmp_path):
    assert "it holds none of" in refused("explain", "x", "--refset", tmp_path)
