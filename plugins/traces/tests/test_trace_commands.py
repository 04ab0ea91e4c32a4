"""``c3po trace``: records, shows, draws, replays and compares as the functions behind it do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from c3po_traces.picture import PICTURED
from hostile.doors import command
from hostile.test_parquet import NAMES, odd  # noqa: F401 (a fixture)
from hostile.test_printing import NASTY, RAW, said
from routing.naive import shared_model
from routing.recorded import TEXT, recorded_at, turned
from typer.testing import CliRunner

from c3po_adaptive import load_moe_model, rule_named
from c3po_adaptive.cli import app
from c3po_adaptive.models.traced import likelihoods, read_trace, record, replay, write_trace
from c3po_adaptive.testing import write_tiny_checkpoint


def test_the_command_line_records_shows_replays_and_compares(tmp_path):
    model = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    call = CliRunner().invoke
    for name in ("a", "b"):
        command = ["trace", "record", TEXT, "--out", str(tmp_path / f"{name}.parquet"), "--model", str(model)]
        assert call(app, [*command, "--generate", "2"]).exit_code == 0
    shown = json.loads(call(app, ["trace", "show", str(tmp_path / "a.parquet"), "--json"]).stdout)
    assert shown["weights"] and shown["experts"] == 8
    again = call(app, ["trace", "replay", str(tmp_path / "a.parquet"), "--model", str(model), "--json"])
    assert json.loads(again.stdout)["largest_difference"] < 1e-4
    found = call(app, ["trace", "diff", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), "--json"])
    assert json.loads(found.stdout)["parted"] == 0
    missing = call(app, ["trace", "show", str(tmp_path / "none.parquet")])
    assert (missing.exit_code, missing.stdout) == (1, "")


@pytest.mark.parametrize(("name", "said"), [("texts.txt", "the name of a file"), ("t.txt", "there is no such file")])
@pytest.mark.parametrize("command", [["trace", "record", "--out", "a.parquet"], ["answer"]])
def test_a_files_name_is_no_text(tmp_path, monkeypatch, command, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("the boat floats")
    done = CliRunner().invoke(app, [*command, name, "--model", "none"])
    assert done.exit_code == 1 and "Expected a text, got" in done.stderr and said in done.stderr


def test_what_parting_costs_is_the_difference_of_replays(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    model = load_moe_model(folder)
    one = record(model, TEXT)
    other = turned(one)
    files = [str(write_trace(t, tmp_path / f"{i}.parquet")) for i, t in enumerate((one, other))]
    found = json.loads(CliRunner().invoke(app, ["trace", "diff", *files, "--model", str(folder), "--json"]).stdout)
    change = replay(model, other) - replay(model, one)
    assert found["parted"] == 1 and abs(change[5]) > 1e-4 and not change[:5].any()
    (token,) = found["next_token"]
    assert (token["position"], token["layers"]) == (5, [1])
    likelihood = found["log_likelihood"]
    assert token["difference"] == pytest.approx(float(change[5]), abs=1e-5) == likelihood["where_parted"]
    assert likelihood["one"] == pytest.approx(float(likelihoods(model, one).mean()), abs=1e-4)
    assert likelihood["difference"] == pytest.approx(float(change.mean()), abs=1e-5)
    shown = CliRunner().invoke(app, ["trace", "diff", *files, "--model", str(folder)]).stdout
    assert shown.startswith(
        f"one: {files[0]}, other: {files[1]}\n"
        f"places: {one.recorded.sum()}\nparted: 1\nnot_recorded: 3\nfirst: position 5, layer 1\n  layer 1: 1 of "
    )
    assert shown.count("layer 1") == 3, "once each: the first place, its line, and what it costs"
    assert f"  {float(change[5]):+.4f} after position 5, parted in layer 1\n" in shown
    same = CliRunner().invoke(app, ["trace", "diff", files[0], files[0], "--model", str(folder), "--json"])
    assert json.loads(same.stdout)["log_likelihood"]["where_parted"] is None
    assert json.loads(same.stdout)["next_token"] == []


def test_places_that_only_one_trace_has_are_no_agreement(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    model = load_moe_model(folder)
    whole = turned(record(model, TEXT), token=2)  # where the other has nothing
    late = recorded_at(record(model, TEXT), slice(9, 12))
    one, other = turned(whole), turned(late, token=10)
    files = [str(write_trace(t, tmp_path / f"{i}.parquet")) for i, t in enumerate((one, other))]
    found = json.loads(CliRunner().invoke(app, ["trace", "diff", *files, "--model", str(folder), "--json"]).stdout)
    assert (found["places"], found["parted"]) == (9, 1)
    assert found["not_recorded"] == one.recorded.numel() - 9
    change = replay(model, other) - likelihoods(model, other)
    assert found["log_likelihood"]["difference"] == pytest.approx(float(change[9:].mean()), abs=1e-5)
    alone = json.loads(CliRunner().invoke(app, ["trace", "replay", files[1], "--model", str(folder), "--json"]).stdout)
    assert (alone["tokens"], alone["places"], alone["not_recorded"]) == (len(change) - 9, 9, 3 * len(change) - 9)
    assert alone["replayed"] - alone["own"] == pytest.approx(float(change[9:].mean()), abs=1e-5)


def test_bfloat16_against_float32(tmp_path):
    folder = str(write_tiny_checkpoint(tmp_path / "model", "qwen3_moe"))
    files = [str(tmp_path / f"{dtype}.parquet") for dtype in ("float32", "bfloat16")]
    for file in files:
        command = ["trace", "record", TEXT, "--out", file, "--model", folder, "--dtype", Path(file).stem]
        assert CliRunner().invoke(app, command).exit_code == 0
    plain = json.loads(CliRunner().invoke(app, ["trace", "diff", *files, "--json"]).stdout)
    found = json.loads(CliRunner().invoke(app, ["trace", "diff", *files, "--model", folder, "--json"]).stdout)
    assert "log_likelihood" not in plain and plain["parted"] == found["parted"]
    likelihood = found["log_likelihood"]
    assert likelihood["other"] != likelihood["one"], "weights of bfloat16 are rounded"
    assert abs(likelihood["difference"]) < 0.2


class TestCommand:
    def run(self, *words, code=0):
        done = CliRunner().invoke(app, ["trace", "show", *map(str, words)])
        assert done.exit_code == code, done.output
        return done

    def test_draws(self, trace, tmp_path):
        one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
        write_trace(trace, one)
        write_trace(record(shared_model("olmoe"), TEXT, rule=rule_named("ban:3")), other)
        done = self.run(one, "--picture", tmp_path / "a.svg")
        assert "tokens:" in done.stdout
        assert f"Picture: {tmp_path / 'a.svg'}" in done.stdout
        done = self.run(one, other, "--picture", tmp_path / "b.svg", "--json")
        held = json.loads(done.stdout)  # JSON alone on standard output
        assert held.pop("other").keys() == held.keys()
        told = self.run(one, other, "--picture", tmp_path / "b.svg").stdout
        assert told.count("experts_used: ") == 2, "what both hold"
        assert told.index(f"trace: {one}\n") < told.index(f"trace: {other}\n")
        assert " of all places (a token in a layer)\n" in told
        drawn = (tmp_path / "b.svg").read_text()
        assert ">one<" in drawn
        assert ">other<" in drawn

    def test_help_says_how_many_tokens_are_shown(self):
        assert f"shows {PICTURED} tokens" in " ".join(self.run("--help").stdout.replace("│", " ").split())

    def test_says_what_is_missing(self, trace, tmp_path):
        one = write_trace(trace, tmp_path / "one.parquet")
        assert "--picture FILE beside a second trace" in self.run(one, one, code=1).output
        assert "end in .png or .svg" in self.run(one, "--picture", tmp_path / "a.gif", code=1).output


def test_one_is_recorded_along_a_rule(tmp_path):
    folder, out = write_tiny_checkpoint(tmp_path / "model", "olmoe"), tmp_path / "trace.parquet"
    rule = "ban:3;top-k:1@1"
    said("trace", "record", TEXT, "--model", folder, "--rule", rule, "--out", out)
    found, wanted = read_trace(out), record(load_moe_model(folder), TEXT, rule=rule_named(rule))
    assert (found.experts == wanted.experts).all() and (found.weights == wanted.weights).all()
    shown = json.loads(said("trace", "show", out, "--json"))
    assert shown["experts_used"] == len(found.experts[found.weights > 0].unique()), "fillings are not used"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_names_in_a_card_cannot_command_the_terminal(trace, tmp_path, as_json):
    text = NASTY.replace("\ud800", "")  # which no card can hold
    named = replace(trace, name=f"{text}\nweights: yes", revision=text)
    path = write_trace(named, tmp_path / "a.parquet")
    shown = said("trace", "show", path, *as_json)
    assert not RAW.search(shown) and "\\u001b[2J" in shown
    assert "\nweights: yes" not in shown
    if as_json:
        assert json.loads(shown)["revision"] == text
    refused = said("trace", "replay", path, "--model", tmp_path / text.replace("\0", ""))
    assert "error: " in refused and not RAW.search(refused)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_given_as_one(odd, name):  # noqa: F811
    assert command("trace", "show", name) in (1, 2)
