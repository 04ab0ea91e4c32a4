"""A trace's picture shows the leading experts as they are, and how much another routing moves; traces along a rule."""

import json
from dataclasses import replace

import pytest
import torch
from pictures.test_figures import squares, words
from routing.naive import shared_model
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError, ShapeError
from c3po_adaptive.models.traced import record, replay
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.routing.trace import NONE
from c3po_adaptive.routing.trace_file import read_trace, write_trace
from c3po_adaptive.routing.trace_picture import PICTURED

TEXT = "the boat floats on water"


def reversed_weights(routing):
    """The router's experts, with their weights the other way round."""
    return Change(None, routing.index, routing.weights.flip(-1))


def every_expert_in_one_layer(routing):
    if routing.position != 1:
        return None
    return routing.change(torch.arange(routing.site.n_experts).expand(len(routing.index), -1))


def rows_of_even_places(routing):
    rows = (routing.real & (routing.token % 2 == 0)).nonzero().squeeze(1)
    return Change(rows, routing.index[rows].flip(-1), routing.weights[rows])


@pytest.fixture(scope="module")
def trace():
    return record(shared_model("olmoe"), TEXT)


class TestRecordedAlongARule:
    @pytest.mark.parametrize("rule", [reversed_weights, every_expert_in_one_layer, rows_of_even_places])
    @pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
    def test_replayed_it_is_what_the_rule_did(self, family, rule):
        model = shared_model(family)
        found = record(model, TEXT, rule=rule)
        prompt = model.encode_text(TEXT)
        parts = replace(prompt, ids=prompt.ids[:1], options=(prompt.ids[1:],), lengths=(1.0,))
        (ruled,) = model.ruled([parts], rule)
        torch.testing.assert_close(replay(model, found), ruled.token_scores, atol=1e-5, rtol=0)
        own = record(model, TEXT)
        assert (replay(model, found) - replay(model, own)).abs().max() > 1e-4, "it moved something"

    def test_a_rule_that_changes_nothing(self, trace):
        same = record(shared_model("olmoe"), TEXT, rule=lambda routing: None)
        assert torch.equal(same.weights, trace.weights)
        assert torch.equal(same.experts, trace.experts)
        assert torch.equal(same.recorded, trace.recorded)
        assert (same.experts[-1] == NONE).all()

    def test_generated(self):
        model = shared_model("olmoe")
        found = record(model, TEXT, generate=3, rule=rows_of_even_places)
        assert found.recorded[:-1].all()
        assert found.prompt == len(model.encode_text(TEXT).ids) < len(found.tokens)


class TestPiecesOfText:
    def test_a_trace_prints_as_a_line(self, trace):
        T, L, k = trace.experts.shape
        shown = f"{T - 1} of {T} tokens recorded, {L} layers, {k} of {trace.n_experts} experts a token"
        assert repr(trace) == f"Trace({trace.name!r}: {shown}, experts and weights)"

    def test_are_the_texts_tokens_and_are_kept(self, trace, tmp_path):
        assert "".join(trace.pieces[token] for token in trace.tokens.tolist()) == TEXT
        assert trace.prompt == len(trace.tokens)
        again = read_trace(write_trace(trace, tmp_path / "a.parquet"))
        assert (again.pieces, again.prompt) == (trace.pieces, trace.prompt)

    def test_older_files_have_none(self, trace, tmp_path):
        import json

        import pyarrow.parquet as pq

        from c3po_adaptive.routing.trace_file import KEY

        table = pq.read_table(write_trace(trace, tmp_path / "a.parquet"))
        card = json.loads(table.schema.metadata[KEY])
        del card["pieces"], card["prompt"]
        pq.write_table(table.replace_schema_metadata({KEY: json.dumps(card)}), tmp_path / "old.parquet")
        old = read_trace(tmp_path / "old.parquet")
        assert (old.pieces, old.prompt) == ({}, 0)
        assert str(int(old.tokens[0])) in words(old.plot()), "numbers stand in for the text"
        bad = table.replace_schema_metadata({KEY: json.dumps(card | {"pieces": ["a"]})})
        pq.write_table(bad, tmp_path / "bad.parquet")
        with pytest.raises(DataError, match="pieces"):
            read_trace(tmp_path / "bad.parquet")

    def test_go_with_the_tokens_however_these_are_replaced(self, trace):
        turned = replace(trace, tokens=trace.tokens.flip(0), pieces=dict(list(trace.pieces.items())[1:]))
        shown = [text.get_text() for text in turned.plot().axes[0].get_yticklabels()]
        first = int(trace.tokens[0])
        assert (
            shown == [str(t) if t == first else trace.pieces[t].replace(" ", "␣") for t in turned.tokens.tolist()][:-1]
        )

    def test_no_prompt_is_below_zero(self, trace):
        with pytest.raises(ShapeError, match="a prompt of 0 tokens or more"):
            replace(trace, prompt=-1)


class TestPicture:
    def numbers(self, axes):
        return {(text.get_position()[1], text.get_position()[0]): int(text.get_text()) for text in axes.texts}

    def test_of_one_trace(self, trace):
        axes, scale = trace.plot().axes
        T, L, _ = trace.experts.shape
        leading = trace.experts.gather(-1, trace.weights.argmax(-1, keepdim=True)).squeeze(-1)
        assert self.numbers(axes) == {(t, row): int(leading[t, row]) for t in range(T - 1) for row in range(L)}
        found = squares(axes)
        share = trace.weights[2, 1].max() / trace.weights[2, 1].sum()
        assert found[2, 1][3] == pytest.approx(share.item(), abs=1e-6)
        assert scale.get_ylabel() == "its share of\nthe token's weight"

    def test_of_two(self, trace):
        other = record(shared_model("olmoe"), TEXT, rule=reversed_weights)
        figure = trace.plot(other, names=("mine", "theirs"))
        assert {"mine", "theirs", "its weight that moved\nto other experts"} <= {*words(figure)}
        _, after = figure.axes[:2]
        dense = [
            torch.zeros(*t.experts.shape[:2], t.n_experts).scatter(2, t.experts.clamp_min(0), t.weights)
            for t in (trace, other)
        ]
        one, two = (d / d.sum(-1, keepdim=True) for d in dense)
        moved, found = (one - two).abs().sum(-1) / 2, squares(after)
        for t in range(len(trace.tokens) - 1):
            for row in range(len(trace.layers)):
                assert found.get((t, row), (0, 0, 0, 0))[3] == pytest.approx(moved[t, row].item(), abs=1e-6)
        assert max(color[3] for color in found.values()) > 0.01

    def test_of_two_that_are_the_same(self, trace):
        assert squares(trace.plot(trace).axes[1]) == {}

    def test_of_ids_alone(self, trace):
        alone = replace(trace, weights=None)
        (axes,) = alone.plot().axes
        assert self.numbers(axes)[0, 0] == int(trace.experts[0, 0, 0])
        figure = alone.plot(
            replace(alone, experts=torch.where(alone.experts >= 0, (alone.experts + 1) % trace.n_experts, NONE))
        )
        assert "its choices that moved\nto other experts" in words(figure)

    def test_of_a_long_one_a_part(self, trace):
        long = record(shared_model("olmoe"), "water " * 40)
        figure = long.plot(first=20)
        assert len(figure.axes[0].get_yticks()) == PICTURED
        said = [" ".join(text.split()) for text in words(figure)]
        assert any(f"tokens 20 to {19 + PICTURED} of {len(long.tokens) - 1}" in text for text in said)
        other = record(shared_model("olmoe"), "water " * 40, rule=reversed_weights)
        whole, part = (squares(long.plot(other, first=first).axes[1]) for first in (0, 20))
        assert whole[30, 1] == pytest.approx(part[10, 1]), "the part's places are the whole's"
        for first in (-1, len(long.tokens)):
            with pytest.raises(SettingError, match="a token that was recorded"):
                long.plot(first=first)

    def test_of_others_tokens_is_refused(self, trace):
        with pytest.raises(SettingError, match="same tokens"):
            trace.plot(record(shared_model("olmoe"), TEXT + "!"))


class TestCommand:
    def run(self, *words, code=0):
        done = CliRunner().invoke(app, ["trace", "show", *map(str, words)])
        assert done.exit_code == code, done.output
        return done

    def test_draws(self, trace, tmp_path):
        one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
        write_trace(trace, one)
        write_trace(record(shared_model("olmoe"), TEXT, rule=reversed_weights), other)
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
