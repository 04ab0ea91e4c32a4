"""A trace's picture shows the leading experts as they are, and how much another routing moves."""

from dataclasses import replace

import pytest
import torch
from c3po_traces.picture import PICTURED
from pictures.test_figures import squares, words
from routing.naive import shared_model
from routing.recorded import TEXT

from c3po_adaptive.errors import SettingError
from c3po_adaptive.models.traced import record
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.routing.trace import NONE


def reversed_weights(routing):
    """The router's experts, with their weights the other way round."""
    return Change(None, routing.index, routing.weights.flip(-1))


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

    def test_pieces_go_with_the_tokens_and_numbers_stand_in_for_those_that_are_not_known(self, trace):
        turned = replace(trace, tokens=trace.tokens.flip(0), pieces=dict(list(trace.pieces.items())[1:]))
        shown = [text.get_text() for text in turned.plot().axes[0].get_yticklabels()]
        first = int(trace.tokens[0])
        assert (
            shown == [str(t) if t == first else trace.pieces[t].replace(" ", "␣") for t in turned.tokens.tolist()][:-1]
        )
