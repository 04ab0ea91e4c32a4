"""What re-mixing did to one text, for a person to read: in the terminal, or as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..storage.text_checksum import EXPLANATION, write_page
from ..types import Pathway, Question
from .drawing import COLORS
from .page import draw
from .plots import pathway_maps, pathway_panels, scored_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..models.routed import RoutedModel
    from ..references.reference_set import ReferenceSet
    from ..remixing.remixer import Remixed

SHOWN = 5  # next tokens, where there are no choices
MOVED = 3  # experts per layer, in the terminal
NEAREST = 8  # neighbours, in the terminal
MOST = 16  # neighbours, on the page
LINE = 80  # characters of a text that has one line
BAR = 30  # characters of the longest bar
TINY = 1e-30  # the least probability that a logarithm is taken of


@dataclass(frozen=True, eq=False)
class Explanation:
    """One text's re-mixing; ``print`` it, ``plot`` its pathway, or ``save`` all of it as a page.

    Attributes:
        text: what was re-mixed.
        how: by what, on which model.
        model: its name.
        pathway: ω ``[L, E]`` with ω0 beside it.
        layers: decoder layers that were selected.
        experts: in each, those that were; the model's own may change, too.
        strength: what spoke for re-mixing it at all, if the selector weighed that, and what it had to be above.
        layer_scores: what a selector that scores layers gave each of them, by decoder layer.
        neighbours: the references it learned from, with cosine similarity and kernel weight; of many, those with most.
        options: the choices, or the likeliest next tokens where there are none.
        tokens: whether they are these.
        before: probabilities of the options along ω0.
        after: those along ω.
        undone: those with one selected layer put back to ω0, by decoder layer.
        cost: of each phase, in base forwards; what is stored with the references costs nothing here.
        answer: the right option, counted from 0, where it is known.
    """

    text: str
    how: str
    model: str
    pathway: Pathway
    layers: tuple[int, ...]
    experts: dict[int, tuple[int, ...]]
    strength: tuple[float, float] | None
    layer_scores: dict[int, float]
    neighbours: tuple[tuple[Question, float, float], ...]
    options: tuple[str, ...]
    tokens: bool
    before: tuple[float, ...]
    after: tuple[float, ...]
    undone: dict[int, tuple[float, ...]]
    cost: dict[str, float]
    answer: int | None = None

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def html(self, command: str | None = None) -> str:
        """The explanation as a page, self-contained; ``command`` is the command line that made it, if one did."""
        rows = [self.pathway.layers.index(layer) for layer in self.layers]
        own, new = self._used.own[rows].numpy(), self._used.router[rows].numpy()
        scores = {"": {layer: [score] for layer, score in self.layer_scores.items()}}
        return draw(
            __package__,
            "explanation.html.j2",
            made={"model": self.model, "command": command},
            found=self,
            most=MOST,
            scores=scored_layers(scores, lambda _, layer: COLORS["method" if layer in self.layers else "base"]),
            maps=pathway_maps(own, new, self.layers) if rows else "",
        )

    def save(self, path: str | Path, command: str | None = None) -> Path:
        """Write the page, whole or not at all; an old one of that name is replaced, if nobody altered it.

        Raises:
            DataError: the disk refuses it, or something else lies there, a page of another kind for example.
        """
        write_page(path, self.html(command), EXPLANATION)
        return Path(path)

    def plot(self) -> Figure:
        """A figure of layers × experts: routing weights before and after re-mixing, and their change; selected layers
        have a star."""
        from ..pictures import layers_by_experts

        asked = self.text if len(self.text) <= LINE else f"{self.text[: LINE - 1]}…"
        panels = pathway_panels(self._used.own.numpy(), self._used.router.numpy())
        return layers_by_experts(panels, self.pathway.layers, title=" ".join(asked.split()), marked=self.layers)

    def values(self) -> dict[str, object]:
        """The explanation in plain values, for programs: of ω the experts whose weight changed; strength as (what spoke
        for re-mixing, what it had to be above), None for a threshold that nothing is above."""
        count = len(self.pathway.own[0])
        return {
            "text": self.text,
            "by": self.how,
            "layers": [
                {
                    "layer": layer,
                    "experts": list(self.experts[layer]),
                    "changed": [{"expert": e, "own": own, "new": new} for e, own, new in self.moved(layer, count)],
                    "without": list(self.undone[layer]),
                }
                for layer in self.layers
            ],
            "strength": self.strength and [x if math.isfinite(x) else None for x in self.strength],
            "layer_scores": {str(layer): score for layer, score in self.layer_scores.items()},
            "neighbours": [
                {"question": question.row(), "similarity": similarity, "weight": weight}
                for question, similarity, weight in self.neighbours
            ],
            "options": [
                {"option": option, "before": before, "after": after}
                for option, before, after in zip(self.options, self.before, self.after, strict=True)
            ],
            "tokens": self.tokens,
            "lead": self.lead,
            "cost": self.cost,
        }

    @cached_property
    def _used(self) -> Pathway:
        return self.pathway.used

    def change(self, layer: int) -> Tensor:
        """``[E]`` the change of the weights that a decoder layer mixes."""
        row = self.pathway.layers.index(layer)
        return self._used.router[row] - self._used.own[row]

    def moved(self, layer: int, most: int) -> list[tuple[int, float, float]]:
        """Experts whose weight changed most: number, weight before, weight after."""
        row, change = self.pathway.layers.index(layer), self.change(layer)
        order = change.abs().argsort(descending=True)[:most].tolist()
        own, new = self._used.own[row].tolist(), self._used.router[row].tolist()
        return [(e, own[e], new[e]) for e in order if own[e] != new[e]]

    def seen(self, layer: int, most: int) -> list[tuple[int, str, str]]:
        """Experts that ``moved``, as far as three decimals of their weights show it: number, before, after."""
        every = [(e, f"{own:.3f}", f"{new:.3f}") for e, own, new in self.moved(layer, len(self.pathway.own[0]))]
        return [(e, own, new) for e, own, new in every if own != new][:most]

    @property
    def lead(self) -> tuple[float, float] | None:
        """How far the right option is ahead of the mean of all, before and after, in nats: what re-mixing brought, to
        be held against what spoke for it; None where the right one is not known."""
        if self.answer is None:
            return None
        logs = [[math.log(max(p, TINY)) for p in probabilities] for probabilities in (self.before, self.after)]
        before, after = (own[self.answer] - sum(own) / len(own) for own in logs)
        return before, after

    @property
    def left_alone(self) -> str:
        """Why no layer was re-mixed."""
        if self.strength is None:
            return "no layer was chosen"
        weighed, wanted = self.strength
        if wanted == math.inf:
            return "on the references that it was calibrated on, re-mixing won at no threshold"
        return f"what speaks for it, {weighed:.3g}, is not above {wanted:.3g}"

    def _lines(self) -> Iterator[str]:
        yield self.text
        yield self.how
        yield ""
        yield f"neighbours: {len(self.neighbours) or 'none'}"
        for question, similarity, weight in self.neighbours[:NEAREST]:
            right = question.choices[question.answer] if question.answer is not None else "?"
            yield f"  {weight:.2f}  (similarity {similarity:.2f})  {_line(question.question)} → {_line(right)}"
        if len(self.neighbours) > NEAREST:
            yield f"  … and {len(self.neighbours) - NEAREST} more"
        if self.layer_scores:
            yield "layers by score (* chosen):"
            most = max(*self.layer_scores.values(), 1e-12)
            for n, score in self.layer_scores.items():
                bar = "█" * round(BAR * max(score, 0) / most)
                yield f"  {'*' if n in self.layers else ' '} {f'layer {n}':9} {score:9.3g}  {bar}"
        options = self.options if self.tokens else tuple(map(_line, self.options))
        likeliest = max(range(len(options)), key=lambda i: self.after[i])
        yield f"layers: {', '.join(map(str, self.layers)) or f'none, left alone: {self.left_alone}'}"
        if self.layers and self.strength is not None:
            yield "  what speaks for it: {:.3g}, above {:.3g}".format(*self.strength)
        for layer in self.layers:
            moved = ", ".join(f"expert {e} {own} → {new}" for e, own, new in self.seen(layer, MOVED))
            said = f"most changed: {moved}" if moved else "no weight changes at three decimals"
            yield f"  layer {layer}, {len(self.experts[layer])} experts selected; {said}"
            without, now = (f"{100 * p[likeliest]:.1f} %" for p in (self.undone[layer], self.after))
            instead = f" instead of {now}" if without != now else ", as with it"
            yield f"    without it: {options[likeliest]} {without}{instead}"
        yield f"{'next tokens' if self.tokens else 'options'}, before → after:"
        for option, before, after in zip(options, self.before, self.after, strict=True):
            yield f"  {100 * before:5.1f} % → {100 * after:5.1f} %  {option}"
        if self.answer is not None and self.lead is not None:
            before, after = self.lead
            yield f"lead of the right one, {options[self.answer]}: {before:.3g} → {after:.3g} nats"
        yield "cost in base forwards: " + ", ".join(f"{phase} {value:.2f}" for phase, value in self.cost.items())


def explain(
    text: str,
    how: str,
    run: Remixed,
    model: RoutedModel,
    candidates: ReferenceSet | None,
    choices: tuple[str, ...] = (),
    answer: int | None = None,
) -> Explanation:
    """The explanation of the only sample of a batch."""
    pathway, selection, near = run.pathway[0], run.selection, run.neighbours
    scores = {} if selection.scores is None else dict(zip(pathway.layers, selection.scores[0].tolist(), strict=True))
    chosen = [row for row, on in enumerate(selection.layers[0].tolist()) if on]
    order = near.weight[0].argsort(descending=True, stable=True).tolist()
    found = [(k, int(near.index[0, k])) for k in order if near.index[0, k] >= 0 and near.weight[0, k] > 0]
    options, each = _probabilities(run, model, chosen, choices)
    strength, wanted = selection.strength, selection.threshold
    return Explanation(
        text,
        how,
        model.name,
        pathway,
        tuple(pathway.layers[row] for row in chosen),
        {pathway.layers[row]: tuple(selection.mask[0, row].nonzero().squeeze(1).tolist()) for row in chosen},
        None if strength is None or wanted is None else (strength[0].item(), wanted),
        scores,
        tuple(
            (candidates.questions[row], near.similarity[0, k].item(), near.weight[0, k].item())
            for k, row in found
            if candidates is not None
        ),
        options,
        not choices,
        each[0],
        each[1],
        {pathway.layers[row]: each[2 + i] for i, row in enumerate(chosen)},
        _cost(run, model, scored=bool(choices)),
        answer,
    )


def _cost(run: Remixed, model: RoutedModel, *, scored: bool) -> dict[str, float]:
    """Of each phase that took something, in base forwards; ``scored`` if there are choices to score along ω."""
    ledger = run.ledgers[0]
    if scored:
        tails = model.tail_scores(run.states, run.pathway)
        with torch.no_grad():
            tails(run.pathway.router)
        ledger = replace(ledger, answer=tails.spent[0])
    return {phase: flops / run.states[0].work.flops for phase, flops in vars(ledger.cost).items() if flops}


def _probabilities(
    run: Remixed, model: RoutedModel, chosen: list[int], choices: tuple[str, ...]
) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """The options, and their probabilities along ω0, ω, and ω with one chosen layer after the other undone."""
    p = run.pathway
    new, own = p.router[0], p.own[0]
    ways = [own, new]
    for row in chosen:
        undone = new.clone()
        undone[row] = own[row]
        ways.append(undone)
    many = replace(p[[0] * len(ways)], router=torch.stack(ways))
    states = [run.states[0]] * len(ways)
    if choices:
        return choices, [tuple(s.softmax(-1).tolist()) for s in model.choice_scores(states, many)]
    next_token = model.next_token(states, many).softmax(-1)
    likely = next_token[:2].amax(0).topk(SHOWN).indices
    words = tuple(repr(model.tokenizer.decode([token])) for token in likely.tolist())
    return words, [tuple(row) for row in next_token[:, likely].tolist()]


def _line(text: str) -> str:
    """A text in one line; a long one without its middle, as many end with what they ask."""
    words, half = " ".join(text.split()), LINE // 2 - 1
    return words if len(words) <= LINE else f"{words[:half].rsplit(' ', 1)[0]} … {words[-half:].split(' ', 1)[-1]}"
