"""Records as the harness's sample logs: what its own code reads of them, and that they say what the records say."""

import json
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from records.made import rows_in

pytest.importorskip("lm_eval", reason="the extra eval is not installed")

from c3po_harness import C3POLM
from c3po_harness.export import export_samples
from hostile.doors import untouched
from lm_eval import utils
from lm_eval.evaluator import evaluate
from local_tasks import asked, manager, requests, write_tasks
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.storage.identity import digest
from c3po_adaptive.storage.run_folder import claim
from c3po_adaptive.tasks import demo_questions
from c3po_adaptive.testing import write_tiny_checkpoint

LIMIT = 6


def call(*args):
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of two arms on the demo's questions, and what is exported of it."""
    folder = tmp_path_factory.mktemp("export")
    write_tiny_checkpoint(folder / "model", "olmoe", num_hidden_layers=5, num_experts=24)
    (folder / "facts.jsonl").write_text(
        "".join(
            json.dumps({"question": f"is {i} odd?", "choices": ["yes", "no"], "answer": j}) + "\n"
            for i in range(12)
            for j in [1 - i % 2]
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        arms = ("--arm", "base", "--arm", "kernel-regression", "--references", "facts.jsonl")
        call("demo", "--model", "model", "--limit", LIMIT, *arms, "--out", "run")
        yield folder


@pytest.fixture(scope="module")
def exported(place):
    printed = call("export", place / "run", "--out", place / "logs").split()
    assert printed == [str(place / "logs" / f"model__{arm}") for arm in ("base", "kernel-regression")]
    return {arm: place / "logs" / f"model__{arm}" for arm in ("base", "kernel-regression")}


def samples_of(folder):
    """By the names that the harness looks for."""
    (file,) = utils.get_sample_results_filenames([str(path) for path in folder.iterdir()])
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def test_names_are_those_that_the_harness_reads(exported):
    for folder in exported.values():
        files = [str(path) for path in folder.iterdir()]
        (results,), (samples,) = utils.get_results_filenames(files), utils.get_sample_results_filenames(files)
        assert utils.get_file_task_name(samples.rpartition("/")[2]) == "demo"
        assert utils.get_file_datetime(results).removesuffix(".json") == utils.get_file_datetime(samples)
        assert utils.get_latest_filename([samples]) == samples


def test_tables_are_drawn_from_the_results(exported, place):
    summary = json.loads((place / "run" / "summary.json").read_text())
    for row in summary["rows"]:
        folder = exported[row["arm"]]
        results = json.loads(next(folder.glob("results_*.json")).read_text())
        assert results["results"]["demo"]["acc,none"] * 100 == pytest.approx(row["accuracy"])
        assert results["model_name_sanitized"] == folder.name == utils.sanitize_model_name(results["model_name"])
        table = utils.make_table(results)
        assert re.search(rf"\|demo .*\|acc .*\| *{round(row['accuracy'] / 100, 4):g}", table)
        assert results["config"]["c3po"]["arm"] == row["arm"]
        assert results["configs"]["demo"]["num_fewshot"] == results["n-shot"]["demo"] == 0


def test_samples_say_what_the_records_say(exported, place):
    texts = {q.id: q for q in demo_questions("test")}
    for arm, folder in exported.items():
        records = {r["id"]: r for r in rows_in(place / "run") if r["arm"] == arm}
        samples = samples_of(folder)
        assert [s["doc_id"] for s in samples] == [*range(LIMIT)]
        for sample in samples:
            record, question = records[sample["doc"]["id"]], texts[sample["doc"]["id"]]
            assert sample["doc"]["question"] == question.question
            assert sample["acc"] == record["correct"]
            assert sample["target"] == str(question.answer)
            assert [float(r[0]) for r in sample["filtered_resps"]] == record["scores"]
            given = [sample["arguments"][f"gen_args_{i}"] for i in range(len(question.choices))]
            assert [g["arg_1"] for g in given] == [f" {choice}" for choice in question.choices]
            assert {g["arg_0"] for g in given} == {f"Question: {question.question}\nAnswer:"}
            assert sample["prompt_hash"] == utils.hash_string(given[0]["arg_0"])
            assert sample["target_hash"] == utils.hash_string(sample["target"])
            assert sample["doc_hash"] == utils.hash_string(json.dumps(sample["doc"], indent=2, ensure_ascii=False))
    base, other = ({s["doc_id"]: s["doc_hash"] for s in samples_of(folder)} for folder in exported.values())
    assert base == other, "arms are paired by document"


def test_of_several_draws_the_first_is_told(place, tmp_path):
    """Else a question would stand in the log as often as it was drawn, and its standard error would shrink."""
    rows = [{**record, "seed": record["seed"] + draw} for record in rows_in(place / "run") for draw in range(3)]
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for folder in export_samples(tmp_path / "run", tmp_path / "out"):
        assert [s["doc_id"] for s in samples_of(folder)] == [*range(LIMIT)]


def with_arms(place, tmp_path, names):
    """The run with one arm under these names, each of other scores, and its records."""
    shutil.copytree(place / "run", tmp_path / "run")
    claimed = json.loads((tmp_path / "run" / "config.json").read_text())
    arms = claimed["config"]["arms"]
    claimed["config"] |= {"arms": arms | dict.fromkeys(names, arms.pop("kernel-regression"))}
    claimed["hash"] = digest(claimed["config"])
    (tmp_path / "run" / "config.json").write_text(json.dumps(claimed))
    own = [r for r in rows_in(place / "run") if r["arm"] == "kernel-regression"]
    rows = [r | {"arm": name, "scores": [float(k)] * len(r["scores"])} for k, name in enumerate(names) for r in own]
    (tmp_path / "run" / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return own


def test_names_that_differ_in_capitals_alone_stay_apart_on_any_disk(place, tmp_path):
    names = ["A", "a", "b", "\u00e9", "e\u0301"]
    with_arms(place, tmp_path, names)
    found = [folder.name.rpartition("__")[2] for folder in export_samples(tmp_path / "run", tmp_path / "out")]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(names)
    assert found[2] == "b", "as it was"


def test_the_folders_of_all_arms_are_looked_at_before_one_is_written(place, tmp_path):
    with_arms(place, tmp_path, ["one", "two"])
    first, last = export_samples(tmp_path / "run", tmp_path / "out")
    shutil.rmtree(first)
    next(last.glob("results_*.json")).write_text("mine")
    with untouched(tmp_path), pytest.raises(DataError, match=r"of others, got .*two; nothing was touched"):
        export_samples(tmp_path / "run", tmp_path / "out")
    assert not first.exists()


def test_a_project_is_no_folder_to_export_to(place, tmp_path):
    (tmp_path / ".git").mkdir()
    with pytest.raises(DataError, match="which is a project"):
        export_samples(place / "run", tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="Expected a folder to write to"):
        export_samples(place / "run", tmp_path / "file")


def test_names_that_the_harness_writes_alike_stay_apart(place, tmp_path):
    names = ["a/b", "a:b", "a__b", "a\n\0b"]
    own = with_arms(place, tmp_path, names)
    folders = export_samples(tmp_path / "run", tmp_path / "out")
    assert len({*folders}) == len(names)
    for k, (name, folder) in enumerate(zip(names, folders, strict=True)):
        results = json.loads(next(folder.glob("results_*.json")).read_text())
        assert results["config"]["c3po"]["arm"] == name
        assert results["model_name_sanitized"] == folder.name == utils.sanitize_model_name(results["model_name"])
        assert {float(score) for s in samples_of(folder) for score, _ in s["filtered_resps"]} == {float(k)}
    alone = [{**row, "arm": "a:b"} for row in own]
    (tmp_path / "run" / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in alone))
    assert export_samples(tmp_path / "run", tmp_path / "out") == [folders[1]], "whatever other arms there are"


def test_a_sample_has_all_that_theirs_has(exported, place, tmp_path):
    """Theirs: of an evaluation of the same kind, written by their own tracker."""
    from lm_eval.loggers import EvaluationTracker

    tasks = write_tasks(tmp_path, ["options"])
    found = evaluate(C3POLM(str(place / "model"), batch_size=4), manager(tasks).load(["options"]), bootstrap_iters=0)
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    tracker.general_config_tracker.log_experiment_args("c3po", {"pretrained": "model"}, None, None, False)
    samples = found.pop("samples")
    tracker.save_results_aggregated(found, samples)
    tracker.save_results_samples("options", samples["options"])
    (folder,) = (tmp_path / "out").iterdir()
    theirs, ours = samples_of(folder)[0], samples_of(exported["base"])[0]
    metrics = {"acc_norm"}  # our records hold one accuracy
    assert theirs.keys() - metrics <= ours.keys()
    for key in theirs.keys() - metrics:
        assert type(ours[key]) is type(theirs[key]), key
    assert [len(r) for r in ours["filtered_resps"]] == [2] * len(ours["filtered_resps"])
    written = json.loads(next(folder.glob("results_*.json")).read_text())
    read = json.loads(next(exported["base"].glob("results_*.json")).read_text())
    computed = {"start_time", "end_time", "system_instruction", "system_instruction_sha", "chat_template"}
    computed |= {"chat_template_sha", "fewshot_as_multiturn"}
    assert written.keys() - computed <= read.keys()


def test_the_datasets_library_reads_them(exported, tmp_path):
    from datasets import load_dataset

    files = [str(path) for path in exported["base"].glob("samples_*.jsonl")]
    read = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path))
    assert read["acc"] == [sample["acc"] for sample in samples_of(exported["base"])]


def test_questions_may_be_elsewhere(place, tmp_path):
    config = place / "moved"
    shutil.copytree(place / "run", config)
    told = json.loads((config / "config.json").read_text())
    told["config"]["datasets"][0]["questions"] = "gone.jsonl"
    (config / "config.json").write_text(json.dumps(told))
    refused = CliRunner().invoke(app, ["export", str(config), "--out", str(tmp_path)])
    assert (refused.exit_code, refused.stderr.partition(",")[0]) == (1, "error: Expected a question file at gone.jsonl")
    call("export", config, "--out", tmp_path, "--questions", "demo:test")
    wrong = CliRunner().invoke(app, ["export", str(config), "--out", str(tmp_path), "--questions", "facts.jsonl"])
    assert "Expected the text of every question, found none of 6" in wrong.stderr


def test_what_cannot_be_exported(place, tmp_path):
    other = CliRunner().invoke(app, ["export", str(place / "run"), "--out", str(tmp_path), "--format", "csv"])
    assert "Expected --format among lm-eval, got 'csv'" in other.stderr
    claim(tmp_path, {"kind": "faithfulness"})
    speed = CliRunner().invoke(app, ["export", str(tmp_path), "--out", str(tmp_path)])
    assert "Expected the run of a comparison, whose records are answers, got one of faithfulness" in speed.stderr


def test_what_was_written_has_no_log(place, tmp_path):
    """Theirs is of options by their likelihood."""
    shutil.copytree(place / "run", tmp_path / "run")
    rows = [record | {"chosen_by": "text"} for record in rows_in(place / "run")]
    (tmp_path / "run" / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(SettingError, match=r"by likelihood, .* got 'demo' with score: generated"):
        export_samples(tmp_path / "run", tmp_path / "out")


def test_exported_scores_without_an_optimizer_are_theirs(exported, place, tmp_path):
    """Of the base, up to the length that ours divide by: the harness scores the same words."""
    questions = demo_questions("test")
    texts = {q.id: q for q in questions}
    samples = samples_of(exported["base"])
    tasks = write_tasks(tmp_path, ["options"])
    docs = [
        {"question": texts[s["doc"]["id"]].question, "choices": list(texts[s["doc"]["id"]].choices), "answer": 0}
        for s in samples
    ]
    (tasks / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    lm = C3POLM(str(place / "model"), batch_size=4)
    instances = requests(tasks, "options")
    found = iter(asked(lm, instances))
    for sample in samples:
        lengths = [len(lm.tok_encode(a["arg_1"], add_special_tokens=False)) for a in sample["arguments"].values()]
        totals = [float(score) * n for (score, _), n in zip(sample["filtered_resps"], lengths, strict=True)]
        assert totals == pytest.approx([next(found)[0] for _ in totals], abs=1e-2)
