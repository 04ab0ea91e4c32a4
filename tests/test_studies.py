"""The committed studies: no question that a result is reported on took part in choosing what is run on it."""

import json
import re
from pathlib import Path

import pytest
from study.configs import load_config

from c3po_adaptive.storage.parquet_records import read_parquet
from c3po_adaptive.study.data import questions_of, references_of

STUDIES = Path(__file__).parents[1] / "studies"
BENCHMARKS = STUDIES.parents[1] / "shared" / "benchmarks"


def datasets():
    """Every data set of every study that answers questions, with its configuration's place."""
    for path in sorted(STUDIES.glob("*/*.yaml")):
        yield from ((path.relative_to(STUDIES), d) for d in getattr(load_config(path), "datasets", ()))


def wording(question):
    """Told apart by what is asked, for an id may be another in another file."""
    return " ".join([question.question, *sorted(question.choices)]).casefold().split()


@pytest.fixture
def asked(monkeypatch):
    """Wordings of test questions, of their references, and of all that was seen where settings were chosen."""
    if not BENCHMARKS.exists():
        pytest.skip(f"the benchmarks' files are not beside the project: {BENCHMARKS}")
    monkeypatch.setenv("C3PO_DATA", str(BENCHMARKS))
    test, references, seen = {}, {}, {}
    for path, dataset in datasets():
        key = f"{path}: {dataset.name}"
        asked = questions_of(dataset)
        questions, beside = ({tuple(wording(q)) for q in part} for part in (asked, references_of(dataset)))
        if {q.split for q in asked} == {"test"}:
            test[key], references[key] = questions, beside
        else:
            seen[key] = questions | beside
    return test, references, seen


def test_no_test_question_took_part_in_any_choice(asked):
    test, references, seen = asked
    assert len(test) > 15
    assert len(seen) > 15
    assert sum(map(len, test.values())) > 10_000
    everything_seen = set().union(*seen.values())
    for key, questions in test.items():
        assert not questions & everything_seen, key
        assert not questions & references[key], key


def test_the_chosen_setting_is_run_on_other_questions_than_it_was_chosen_on():
    results = STUDIES / "fixed_vs_adaptive" / "results"
    chosen, reported = (
        {r["id"] for r in read_parquet(results / name)} for name in ("labels.parquet", "records.parquet")
    )
    assert len(chosen) > 1000
    assert len(reported) > 5000
    assert not chosen & reported


def test_the_chosen_setting_is_what_is_run():
    """Arms are compared as they are read, defaults and all."""
    folder = STUDIES / "fixed_vs_adaptive"
    chosen, run, quick = (load_config(folder / name).arms for name in ("labels.yaml", "config.yaml", "quick.yaml"))
    assert chosen["lead"] == run["adaptive"] == quick["adaptive"]
    assert load_config(folder / "ngd.yaml").arms["adaptive"] == chosen["lead"]


QUOTED = re.compile(r"([+−-]?\d+\.\d+)(?:\s\w+)?\s+\[([+−-]?\d+\.\d+),\s+([+−-]?\d+\.\d+)\]")


def intervals(found):
    """Every object of a JSON file that has an interval."""
    if isinstance(found, dict):
        if "ci_low" in found:
            yield found
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            yield from intervals(value)


def quotes(text):
    """Estimates with their intervals, as numbers, and to how many decimals."""
    for match in QUOTED.finditer(text.replace("−", "-")):
        yield match.group(), [float(x) for x in match.groups()], len(match.group(1).partition(".")[2])


@pytest.mark.parametrize("place", ["fixed_vs_adaptive", "faithfulness", "demo", "arc_easy", "rivals", "docs"])
def test_intervals_that_are_quoted_are_those_of_the_results(place):
    studies = [place] if place != "docs" else ["fixed_vs_adaptive", "faithfulness", "demo", "arc_easy"]
    files = [file for study in studies for file in (STUDIES / study / "results").glob("*.json")]
    known = [x for file in files for x in intervals(json.loads(file.read_text(encoding="utf-8")))]
    said = STUDIES.parent / "docs" / "explanation" / "results.md" if place == "docs" else STUDIES / place / "README.md"
    found = list(quotes(said.read_text(encoding="utf-8")))
    assert len(found) > 3
    for quote, (value, low, high), decimals in found:
        near = [x for x in known if round(x["ci_low"], decimals) == low and round(x["ci_high"], decimals) == high]
        assert any(round(y, decimals) == value for x in near for y in x.values() if isinstance(y, float)), quote


def test_how_threads_wait_is_told_as_it_was_measured():
    rows = json.loads((STUDIES / "speed" / "results" / "waiting.json").read_text())["rows"]
    told = (STUDIES / "speed" / "README.md").read_text()
    for name, policy in (("spin", "active"), ("sleep", "passive")):
        cells = [
            "1.00"
            if r["ratio_min"] == r["ratio_max"]
            else f"{r['ratio']:.2f} [{r['ratio_min']:.2f}, {r['ratio_max']:.2f}]"
            for r in rows
            if r["policy"] == policy
        ]
        assert f"| {name} | {' | '.join(cells)} |" in told
