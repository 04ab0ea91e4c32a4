"""Where references come from, in words: of other data sets, as in the paper, or of the same."""

import pytest

from c3po_adaptive.analysis.dataset_in_words import DatasetsInWords


def config(**datasets):
    return {
        "datasets": [{"name": n, "questions": asked, "references": beside} for n, (asked, *beside) in datasets.items()]
    }


@pytest.mark.parametrize(
    ("asked", "beside", "said"),
    [
        ("arc_easy", ["openbookqa:train", "sciq:test"], "openbookqa + sciq"),
        ("arc_easy", ["arc_easy:train"], "arc_easy (same set)"),
        ("arc_easy:test", ["arc_easy", "openbookqa"], "arc_easy (same set) + openbookqa"),
        ("demo", ["demo:references"], "demo (same set)"),
        ("data/facts.test.jsonl", ["data/facts.train.jsonl"], "facts (same set)"),
        ("my/test.jsonl", ["other/train.jsonl"], "train"),
        ("allenai/ai2_arc", ["allenai/ai2_arc:train"], "ai2_arc (same set)"),
        ("piqa", ["sets/built"], "built"),
        ("piqa", [], "none"),
        ("lm_eval:arc_easy", ["lm_eval:openbookqa"], "openbookqa"),
        ("lm_eval:arc_easy", ["lm_eval:arc_easy:train"], "arc_easy (same set)"),
        ("lm_eval:arc_easy:test", ["arc_easy:train", "lm_eval:sciq"], "arc_easy (same set) + sciq"),
    ],
)
def test_of_a_data_set(asked, beside, said):
    assert DatasetsInWords(config(d=(asked, *beside))).references("d") == said


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        ({"a": ("a", "a"), "b": ("b", "b:train")}, "same set"),
        ({"a": ("a", "b"), "b": ("b", "c", "d")}, "other sets"),
        ({"a": ("a", "a"), "b": ("b", "c")}, "other sets and same set"),
        ({"a": ("a",)}, "none"),
    ],
)
def test_of_the_mean_over_data_sets(datasets, said):
    assert DatasetsInWords(config(**datasets)).references("all") == said


def test_how_questions_were_put():
    letters = {"name": "letter", "chat": True}
    datasets = [{"name": "a"}, {"name": "b", "format": letters}]
    config = {"format": {"normalize": "none", "name": "cloze"}, "datasets": datasets}
    assert [DatasetsInWords(config).format(name) for name in ("a", "b", "all")] == [
        "cloze by sum",
        "letters, in a chat",
        "several",
    ]
    datasets[0]["format"] = letters
    assert DatasetsInWords(config).format("all") == "letters, in a chat"
    assert DatasetsInWords({}).format("demo") == "cloze by tokens"
    assert (
        DatasetsInWords({"format": {"name": "cloze", "token": "first"}}).format("d")
        == "cloze by tokens, ω at the first token"
    )
