"""Settings by name: strategies that go together, and what they learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnknownNameError, suggestion


@dataclass(frozen=True)
class Preset:
    """Strategies and settings that go together.

    Attributes:
        specs: of each role: a strategy by name, or by a mapping of its name and parameters.
        settings: values of ``RemixSettings`` that are not the usual ones.
    """

    specs: Mapping[str, str | Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)


_USUAL = {"optimizer": "ngd", "kernel": "gaussian", "retriever": "faiss-knn", "selector": "fixed"}
_PAPER = {"scope": "last", "loss": "likelihood", "head": "full", "mix": "top-k", "pathway": "router"}
_WHEREVER = {"name": "fixed", "layers": "all", "experts": None}

_NEAREST: Mapping[str, Mapping[str, Any]] = {
    "optimizer": {"name": "integrated-step", "lr": None},
    "kernel": {"name": "gaussian", "length_scale": 0.245},
    "retriever": {"name": "faiss-knn", "k": 300},
    "selector": _WHEREVER,
}
_EVERYWHERE = {"learn_from": "all", "scope": "all"}

PRESETS: Mapping[str, Preset] = {
    "c3po": Preset(_USUAL, _PAPER),
    "c3po-tuned": Preset(_USUAL | {"selector": _WHEREVER}, _PAPER | {"learn_from": "all", "scope": "answer"}),
    "nearest": Preset(_NEAREST, _EVERYWHERE),
}
"""``c3po``: as published (Li, Li and Zhou 2025, arXiv 2504.07964: "the paper"). How questions are scored is no part of
a preset. The paper reads a letter that the model generates: ask with ``format="letter"`` where options can be listed,
in a study with ``score: generated``.
Where they are scored as texts (``cloze``), only their first tokens are near the one that ω acts on.

- **Neighbours**: three, by a Gaussian kernel, none nearer than 0.95, of the references answered right: the paper. Its
  released code (github.com/tianyi-lab/C3PO) has neither kernel nor filter nor any descent: it writes the mean of three
  neighbours' pathways, weighed by their cosines, in the question's place. The paper is taken: it has the method.
- **Place**: ω at the prompt's last token alone (``scope: last``), in the last five layers: the paper. The released code
  goes on overwriting each generated token; the paper is taken, which says nothing of that.
- **Steps**: ten, by cosine from 1e-2 to 1e-5: the paper. It writes plain gradient steps; the same lab's code of the
  same algorithm at the same rates (github.com/tianyi-lab/R2-T2) takes Adam's, and so does this, as the paper's own code
  has none. The loss is that code's, too: cross-entropy of the answer's tokens over the whole vocabulary (``loss:
  likelihood``, ``head: full``); the paper writes ℓ.
- **Pathway**: the router's softmax over all experts of a layer (``pathway: router``), as in the released code.
- **Experts**: the 20 that the router ranks highest are re-mixed, and the layer takes its own top-k of the result
  (``mix: top-k``): the paper reports that the 20 hold 99.8 % of the top eight after a full descent, and the released
  code takes the top eight of the changed distribution. It is renormalized only where the model does so. Experts outside
  the top-k receive a straight-through gradient (``gradient``); the paper does not say how its gradient passes top-k.

``c3po-tuned``: the same method, learning rate and steps, with three deviations, each of them one setting: all layers
and experts (``selector``), all labeled references (``learn_from: all``), and the answer's tokens too (``scope:
answer``).

``nearest``: what won in ``studies/answer``, where it is ``each`` of the second round: one step for each question, at
every token and in all layers, along what experts were worth to its 300 nearest references. How far it goes was settled
there, at lr 50; here the references choose it (``IntegratedStep.lr``), as what suits one model harms the next. With the
first eight routers of the embedded model broken it gains 15.2 points [8.8, 21.6] over leaving the model alone, on kinds
of questions that experts learned, of each of which a hundred references are labeled; where nothing is broken it is not
shown to gain (+0.8 [-2.2, 3.8]), nor on words that no expert learned. Over this model and three broken copies it gains
6.7 points [3.9, 9.5] on one step for all, which had one rate for the four; that it beats one change for each known
kind, or random neighbours weighed by nearness is not shown. Eight layers, chosen per question or at random, do nearly
as well. Larger models were not asked."""


def preset_named(name: str) -> Preset:
    """A preset.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        hint = suggestion(str(name), PRESETS)
        raise UnknownNameError(f"Expected the name of a preset, got {name!r}; {hint}")
    return PRESETS[name]
