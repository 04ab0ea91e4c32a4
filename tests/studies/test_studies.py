"""The committed studies: no question that a result is reported on took part in choosing what is run on it."""

import json
import re
import shlex
from functools import cache
from glob import glob
from pathlib import Path

import pytest
import yaml
from answer import unasked
from c3po_compare.compared import made_again, read_protocol
from c3po_compare.kept_answers import read_runs
from c3po_compare.named_comparisons import NamedComparisons
from c3po_compare.named_verdict import judged
from c3po_compare.records import ComparedSummary
from knowledge import facts
from long import questions as long_questions
from pictures.make import write_questions
from poisoned import unasked as poisoned_unasked
from study.configs import load_config

from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import SIGNIFICANT
from c3po_adaptive.registry import ROLES, new_registry
from c3po_adaptive.storage.identity import digest_of_file
from c3po_adaptive.study.data import questions_of, references_of
from c3po_adaptive.study.kinds import read_study

STUDIES = Path(__file__).parents[2] / "studies"
BENCHMARKS, BED = (STUDIES.parents[1] / "shared" / name for name in ("benchmarks", "pool"))
FILES = sorted(STUDIES.glob("*/*.yaml"))
PROTOCOLS = [path for path in FILES if path.stem.endswith("protocol")]
STUDIED = [path for path in FILES if path not in PROTOCOLS]
PENDING = [STUDIES / "published" / "protocol.yaml"]
"""Protocols whose questions have not been asked yet."""
ANSWERED = [path for path in PROTOCOLS if path not in PENDING]


def datasets():
    """Every data set of every study that answers questions, with its configuration's place."""
    for path in STUDIED:
        config = load_config(path)
        yield from ((config.model, path.relative_to(STUDIES), d) for d in getattr(config, "datasets", ()))


def wording(question):
    """Told apart by what is asked and shown, for an id may be another in another file."""
    shown = question.row().get("images", ())
    return " ".join([question.question, *sorted(question.choices), *shown]).casefold().split()


def wordings(dataset):
    """The splits that a data set's questions are of, and the wordings of these and of its references."""
    asked = questions_of(dataset)
    questions, beside = ({tuple(wording(q)) for q in part} for part in (asked, references_of(dataset)))
    return {q.split for q in asked}, questions, beside


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """By model: wordings of test questions, of their references, and of all that was seen where settings were made."""
    if not (BENCHMARKS.exists() and BED.exists()):
        pytest.skip(f"the benchmarks' and the bed's files are not beside the project: {BENCHMARKS}, {BED}")
    monkeypatch.setenv("C3PO_DATA", str(BENCHMARKS))
    monkeypatch.setenv("C3PO_BED", str(BED))
    monkeypatch.chdir(tmp_path)
    unasked.main(Path("runs/unasked"))
    facts.main(Path("runs/knowledge"))
    long_questions.main(Path("runs/long"))
    poisoned_unasked.main(Path("runs/poisoned"))
    write_questions(Path("build/pictures"))
    test, references, seen = {}, {}, {}
    read = cache(lambda kind, said: wordings(kind.model_validate_json(said)))
    for model, path, dataset in datasets():
        key = model, f"{path}: {dataset.name}"
        splits, questions, beside = read(type(dataset), dataset.model_copy(update={"name": "any"}).model_dump_json())
        if splits == {"test"}:
            test[key], references[key] = questions, beside
        else:
            seen[key] = questions | beside
    return test, references, seen


def study(key):
    """The model and the folder of a data set: settings of a study are chosen in its own folder."""
    model, place = key
    return model, place.split("/")[0]


def test_no_test_question_took_part_in_any_choice(asked):
    test, references, seen = asked
    assert len(test) > 15
    assert len(seen) > 15
    assert sum(map(len, test.values())) > 10_000
    for key, questions in test.items():
        of_study = [asked for other, asked in seen.items() if study(other) == study(key)]
        assert not questions & set().union(*of_study), key
        assert not questions & references[key], key


@pytest.mark.parametrize("path", STUDIED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_configurations_name_the_plugins_that_they_need(path):
    registry = new_registry()  # companions are installed with the package
    for file in re.findall(r"--plugin (studies/[\w/]+\.py)", path.read_text(encoding="utf-8").partition("\n")[0]):
        registry.load_file(STUDIES.parent / file)
    kind, config = read_study(path, registry=lambda: registry)
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
        if isinstance(ends := found.get("ci"), list) and isinstance(ends[0], float):  # not one of each layer
            yield found | dict(zip(("ci_low", "ci_high"), ends, strict=True))
        for value in (key.removesuffix("_ci_low") for key in found if key.endswith("_ci_low")):
            if found.get(value) is not None:
                yield {"ci_low": found[f"{value}_ci_low"], "ci_high": found[f"{value}_ci_high"], value: found[value]}
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            yield from intervals(value)


def quotes(text):
    """Estimates with their intervals, as numbers, and to how many decimals."""
    for match in QUOTED.finditer(text.replace("−", "-")):
        yield match.group(), [float(x) for x in match.groups()], len(match.group(1).partition(".")[2])


QUOTING = (
    "answer",
    "faithfulness",
    "faults",
    "five_layers",
    "generated",
    "knowledge",
    "long",
    "merged",
    "paper",
    "pictures",
    "poisoned",
    "rivals",
    "table",
)
RESULTS = (
    "answer/",
    "embedded_model/",
    "faithfulness/",
    "faults/",
    "five_layers/",
    "merged/",
    "pictures/",
    "rivals/",
    "table/",
)
PAGES = {
    **{f"studies/{name}/README.md": (f"{name}/",) for name in QUOTING},
    "studies/five_layers/README.md": ("five_layers/", "merged/"),
    "docs/howto/poisoned.md": ("poisoned/",),
    "docs/explanation/results.md": RESULTS,
}
"""Pages that quote intervals, and where the files are that these stand in."""
GONE = re.compile(r"Up to commit `[0-9a-f]{7}` .*?\n\n", re.DOTALL)
"""What is told of results that lie in an earlier commit alone."""


@pytest.mark.parametrize("page", PAGES)
def test_intervals_that_are_quoted_are_those_of_the_results(page):
    files = [file for place in PAGES[page] for file in sorted((STUDIES / place).rglob("*.json"))]
    known = [x for file in files for x in intervals(json.loads(file.read_text(encoding="utf-8")))]
    text = (STUDIES.parent / page).read_text(encoding="utf-8")
    said = GONE.sub("", text)
    assert (said != text) == (page == "docs/explanation/results.md")
    found = list(quotes(said.partition("**Gate**")[0]))  # whose figures the tests of real merges have
    assert len(found) > 3
    for quote, (value, low, high), decimals in found:
        near = [x for x in known if round(x["ci_low"], decimals) == low and round(x["ci_high"], decimals) == high]
        assert any(round(y, decimals) == value for x in near for y in x.values() if isinstance(y, float)), quote


def results(page):
    """What a page says of results, outside tables."""
    text = (STUDIES.parent / page).read_text(encoding="utf-8")
    if page == "README.md":
        text = text[text.index("## Results") : text.index("## Documentation")]
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


NUMBER = re.compile(r"(?<![\w/])\d[\d,.]*")
HALF = re.compile(r"(\d+\.\d) ± (\d+\.\d)")


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/results.md"])
def test_a_finding_is_one_sentence_with_at_most_two_numbers(page):
    sentences = re.split(r"\.(?:\*\*)?\s|\n\n|\n- ", results(page))
    assert [said for said in sentences if len(NUMBER.findall(said)) > 2] == []


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/results.md", "studies/merged/README.md"])
def test_what_is_quoted_with_half_its_interval_is_of_the_results(page):
    files = [file for place in RESULTS for file in sorted((STUDIES / place).rglob("*.json"))]
    known = {
        (f"{abs(value):.1f}", f"{(found['ci_high'] - found['ci_low']) / 2:.1f}")
        for file in files
        for found in intervals(json.loads(file.read_text(encoding="utf-8")))
        for value in found.values()
        if isinstance(value, float)
    }
    quoted = HALF.findall(GONE.sub("", results(page)))
    assert len(quoted) > 1
    assert set(quoted) - known == set()


def test_readme_says_what_was_measured():
    said = " ".join(results("README.md").split())

    def compared(folder, on, a, b):
        found = json.loads((STUDIES / folder / "summary.json").read_text(encoding="utf-8"))["comparisons"]
        asked = (on, a, b, "superiority")
        (one,) = (c for c in found if (c["on"], c["a"], c["b"], c["test"]) == asked)
        return one

    second, merged, layers = "answer/results/second", "merged/results/second/compared", "five_layers/results"
    for folder, named, words in (
        (merged, ("gated", "nearest", "base"), "gains {} points without training"),
        (merged, ("gated", "each", "one for all"), "it beats one step for all by {} points"),
        (
            layers,
            ("merged", "five chosen", "five random"),
            "beat five at random by {} points [on the merge that ships](studies/five_layers/README.md)",
        ),
        (
            merged,
            ("not asked by then", "ngd", "base"),
            "Tuned, it gains {} points on those three of the five whose answers nobody had looked at",
        ),
    ):
        found = compared(folder, *named)
        assert words.format(f"{found['difference']:.1f} ± {(found['ci_high'] - found['ci_low']) / 2:.1f}") in said
        assert found["ci_low"] > 0 and "better" in found["verdict"]
    kept = [read_parquet(path) for path in sorted((STUDIES / merged).parent.glob("*-0.parquet"))]
    told = [{(r.arm, r.id): r.choice for r in records} for records in kept]
    moved = [own[arm, id_] != own["base", id_] for own in told for arm, id_ in own if arm == "ngd, published"]
    assert f"changes {sum(moved)} of {len(moved):,} answers" in said
    assert compared(merged, "gated", "nearest", "repaired")["verdict"] == "not shown"
    orphans = compared(merged, "gated: orphans-0", "each", "base")
    assert "on one of them little or nothing" in said and orphans["difference"] < 5 and orphans["ci_low"] < 0
    for folder, *named in (
        (second, "learned: sound", "each", "base"),
        *((merged, "gated", "each", r) for r in ("router tuning", "lora", "one a cluster", "one a kind, told")),
        (merged, "as shipped", "nearest", "base"),
        *((layers, model, "five chosen", "five chosen, the same for all") for model in ("merged", "misrouted")),
        (merged, "gated", "five chosen", "five random"),
    ):
        found = compared(folder, *named)
        assert found["ci_low"] < 0 < found["ci_high"], "not shown"


BEFORE = (
    ("generated", "early", "56 questions of seven kinds, all asked before by likelihood in", 56),
    ("poisoned", "early", "its 72 questions had all been asked before", 72),
    ("poisoned", "again", "256 of its 288 questions had been asked before", 256),
    ("knowledge", "early", "55 of the 99 had been asked in the first round", 55),
    ("long", "early", "75 questions of kinds that experts learned, all asked before, alone, in", 75),
)


@pytest.mark.parametrize(("folder", "kept", "words", "count"), BEFORE, ids=lambda value: str(value)[:12])
def test_questions_that_another_study_had_asked_before_are_told(folder, kept, words, count):
    def asked(path):
        return {(r.subject, r.id) for r in read_parquet(path) if r.arm == "base"}

    rounds = (STUDIES / "answer" / "results" / name / "early.parquet" for name in ("first", "second"))
    assert len(asked(STUDIES / folder / "results" / f"{kept}.parquet") & set().union(*map(asked, rounds))) == count
    assert words in " ".join((STUDIES / folder / "README.md").read_text(encoding="utf-8").split())


FORGOTTEN = ("answer/second_validation", "answer/validation", "knowledge/validation", "pictures/validation")
"""Runs over validation questions whose answers were not kept; none comes to them."""


def test_answers_by_which_settings_are_chosen_are_kept():
    looked = [path for path in STUDIED if "validation" in path.stem]
    missed = [path for path in looked if not [*(path.parent / "results" / path.stem).glob("*.parquet")]]
    assert tuple(f"{path.parent.name}/{path.stem}" for path in missed) == FORGOTTEN
    for path in missed:
        page = " ".join((path.parent / "README.md").read_text(encoding="utf-8").split())
        assert re.search(rf"`{path.name}`[^.]*(\.yaml`[^.]*)*were not kept", page), path


def command_of(path):
    """Runs and folder of the command that a protocol's first line says."""
    _, command, *words = shlex.split(path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "))
    *runs, option, protocol, out, folder = words
    assert (command, option, out, STUDIES.parent / protocol) == ("compare", "--protocol", "--out", path)
    return [file for run in runs for file in (sorted(glob(run)) or [run])], STUDIES.parent / folder


ANSWER_PROTOCOLS = ("first_protocol", "protocol", "left_protocol")


def test_the_answer_study_prints_commands_that_run_from_the_kept_answers_alone():
    """Those of its protocols, which are tried below, into another folder; what others need is said."""
    folder = STUDIES / "answer"
    kept, anew = (block for block in (folder / "README.md").read_text().split("```")[1:] if block.startswith("bash\n"))
    written = {(folder / f"{name}.yaml").read_text().partition("\n")[0] for name in ANSWER_PROTOCOLS}
    told = {re.sub("--out runs/compared/", "--out studies/answer/results/", line) for line in kept.split("\n")[1:-1]}
    assert {f"# {line}" for line in told} == written
    commands = [line.partition("# ")[0] for line in f"{kept}{anew}".split("\n")]
    assert not [line for line in commands if "…" in line or "FOLDER" in line or "C3PO_BED" in line]


def firsts(protocol):
    """Of each thing that a protocol asks, the first of its sides in the first of its groups."""
    asked = (c.model_copy(update={"a": c.a[:1], "b": c.b[:1], "group": c.group[:1]}) for c in protocol.comparisons)
    return protocol.model_copy(update={"comparisons": tuple(asked)})


CORRECTED = ("p_holm", "detectable", "verdict", "sentence")
"""What a comparison has of all that its family asks."""


@pytest.mark.parametrize("part", [firsts, pytest.param(lambda protocol: protocol, marks=pytest.mark.slow, id="all")])
@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_protocol_asked_is_what_its_kept_answers_say(path, part, monkeypatch):
    """By the command that its first line says."""
    monkeypatch.chdir(STUDIES.parent)
    runs, folder = command_of(path)
    kept = ComparedSummary.model_validate_json((folder / "summary.json").read_bytes())
    assert kept.hashes["protocol"] == digest_of_file(path) and kept.hashes["rules"]
    for several in (kept.comparisons, kept.second):
        for one, again in zip(several, judged(several, SIGNIFICANT), strict=True):
            assert (one.verdict, one.sentence) == (again.verdict, again.sentence)
            assert one.p_holm == pytest.approx(again.p_holm)
    asked = part(read_protocol(path))
    answers = read_runs(*runs)
    of = NamedComparisons(asked, answers)
    names = ("on", "arm", "a", "b", "measure", "test", "within", "unit")
    for several, again in (
        (kept.comparisons, of.made(asked.unit)),
        (kept.second, made_again(asked, answers)),
        (kept.rows, of.rows()),
    ):
        known, found = ([one.model_dump(exclude={*CORRECTED}) for one in each] for each in (several, again))
        by_name = {tuple(map(one.get, names)): one for one in known}
        assert bool(found) == bool(known) and (part is firsts or len(found) == len(known) == len(by_name))
        for one in found:
            assert one == pytest.approx(by_name[tuple(map(one.get, names))])


@pytest.mark.parametrize("path", PENDING, ids=lambda path: path.parent.name)
def test_a_protocol_before_its_answers_names_arms_that_will_be_asked(path, monkeypatch):
    monkeypatch.chdir(STUDIES.parent)
    runs, folder = command_of(path)
    assert not any(Path(one).exists() for one in (*runs, folder))
    assert "The test questions have not been asked yet." in (path.parent / "README.md").read_text(encoding="utf-8")
    config = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))
    named = {side.arm for side in read_protocol(path).sides}
    assert named == {*config["arms"]}


def test_binary_files_are_few():
    """What git keeps of them, for good, with every version that is committed."""
    files = [p for ext in ("parquet", "xz", "safetensors") for p in STUDIES.parent.rglob(f"*.{ext}")]
    tracked = [p for p in files if p.parts[len(STUDIES.parent.parts)] in ("c3po_adaptive", "studies")]
    assert len(tracked) > 3
    assert sum(p.stat().st_size for p in tracked) < 9_000_000


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
