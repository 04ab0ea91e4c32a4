"""The committed studies: no question that a result is reported on took part in choosing what is run on it."""

import json
import re
import runpy
from pathlib import Path

import pytest
from records.made import plain
from study.configs import load_config

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.by_dataset import grouped
from c3po_adaptive.analysis.calibration import calibration_error
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import BoardSummary
from c3po_adaptive.registry import ROLES, new_registry
from c3po_adaptive.study.data import questions_of, references_of
from c3po_adaptive.study.kind import read_study
from c3po_adaptive.study.leader_board import board_summary, read_board, stale_pages

STUDIES = Path(__file__).parents[1] / "studies"
BENCHMARKS = STUDIES.parents[1] / "shared" / "benchmarks"
BOARDS = {  # with the pages that at least quote them
    "leaderboard/board.yaml": ("README.md",),
    "leaderboard/everything.yaml": ("everything.md",),
    "leaderboard/transferred_board.yaml": ("transferred.md",),
    "mixture/board.yaml": ("test.md",),
    "mixture/primary.yaml": ("primary.md",),
}


STUDIED = [path for path in sorted(STUDIES.glob("*/*.yaml")) if path not in {STUDIES / name for name in BOARDS}]


def datasets():
    """Every data set of every study that answers questions, with its configuration's place."""
    for path in STUDIED:
        config = load_config(path)
        yield from ((config.model, path.relative_to(STUDIES), d) for d in getattr(config, "datasets", ()))


def wording(question):
    """Told apart by what is asked, for an id may be another in another file."""
    return " ".join([question.question, *sorted(question.choices)]).casefold().split()


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """By model: wordings of test questions, of their references, and of all that was seen where settings were made."""
    if not BENCHMARKS.exists():
        pytest.skip(f"the benchmarks' files are not beside the project: {BENCHMARKS}")
    monkeypatch.setenv("C3PO_DATA", str(BENCHMARKS))
    (tmp_path / "studies").symlink_to(STUDIES)  # as from the repository, where nothing is to be written
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(STUDIES / "mixture" / "pool.py"))["main"]("runs/pool")
    test, references, seen = {}, {}, {}
    for model, path, dataset in datasets():
        key = model, f"{path}: {dataset.name}"
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
    for key, questions in test.items():
        assert not questions & set().union(*(asked for (model, _), asked in seen.items() if model == key[0])), key
        assert not questions & references[key], key


def test_the_chosen_setting_is_run_on_other_questions_than_it_was_chosen_on():
    results = STUDIES / "fixed_vs_adaptive" / "results"
    chosen, reported = ({r.id for r in read_parquet(results / name)} for name in ("labels.parquet", "records.parquet"))
    assert len(chosen) > 1000
    assert len(reported) > 5000
    assert not chosen & reported


def test_the_chosen_setting_is_what_is_run():
    """Arms are compared as they are read, defaults and all."""
    folder = STUDIES / "fixed_vs_adaptive"
    chosen, run, quick = (load_config(folder / name).arms for name in ("labels.yaml", "config.yaml", "quick.yaml"))
    assert chosen["lead"] == run["adaptive"] == quick["adaptive"]
    assert load_config(folder / "ngd.yaml").arms["adaptive"] == chosen["lead"]


def test_other_draws_are_of_the_same_arms():
    draws, run = (load_config(STUDIES / "leaderboard" / name).arms for name in ("draws.yaml", "remix.yaml"))
    assert {"adaptive", "constant", "all layers"} < draws.keys() < run.keys()
    assert all(run[name] == arm for name, arm in draws.items())


def plugins_of(text):
    """The plugin files that a configuration's own command names."""
    yield from re.findall(r"--plugin ((?:plugins|studies)/[\w/]+\.py)", text)
    for names in re.findall(r"--plugin plugins/%s\.py' ([\w ]+)\)", text):
        yield from (f"plugins/{name}.py" for name in names.split())


@pytest.mark.parametrize("path", STUDIED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_configurations_name_the_plugins_that_they_need(path):
    registry = new_registry(installed=False)
    for file in plugins_of(path.read_text(encoding="utf-8").partition("\n")[0]):
        registry.load_file(STUDIES.parent / file)
    kind, config = read_study(path, registry=registry)
    used = [(ROLES[role][0], strategy) for role, strategy in kind.strategies(config, registry)]
    assert used or not re.search('"(optimizer|selector|answerer)s?"', json.dumps(config.model_dump(mode="json")))
    assert all(isinstance(strategy, base) for base, strategy in used)


QUOTED = re.compile(r"([+−-]?\d+\.\d+)(?:\s\w+)?\s+\[([+−-]?\d+\.\d+),\s+([+−-]?\d+\.\d+)\]")


RHO = [(name, name) for name in ("rank_correlation", "acted")]


def intervals(found):
    """Every object of a JSON file that has an interval."""
    if isinstance(found, dict):
        if "ci_low" in found:
            yield found
        for what, value in (("nll", "nll_difference"), ("calibration", "calibration_difference"), *RHO):
            ends = [found.get(f"{what}{end}", found.get(f"{what}_ci{end}")) for end in ("_low", "_high")]
            if None not in ends:
                yield {"ci_low": ends[0], "ci_high": ends[1], value: found[value]}
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            yield from intervals(value)


def quotes(text):
    """Estimates with their intervals, as numbers, and to how many decimals."""
    for match in QUOTED.finditer(text.replace("−", "-")):
        yield match.group(), [float(x) for x in match.groups()], len(match.group(1).partition(".")[2])


@pytest.mark.parametrize(
    "place",
    ["fixed_vs_adaptive", "faithfulness", "demo", "arc_easy", "rivals", "mixture", "knowledge", "docs"],
)
def test_intervals_that_are_quoted_are_those_of_the_results(place):
    named = ("fixed_vs_adaptive", "faithfulness", "demo", "arc_easy", "leaderboard", "mixture", "knowledge")
    pages = {"docs": STUDIES.parent / "docs" / "explanation" / "results.md"}
    studies = named if place in (*pages, "knowledge") else [place]  # others quote what they ran themselves
    files = [file for study in studies for file in (STUDIES / study / "results").rglob("*.json")]
    known = [x for file in files for x in intervals(json.loads(file.read_text(encoding="utf-8")))]
    said = pages.get(place, STUDIES / place / "README.md")
    found = list(quotes(said.read_text(encoding="utf-8")))
    assert len(found) > 3
    for quote, (value, low, high), decimals in found:
        near = [x for x in known if round(x["ci_low"], decimals) == low and round(x["ci_high"], decimals) == high]
        assert any(round(y, decimals) == value for x in near for y in x.values() if isinstance(y, float)), quote


def test_readme_says_what_was_measured():
    said = (STUDIES.parent / "README.md").read_text(encoding="utf-8")
    results = said[said.index("## Results") : said.index("## Documentation")]
    assert all(len(re.findall(r"(?<!\w)\d[\d,.]*", sentence)) <= 2 for sentence in re.split(r"\.\s", results))

    def read(file):
        return json.loads((STUDIES / file).read_text(encoding="utf-8"))

    def all_of(file, arm):
        return next(r for r in read(file)["rows"] if r["dataset"] == "all" and r["arm"] == arm)

    permuted = read("embedded_model/apart-0.json")["leverage"]["permuted"]
    half = (permuted["ci"][1] - permuted["ci"][0]) / 2
    assert f"answers {-permuted['difference']:.1f} ± {half:.1f} points less" in results
    won = {(r["selector"], r["optimizer"]): r for r in read("faults/results/bounds/summary.json")["rows"] if r["dose"]}
    told, found = won["told", "undone"], "loss_won_back_in_reach"
    assert told[f"{found}_ci_low"] <= 1 <= told[f"{found}_ci_high"]
    assert all(won[selector, "random"][f"{found}_ci_low"] < 0 for selector in ("told", "random"))
    chosen = all_of("fixed_vs_adaptive/results/summary.json", "adaptive")
    assert f"gain {chosen['gain']:.1f} ± {(chosen['ci_high'] - chosen['ci_low']) / 2:.1f} points" in results
    unseen = all_of("leaderboard/results/summary.json", "adaptive")
    assert unseen["ci_low"] < 0 < unseen["ci_high"]
    apart = [c for c in read("mixture/results/summary.json")["comparisons"] if c["dataset"] == "all"]
    apart = [c for c in apart if (c["a"], c["b"]) == ("nearest 300", "constant")]
    assert apart and all(c["ci_low"] < 0 < c["ci_high"] for c in apart)


def same(one, other):
    """As far as another version of a library may round."""
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-6, abs=1e-9)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_what_the_records_say(name):
    """Every number of the leader board, from the committed records."""
    folder = (STUDIES / name).parent
    board = read_board(STUDIES / name)
    kept = json.loads((folder / board.results / "summary.json").read_text(encoding="utf-8"))
    summary = plain(board_summary(board, folder))
    for part in ("rows", "comparisons", "matrix", "draws", "sources"):
        assert len(kept[part]) == len(summary[part])
        for one, other in zip(summary[part], kept[part], strict=True):
            assert same(one, other), (part, one, other)


LONG = ("mixture/board.yaml", "mixture/primary.yaml", "leaderboard/everything.yaml", "leaderboard/board.yaml")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in BOARDS]
)
def test_boards_have_the_means_of_the_records_and_pages_quote_them(name):
    """What takes no drawing again."""
    folder = (STUDIES / name).parent
    board = read_board(STUDIES / name)
    kept = json.loads((folder / board.results / "summary.json").read_text(encoding="utf-8"))
    assert stale_pages(board, folder, BoardSummary.model_validate(kept)) == []
    assert {*board.pages} >= {*BOARDS[name]}
    files = {file for run in board.runs for pattern in run.records for file in folder.glob(pattern)}
    records = [r for file in sorted(files) for r in read_parquet(file)]
    wanted = [r for r in records if not board.datasets or r.dataset in board.datasets]
    arms = grouped({(r.dataset, r.arm, r.id): r for r in wanted}.values(), unfinished=False)
    assert {(r["dataset"], r["arm"]) for r in kept["rows"]} == {(d, arm) for d, group in arms.items() for arm in group}
    for row in kept["rows"]:
        own, base = stats.on_common_questions(*(arms[row["dataset"]][arm] for arm in (row["arm"], board.baseline)))
        means(row, own, base)
        if name == "leaderboard/board.yaml" and row["dataset"] == "all" and row["arm"] != board.baseline:
            found = stats.compare(own, base, seed=board.seed)
            assert (found.ci_low, found.ci_high) == pytest.approx((row["ci_low"], row["ci_high"]))


def means(row, own, base):
    assert row["accuracy"] == pytest.approx(100 * stats.mean(own, stats.is_correct))
    assert row["gain"] == pytest.approx(row["accuracy"] - 100 * stats.mean(base, stats.is_correct))
    assert row["nll"] == pytest.approx(stats.mean(own, stats.gold_nll))
    assert row["calibration_error"] == pytest.approx(calibration_error(own))
    assert row["cost"]["total"] == pytest.approx(stats.mean(own, stats.total_cost))


@pytest.mark.parametrize("name", ["summary", "labels", "ngd", "abstention"])
def test_summaries_are_what_the_records_say(name):
    folder = STUDIES / "fixed_vs_adaptive" / "results"
    rows = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    arms = grouped(read_parquet(folder / f"{'records' if name == 'summary' else name}.parquet"), unfinished=False)
    assert {(row["dataset"], row["arm"]) for row in rows} == {(d, arm) for d, group in arms.items() for arm in group}
    for row in rows:
        means(row, arms[row["dataset"]][row["arm"]], arms[row["dataset"]]["base"])


def test_binary_files_are_few():
    """What git keeps of them, for good, with every version that is committed."""
    files = [p for ext in ("parquet", "xz", "safetensors") for p in STUDIES.parent.rglob(f"*.{ext}")]
    tracked = [p for p in files if p.parts[len(STUDIES.parent.parts)] in ("c3po_adaptive", "studies")]
    assert 5 < len(tracked) < 40
    assert sum(p.stat().st_size for p in tracked) < 18_000_000


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


def test_the_harness_beside_ours_is_told_as_it_was_measured():
    found = json.loads((STUDIES / "speed" / "results" / "harness.json").read_text())
    pages = [STUDIES / "speed" / "README.md", STUDIES.parent / "docs" / "howto" / "lm_eval.md"]
    for row in found["rows"]:
        apart = [f"{row[key]:.0e}" if key in row else "" for key in ("difference", "difference_float64")]
        cells = [
            row["task"],
            *(f"{row[f'{name}_per_second']:.2f}" for name in ("c3po", "hf")),
            f"{row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]",
            *apart,
            f"{100 * row['same']:.0f} %" if "same" in row else "",
        ]
        assert all(f"| {' | '.join(cells)} |" in page.read_text() for page in pages), row["task"]
        assert row.get("difference_float64", 0) < 1e-3


def test_what_pathways_cost_vllm_is_told_as_it_was_measured():
    found = json.loads((STUDIES / "speed" / "results" / "pathways.json").read_text())
    pages = [STUDIES / "speed" / "README.md", STUDIES.parent / "docs" / "howto" / "vllm.md"]
    names = {"none": "no pathway", "top-k": "eight pathways, `mix: top-k`", "experts": "eight pathways of 20 experts"}
    assert (found["requests"], found["experts"], len(found["rows"])) == (8, 20, 3)
    for row in found["rows"]:
        spread = f" [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]" if row["arm"] != "none" else ""
        line = f"| {names[row['arm']]} | {row['requests_per_second']:.2f} | {row['ratio']:.2f}{spread} |"
        assert all(line in page.read_text() for page in pages)


def test_vllm_beside_ours_is_told_as_it_was_measured():
    found = json.loads((STUDIES / "speed" / "results" / "served.json").read_text())
    told = (STUDIES / "speed" / "README.md").read_text()
    for row in found["rows"]:
        cells = [
            row["task"],
            *(f"{row[f'{name}_per_second']:.2f}" for name in ("c3po", "vllm")),
            f"{row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]",
            f"{row['difference']:.0e}" if "difference" in row else "",
            f"{100 * row['same']:.0f} %",
        ]
        assert f"| {' | '.join(cells)} |" in told
        assert (row["same"], row.get("difference", 0) < 1e-3) == (1, True)
