"""What a comparison could find, told before it is run: the same that its summary says afterwards."""

import pytest
from study.configs import parse_config

from c3po_adaptive.analysis.power import detectable, foreseen, needed
from c3po_adaptive.study.comparison.foreseen_power import findable, lines
from c3po_adaptive.study.data import Asked
from c3po_adaptive.types import Question

ARMS = {"base": {"optimizer": "none"}, "ngd": {}, "far": {"retriever": "random", "control_of": ["ngd"]}}


def asked(count, kinds=1):
    made = [Question(str(i), "?", ("a", "b"), 0, subject=str(i % kinds)) for i in range(count)]
    return Asked(made, ())


def study(*sizes, kinds=1, **keys):
    names = [f"d{i}" for i in range(len(sizes))]
    datasets = [{"name": n, "questions": f"{n}.jsonl"} for n in names]
    config = parse_config({"datasets": datasets, "arms": ARMS} | keys)
    return findable(config, {name: asked(n, kinds) for name, n in zip(names, sizes, strict=True)})


def test_twenty_questions():
    """The floor is McNemar's exact test: six flips, all one way, four times in five."""
    assert 100 * foreseen([20], flipping=0) == pytest.approx(36.6, abs=0.1)
    (gain,) = study(20, arms={"base": {"optimizer": "none"}, "ngd": {}})
    assert str(gain) == (
        "power: 20 questions of d0 cannot show a gain over the base of less than about 37 points; for 5 points take "
        "630, at best 160 (tested alone)"
    )


@pytest.mark.parametrize("comparisons", [1, 12])
@pytest.mark.parametrize("flipping", [0.0, 0.2])
def test_what_is_needed_is_just_enough(comparisons, flipping):
    n = needed(0.05, comparisons, flipping)
    assert foreseen([n], comparisons, flipping) <= 0.05 < foreseen([n - 1], comparisons, flipping)


def test_the_correction_is_the_verdicts():
    """Over every gain of the table, the mean over data sets included; a primary one is tested alone."""
    found = study(200, 50, compare=[{"a": "ngd", "b": "base", "primary": True}])
    assert [(one.dataset, one.comparisons) for one in found] == [("d0", 5), ("d1", 5), ("all", 5), ("all", 1)]
    assert found[0].usual == pytest.approx(100 * detectable((0.2 / 200) ** 0.5, 200, 5), abs=0.01)
    both = (0.2 / 200 + 0.2 / 50) ** 0.5 / 2
    assert found[2].usual == pytest.approx(100 * detectable(both, 250, 5), abs=0.01)
    assert found[3].usual < found[2].usual
    assert found[3].of == "a difference of ngd and base"
    told = list(lines(found))
    assert [line.split(" cannot")[0] for line in told[:3]] == [
        "power: 250 questions",
        "power: 50 questions of d1",
        "power: 250 questions",
    ]


def test_what_is_generated_beside_its_likelihood_adds_no_question():
    twice = [{"name": name, "questions": "demo", "score": name} for name in ("likelihood", "generated")]
    other = {"name": "other", "questions": "mmlu"}
    primary = [{"a": "ngd", "b": "base", "primary": True}]
    for datasets, told in ((twice, ("likelihood", 200)), ([*twice, other], ("all", 400))):
        config = parse_config({"datasets": datasets, "arms": ARMS, "compare": primary})
        found = findable(config, {one["name"]: asked(200) for one in datasets})
        assert (found[-1].dataset, found[-1].questions) == told
        assert ("all" in {one.dataset for one in found}) == (told[0] == "all")


def test_over_kinds_it_is_by_t():
    found = study(120, kinds=6, compare=[{"a": "ngd", "b": "far", "unit": "kind", "primary": True}])
    assert (found[-1].kinds, found[-1].comparisons) == (6, 1)
    assert found[-1].usual == pytest.approx(100 * detectable((0.2 / 120) ** 0.5, 120, 1, 5), abs=0.01)
    assert found[-1].usual > 100 * foreseen([120])
    assert "120 questions of d0 (6 kinds)" in str(found[-1])
    assert str(found[-1]).endswith("or of more where kinds differ (tested alone)")


def test_too_few_questions_show_nothing():
    assert str(study(4)[0]).startswith("power: 4 questions of d0 cannot show a gain over the base at all; for 5")


def test_a_base_alone_has_nothing_to_find():
    assert not study(20, arms={"base": {"optimizer": "none"}})


def test_the_summary_says_no_less_afterwards():
    """However answers flip, what a summary calls detectable is not below what was told before."""
    from c3po_adaptive.analysis.verdict import corrected
    from c3po_adaptive.records.summary import Comparison

    (gain,) = study(40, arms={"base": {"optimizer": "none"}, "ngd": {}})
    rest = {"dataset": "d0", "a": "ngd", "b": "base", "n": 40, "draws": 1, "cost_ratio": 1, "p": 1.0, "p_holm": 1.0}
    ends = {"difference": 0, "ci_low": 0, "ci_high": 0, "detectable": 0}
    (after,) = corrected([Comparison(**rest, **ends, error=0.5)])
    assert after.detectable == pytest.approx(gain.least, abs=0.01)
