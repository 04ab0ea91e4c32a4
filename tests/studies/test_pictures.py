"""The study of pictures: its questions, and what its page says of the answers that are kept."""

import random
from pathlib import Path

import numpy as np
from c3po_compare import answers
from pictures import make

STUDY = Path(__file__).parents[2] / "studies" / "pictures"


def filled(image):
    """Cells of the picture in which something is drawn."""
    pixels = np.asarray(image).astype(int)
    drawn = np.abs(pixels - pixels[0, 0]).sum(-1) > 0
    cells = drawn.reshape(make.SIDE, make.CELL, make.SIDE, make.CELL).any((1, 3))
    return int(cells.sum())


def test_the_page_says_what_each_kind_came_to():
    rng = random.Random(f"{make.SEED} test")
    kinds = {q.id: q.task for q in (make.question(rng, f"test-{i}") for i in range(make.PARTS["test"]))}
    table = answers(*(STUDY / "results" / f"{model}.parquet" for model in ("broken", "sound")))
    assert table.groupby("model").question.nunique().to_dict() == {"broken": len(kinds), "sound": 64}
    broken = table[table.model == "broken"]
    right = 100 * broken.groupby(["arm", broken.question.map(kinds)]).correct.mean().unstack()
    page = (STUDY / "README.md").read_text(encoding="utf-8")
    base = {kind: f"{right[kind]['base']:.0f} %" for kind in make.KINDS}
    assert "leave color right ({color}), and lose shape ({shape}) and count ({count})".format(**base) in page
    assert right["color"]["constant"] == 100 and "color stays at 100 %" in page
    assert all(right[kind][arm] > right[kind]["base"] for arm in ("nearest", "constant") for kind in ("shape", "count"))


def test_a_picture_shows_what_is_right_of_each_kind():
    rng = random.Random(0)
    for _ in range(8):
        image, right = make.drawn(rng)
        assert right.keys() == make.KINDS.keys()
        assert filled(image) == make.COUNTS.index(right["count"]) + 1


def test_questions_are_the_same_when_made_again_and_others_in_each_part():
    first, again, other = (make.question(random.Random(seed), "a") for seed in ("0 test", "0 test", "0 validation"))
    assert first.row() == again.row()
    assert np.array_equal(*(np.asarray(q.images[0].source) for q in (first, again)))
    assert not np.array_equal(*(np.asarray(q.images[0].source) for q in (first, other)))
