"""What re-mixing did to one text, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .types import Pathway, Question

if TYPE_CHECKING:
    from .reference import ReferenceSet
    from .remixer import Remixed


@dataclass(frozen=True, eq=False)
class Explanation:
    """One text's re-mixing; ``print`` it.

    Attributes:
        text: what was re-mixed.
        pathway: ω ``[L, E]`` with ω0 beside it.
        layers: decoder layers that were selected.
        layer_scores: what a selector that scores layers gave each of them, by decoder layer.
        neighbours: the references it learned from, with cosine similarity and kernel weight.
    """

    text: str
    pathway: Pathway
    layers: tuple[int, ...]
    layer_scores: dict[int, float]
    neighbours: tuple[tuple[Question, float, float], ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.text
        yield f"neighbours: {len(self.neighbours) or 'none'}"
        for question, similarity, weight in self.neighbours:
            right = question.choices[question.answer] if question.answer is not None else "?"
            yield f"  {weight:.2f}  (similarity {similarity:.2f})  {question.question} → {right}"
        yield f"layers: {', '.join(map(str, self.layers)) or 'none, left alone'}"
        for row, layer in enumerate(self.pathway.layers):
            if layer in self.layers:
                change = self.pathway.weights[row] - self.pathway.own[row]
                most = change.abs().topk(min(3, len(change)))
                moved = ", ".join(f"expert {e} {change[e]:+.3f}" for e in most.indices.tolist() if change[e] != 0)
                score = f" (score {self.layer_scores[layer]:.3g})" if self.layer_scores else ""
                yield f"  layer {layer}{score}: {moved or 'unchanged'}"


def explain(text: str, run: Remixed, pool: ReferenceSet | None) -> Explanation:
    """The explanation of the only sample of a batch."""
    pathway, selection, near = run.pathway[0], run.selection, run.neighbours
    scores = {} if selection.scores is None else dict(zip(pathway.layers, selection.scores[0].tolist(), strict=True))
    found = [(k, row) for k, row in enumerate(near.index[0].tolist()) if row >= 0 and pool is not None]
    return Explanation(
        text,
        pathway,
        tuple(layer for layer, on in zip(pathway.layers, selection.layers[0].tolist(), strict=True) if on),
        scores,
        tuple(
            (pool.questions[row], near.similarity[0, k].item(), near.weight[0, k].item())
            for k, row in found
            if pool is not None
        ),
    )
