"""The paper's own table: which sets, which tries, which questions, and what is made of answers."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest
import yaml
from c3po_compare.compared import compare, read_protocol
from c3po_compare.records import ComparedSummary
from merged import choose as merged_choose
from merged.fresh import QUESTIONS, balanced_of, kinds_of
from records.made import answered
from study.configs import parse_config
from table import choose, fresh, gate, page
from typer.testing import CliRunner

from c3po_adaptive.errors import DataError
from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.tasks import questions

STUDY = Path(__file__).parents[2] / "studies" / "table"
POOL = STUDY.parents[2] / "shared" / "pool"
CONFIG = yaml.safe_load((STUDY / "tries.yaml").read_text())
GATE = json.loads((STUDY / "results" / "gate.json").read_text())
TRIES = 4
CHOSEN = {name.partition(" / ")[0]: name.partition(" / ")[2] for name in CONFIG["arms"]}
"""The last try of each row."""


def test_the_gate_is_what_the_kept_answers_say():
    sound, merged = (read_parquet(STUDY / "results" / "gate" / f"smollm2-moe{of}.parquet") for of in ("", "-merged"))
    for kind, kept in GATE["kinds"].items():
        own = gate.figures(*([r for r in of if r.dataset == kind] for of in (sound, merged)))
        assert own == {name: kept[name] for name in own}, kind
    assert GATE["sets"] == gate.chosen(GATE["kinds"]) == [*fresh.kinds()]


def test_a_kind_that_is_not_above_chance_or_lost_little_or_asks_for_few_answers_is_not_chosen():
    kinds = dict(zip(("atis_intent", "movie_slot", "social_iqa", "tweet_irony"), range(4), strict=True))
    good = {
        "above chance": [30.0, 10.0, 50.0],
        "lost": [40.0, 20.0, 60.0],
        "right answers": {"fresh": 3, "references": 6},
    }
    bad = [
        {"above chance": [9.0, -1.0, 19.0]},
        {"lost": [14.9, 1.0, 30.0]},
        {"right answers": {"fresh": 2, "references": 6}},
    ]
    found = {kind: good | bad[i] if i < 3 else good for kind, i in kinds.items()}
    assert gate.chosen(found) == ["tweet_irony"]
    more = {"tweet_emotion": good | {"lost": [41.0, 20.0, 60.0]}, "word_order": good | {"lost": [20.0, 1.0, 30.0]}}
    assert gate.chosen(found | more) == ["tweet_emotion", "word_order"]


def test_each_row_has_as_many_tries_and_equal_ones_are_not_tried_twice():
    tried = {}
    for name, arm in CONFIG["arms"].items():
        row, _, setting = name.partition(merged_choose.APART)
        assert bool(setting) == (row not in (merged_choose.BASE, choose.NEAREST))
        tried.setdefault(row, []).append(arm)
    del tried[merged_choose.BASE], tried[choose.NEAREST]
    assert {row: len(of) for row, of in tried.items()} == dict.fromkeys(tried, TRIES)
    assert all(of.count(one) == 1 for of in tried.values() for one in of)
    for dataset in CONFIG["datasets"]:
        assert dataset["references"] == [dataset["questions"]] == [f"bed:{dataset['name']}"]
        assert (dataset["limit"], dataset["references_limit"]) == (12, fresh.REFERENCES)


@pytest.fixture
def pool(tmp_path):
    for kind in fresh.kinds():
        plain = {"task": kind, "choices": ["a", "b"]}
        rows = [plain | {"id": f"{kind}/r{n:04}", "question": f"{n}?", "answer": n % 2} for n in range(200)]
        (tmp_path / f"{kind}.references.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_forty_of_each_are_asked_and_none_that_the_merged_study_asked(pool):
    assert CliRunner().invoke(fresh.app, ["--pool", str(pool), "--out", str(pool / "asked")]).exit_code == 0
    for kind in fresh.kinds():
        asked = questions(pool / "asked" / f"{kind}.jsonl")
        assert len(asked) == 40 and {q.subject for q in asked} == {kind} and sum(q.answer for q in asked) == 20
        assert not {q.id for q in asked} & {q.id for q in questions(pool / f"{kind}.references.jsonl", limit=100)}
        most = QUESTIONS // len(kinds_of("real-hidden-8-0"))
        assert not {q.id for q in asked} & {q.id for q in balanced_of(kind, pool, most)}
    mixed = [q.id for q in questions(pool / "asked" / "mixture.jsonl")]
    assert mixed == [q.id for kind in fresh.kinds() for q in questions(pool / "asked" / f"{kind}.jsonl")[:20]]


@pytest.mark.skipif(not POOL.is_dir(), reason="the bed's files are not beside the project")
def test_the_bed_has_these_questions_with_several_answers_and_no_choice_saw_them():
    for kind in fresh.kinds():
        asked, seen = (
            fresh.fresh_of(kind, POOL),
            [*questions(POOL / f"{kind}.validation.jsonl"), *fresh.known(kind, POOL)],
        )
        answers = Counter(q.choices[q.answer] for q in asked)
        assert len(answers) >= len({q.choices[q.answer] for q in seen}) / 2 and max(answers.values()) <= 14
        assert len(asked) == 40 and not {q.question for q in asked} & {q.question for q in seen}


def test_what_is_asked_next_is_a_study_of_the_chosen_rows_on_each_set_alone_and_on_the_mixture():
    plain = parse_config(CONFIG).model_dump(mode="json")
    config, own = parse_config(choose.asked_next(plain, CHOSEN, Path("asked"))), parse_config(CONFIG)
    for row, setting in CHOSEN.items():
        assert config.arms[row] == own.arms[f"{row} / {setting}" if setting else row]
    assert config.arms["ngd, published"] == own.arms["ngd / published"] != config.arms["ngd"]
    of = [name for name in config.arms if name.startswith(("ngd", "nearest"))]
    assert of[:4] == ["ngd", "ngd, published", "ngd, published, oracle", "ngd, oracle"] and of[4] == "nearest"
    oracle = config.arms["step, oracle"]
    assert oracle.optimizer == {"name": "oracle", "of": own.arms["step / lead 50"].optimizer} and oracle.loss == "lead"
    assert {config.arms[name].control_of for name in choose.CONTROLS} == {("nearest",)}
    *alone, mixed = config.datasets
    assert [d.questions for d in alone] == [f"asked/{kind}.jsonl" for kind in fresh.kinds()]
    assert [d.references for d in alone] == [(f"bed:{kind}",) for kind in fresh.kinds()]
    assert (mixed.questions, mixed.references) == (
        "asked/mixture.jsonl",
        tuple(f"bed:{kind}" for kind in fresh.kinds()),
    )
    assert {(d.split, d.limit, d.references_limit) for d in config.datasets} == {(None, None, 40)}
    asked = {*config.arms} - {"base"}
    assert read_protocol(STUDY / "protocol.yaml").names()["arm"] == {*asked, "base"} and {*page.BARS} <= {*config.arms}


MODELS = ("smollm2-moe", "smollm2-moe-merged", "smollm2-moe-misrouted")
RIGHT = {"base": 1, "nearest": 4, "in context": 2, "five chosen": 4}
"""Of four questions a set, how many an arm has right; others three."""


@pytest.fixture
def results(tmp_path):
    """Made-up answers of three models, judged by the study's protocol."""
    protocol = yaml.safe_load((STUDY / "protocol.yaml").read_text()) | {"resamples": 999, "second_unit": None}
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol))
    arms = read_protocol(tmp_path / "protocol.yaml").names()["arm"]
    for model in MODELS:
        write_parquet(
            [
                answered(
                    dataset=name,
                    arm=arm,
                    id=f"{kind}/{n}",
                    subject=kind,
                    split="",
                    correct=n < RIGHT.get(arm, 3),
                    scores=[0.5, 0.5],
                    needs_label="oracle" in arm,
                    once=80.0,
                    labels=0 if arm in ("base", "tent") else 40,
                    parameters=1728 if arm == "lora" else 0,
                    cost={"answer": 1.5, "total": 1.5},
                )
                for arm in sorted(arms)
                for name in (*fresh.kinds(), "mixture")
                for kind in (fresh.kinds() if name == "mixture" else [name])
                for n in range(4)
            ],
            tmp_path / f"{model}.parquet",
        )
        (tmp_path / "tries").mkdir(exist_ok=True)
        tries = {arm: [{"setting": "0.1", "accuracy": 50, "loss": 1}] for arm in ("ngd", "in context")}
        (tmp_path / "tries" / f"{model}.json").write_text(json.dumps(tries))
    (tmp_path / "letters").mkdir()
    by_letters = [
        answered(arm="base", dataset=kind, id=f"{n}", correct=n < 2) for kind in fresh.kinds() for n in range(4)
    ]
    write_parquet(by_letters, tmp_path / "letters" / f"{page.MERGED}.parquet")
    compare([tmp_path / f"{model}.parquet" for model in MODELS], tmp_path / "protocol.yaml", tmp_path)
    return tmp_path


def test_the_table_its_picture_and_its_sentence_are_made_of_answers(results):
    done = CliRunner().invoke(page.app, [str(results)])
    assert done.exit_code == 0, done.output
    said, *_ = (text := (results / "table.md").read_text()).split("\n")
    assert said == (
        "On the merged model's six data sets `nearest` is 50.0 points above in context and 25.0 points above prompt "
        "tuning; both are shown."
    )
    assert next(line for line in text.split("\n") if line.startswith("## ")) == "## smollm2-moe-merged"
    merged = text.split("## ")[1]
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")
        for line in merged.split("\n")
        if line.startswith("| ")
    }
    assert rows["(chance)"][2:9] == ["50.0"] * 7
    chosen, *right = rows["nearest"][1:9]
    assert (chosen, right) == ("–", ["100.0"] * 7)
    assert rows["nearest"][9].startswith("+75.0 [") and rows["nearest"][10].startswith("+75.0 [")
    assert rows["in context"][1] == "0.1" and rows["in context"][11:] == ["40 labels", "80", "1.50 |"]
    assert rows["lora"][11] == "40 labels, 1,728 weights" and rows["nearest, oracle"][11] == "its own answer"
    assert rows["tent"][11] == "nothing" and rows["base"][9] == "–"
    assert "are **at chance**: not shown" in merged and "50.0 % of 24 validation questions" in merged
    assert len(text.split("## Primary comparisons")[1].strip().split("\n")) == 4
    drawn = (results / "table.svg").read_text()
    assert all(word in drawn for word in ("in context", "nearest, oracle", "chance", "restaurant", "mean"))


def test_a_row_without_answers_to_a_data_set_is_refused():
    records = [answered(arm=arm, dataset=kind, id="q") for arm in ("base", "ngd") for kind in fresh.kinds()]
    with pytest.raises(DataError, match="Expected answers of every row to each of the six data sets"):
        page.table(records[:-1], {}, {}, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of results, its table and picture made again."""
    folder = shutil.copytree(STUDY / "results", tmp_path_factory.mktemp("made") / "results")
    (folder / "table.md").unlink()
    assert CliRunner().invoke(page.app, [str(folder)]).exit_code == 0
    return folder


def test_the_kept_table_is_made_of_the_kept_answers(made):
    assert (made / "table.md").read_text() == (STUDY / "results" / "table.md").read_text()


def test_what_the_page_says_of_published_methods_and_of_bounds(made):
    said = " ".join((STUDY / "README.md").read_text().split())
    own = {(r.arm, r.dataset, r.id): r for r in read_parquet(made / "smollm2-moe-merged.parquet")}
    alone = [(key, r) for key, r in own.items() if r.dataset in fresh.kinds()]
    published = ("ngd, published", "kernel regression, published", "mode finding, published")
    for words, arms, changed in (
        ("as published change one answer of the 240", published, 1),
        ("`ngd` as published, told the answer, changes none", ("ngd, published, oracle",), 0),
    ):
        choices = [(r.choice, own["base", place, id_].choice) for (arm, place, id_), r in alone if arm in arms]
        assert words in said and len(choices) == 240 * len(arms) and sum(a != b for a, b in choices) == changed
    broken = {(r.arm, r.dataset, r.id): r.choice for r in read_parquet(made / "smollm2-moe-misrouted.parquet")}
    moved = Counter(
        arm
        for (arm, place, id_), choice in broken.items()
        if arm in published and place in fresh.kinds() and choice != broken["base", place, id_]
    )
    results, answer = STUDY.parents[1] / "docs/explanation/results.md", STUDY.with_name("answer") / "README.md"
    assert f"of the same fault, it changes {moved['ngd, published']} of 240" in results.read_text(encoding="utf-8")
    assert f"of the same fault they change up to {max(moved.values())} of 240" in answer.read_text(encoding="utf-8")
    right = [100 * mean(r.correct for (arm, *_), r in alone if arm == f"{of}, oracle") for of in ("nearest", "ngd")]
    assert "the same step at the same rate has {:.0f} %, and `ngd`'s steps {:.0f}".format(*right) in said
    sister = [r for r in read_parquet(made / "together.parquet") if r.dataset in fresh.kinds()]
    right = [100 * mean(r.correct for r in sister if r.arm == arm) for arm in ("step, oracle", "base")]
    assert "told the answer has {:.1f} % where she has {:.1f}".format(*right) in said


FOUND, SEED = (
    ComparedSummary.model_validate_json((STUDY / "results" / place / "summary.json").read_bytes())
    for place in ("", "seed")
)
UNMOVED = ("ngd, published", "kernel regression")
"""Rows that are what the model is as it is, so that what is said of base holds of them."""
CLAIM = re.compile(r"\| ([+−][\d.]+) \[([−\d.]+), ([−\d.]+)\] \| (.+) \|")


@pytest.mark.parametrize(("found", "part", "claims"), [(FOUND, 0, 14), (SEED, 1, 12)], ids=["first", "second seed"])
def test_each_claim_of_the_page_is_the_verdict(found, part, claims):
    told = CLAIM.findall((STUDY / "README.md").read_text().split("## Experts of another seed")[part])
    assert len(told) == claims
    for *figures, claim in told:
        value, low, high = (float(x.replace("−", "-")) for x in figures)
        (one,) = (
            c
            for c in found.comparisons
            if (c.primary or c.family) and (round(c.ci_low, 1), round(c.ci_high, 1)) == (low, high)
            if c.difference == pytest.approx(value, abs=0.06)
            if c.b not in UNMOVED
        )
        assert one.primary == claim.startswith("primary")
        if "goal" in claim and "met" in claim:
            assert one.verdict == "better by 3 or more"
        elif claim == "not after correction":
            assert one.ci_low > 0 and one.verdict == "not shown"
        elif claim == "shown" or claim.startswith("primary, shown"):
            assert one.verdict == "better" and one.difference >= 3
        else:
            assert one.ci_low < 0 < one.ci_high and one.verdict == "not shown"


def test_what_the_page_says_of_questions_as_the_unit():
    by = {(c.on, c.a, c.b): c.verdict for c in FOUND.second if c.primary or c.family}
    merged, broken = "own: smollm2-moe-merged", "own: smollm2-moe-misrouted"
    rivals = {b: verdict for (on, a, b), verdict in by.items() if (on, a) == (merged, "nearest")}
    open_ = {b for b, verdict in rivals.items() if verdict == "not shown"}
    assert open_ == {"router tuning", "step", "ngd", "lora", "nearest, random alike"}
    assert all("better" in verdict for b, verdict in rivals.items() if b not in open_)
    assert all("better" in by[on, "five chosen", "five random"] for on in (merged, broken))
    assert all("better" in by[broken, "nearest", rival] for rival in ("router tuning", "lora"))
    assert by["own: smollm2-moe", "five chosen", "base"] == "not shown"


def test_what_the_page_says_of_the_second_seed():
    by = {(c.a, c.b): c.verdict for c in SEED.second if c.primary or c.family}
    above = ("in context", "prompt tuning", "base", "prefix tuning", "router tuning", "repaired")
    assert all("better" in by["nearest", b] for b in above)
    assert by["nearest", "lora"] == by["five chosen", "five random"] == "not shown"
    corrected = [[c for c in found.comparisons if c.family == "secondary"] for found in (SEED, FOUND)]
    assert "among nine comparisons, those of the first seed among nineteen" in (STUDY / "README.md").read_text()
    assert [len(of) for of in corrected] == [9, 19]
    assert all(round(c.p, 3) == 0.004 for of in corrected for c in of if (c.a, c.b) == ("nearest", "base"))


def test_the_second_seed_was_asked_what_had_been_written():
    block = (STUDY / "protocol.md").read_text().split("```yaml\n")[1].split("```")[0]
    written, asked = (yaml.safe_load(text) for text in (block, (STUDY / "seed_protocol.yaml").read_text()))
    assert asked["comparisons"] == written["comparisons"]
    sets = {"datasets": [*fresh.kinds()]}
    assert asked["groups"] == {name: group | sets for name, group in written["groups"].items()}
