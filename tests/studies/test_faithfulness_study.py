"""What is said of scores of layers is what the kept rows say."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from c3po_faithfulness.record import ScoreRecord
from faithfulness.keep import MODELS, _told, keep, kept, table
from faithfulness.randomised import shuffled

from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

RESULTS = Path(__file__).parents[2] / "studies" / "faithfulness" / "results"
GOAL = 0.9, 0.6
"""An area that is asked of a score where routers are broken, and the most where they are sound."""


@pytest.fixture(scope="module")
def found():
    return {name: kept(RESULTS / f"{name}.parquet") for name in MODELS}


def areas(summary):
    return {place.of: place.marked_by_all.mean for place in summary.places if place.role == "method"}


def close(one, other):
    """Means of floats may be summed in another order."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            close(a, b)
    else:
        assert one == (pytest.approx(other, rel=1e-6, abs=1e-9) if isinstance(other, float) else other)


@pytest.mark.parametrize("name", MODELS)
def test_summaries_are_those_of_the_kept_rows(found, name):
    close(found[name].model_dump(mode="json"), json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def test_table_sets_them_beside_each_other(found):
    assert (RESULTS / "scores.md").read_text(encoding="utf-8") == table(found)
    assert "first eight routers broken" in (RESULTS / "places.svg").read_text(encoding="utf-8")


def test_two_scores_meet_the_goal_over_all_questions_and_none_of_one(found):
    broken, sound = areas(found["misrouted"]), areas(found["sound"])
    met = {name for name in broken if broken[name] >= GOAL[0] and sound[name] <= GOAL[1]}
    assert met == {"misrouted", "cross-fitted"}
    assert max(place.marked.mean for place in found["misrouted"].places if place.role == "method") < GOAL[0]


def test_with_weights_at_random_a_part_of_the_lean_to_the_first_layers_is_left(found):
    """Where nothing that is found matters, and what finds wrong routers is at chance."""
    sound, random = ({place.of: place for place in found[name].places} for name in ("sound", "random"))
    integrated = random["integrated-gradients"]
    for area in ("marked", "marked_by_all"):
        before, after = (getattr(of["integrated-gradients"], area) for of in (sound, random))
        assert 0.5 < after.ci_low < after.ci_high < before.ci_low
    chance = [random[name].marked for name in ("misrouted", "alone, own", "without, own", "alone, neighbours")]
    assert all(one.ci_low < 0.5 < one.ci_high for one in chance)
    page = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    for one, words in (
        (integrated.marked, "integrated gradients have {} question by question"),
        (integrated.marked_by_all, "and {} over all."),
        (chance[0], "`misrouted` has {}, and"),
        (random["integrated-gradients from neighbours"].marked, "lean to the last layers, {}."),
    ):
        assert words.format(f"{one.mean:.2f} [{one.ci_low:.2f}, {one.ci_high:.2f}]") in page
    moved = [moved_by_all_layers(name) for name in ("random", "sound")]
    assert 0 < moved[0] < moved[1] / 1000


def moved_by_all_layers(name):
    """Mean change of a question's loss, in nats, either way."""
    rows = [row["together"] for row in pq.read_table(RESULTS / f"{name}.parquet").to_pylist()]
    found = [abs(own) for own in rows if own is not None]
    return sum(found) / len(found)


def test_a_run_is_kept_with_its_rows(found, tmp_path):
    """Run folders have their rows as lines, with seconds, which are not kept."""
    run, rows = tmp_path / "faithfulness-sound", pq.read_table(RESULTS / "sound.parquet").to_pylist()
    run.mkdir()
    records = [ScoreRecord.model_validate(_told(row) | {"seconds": 2.0}) for row in rows]
    (run / "records.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    (run / "summary.json").write_text((RESULTS / "sound.json").read_text(encoding="utf-8"))
    keep(run, tmp_path)
    assert pq.read_table(tmp_path / "sound.parquet").to_pylist() == rows
    assert kept(tmp_path / "sound.parquet") == found["sound"]


def test_weights_at_random_are_those_of_routers_and_experts_in_another_order():
    model = RoutedModel(tiny_moe("olmoe"), tiny_tokenizer())
    before, after = (dict(one.model.named_parameters()) for one in (model, shuffled(model, seed=0)))
    moved = {name for name, p in before.items() if not torch.equal(p, after[name])}
    assert moved == {name for name in before if ".mlp." in name}
    for name, p in before.items():
        assert torch.equal(p.flatten().sort().values, after[name].flatten().sort().values)
