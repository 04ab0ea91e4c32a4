"""Shape letters and the frozen records that pass between the parts.

Letters used in every docstring:
    B samples, C choices of a question, L adapted MoE layers, E routed experts of a layer, K neighbours,
    N references, D embedding dimensions, T tokens, S tail tokens (the prompt's last and the answers'), V vocabulary,
    H hidden.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral
from pathlib import Path
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from ._printed import in_brief
from .errors import DataError, SettingError, ShapeError
from .ledger import Cost, Ledger
from .storage.hub import OnHub
from .storage.pathway_file import GateCard, Origin, PathwayCard, is_pathway, read_pathway, write_pathway
from .storage.picture_file import Picture

if TYPE_CHECKING:
    from torch import Tensor

    from .gate import Gate

Scope = Literal["last", "answer", "all"]
"""Where a pathway acts: on the prompt's last token (the paper), on that and every answer token, or on every token."""

Transfer = Literal["replace", "shift"]
"""How ω enters another prompt's last token: in its routing's place (the paper), or as Δω on top of it."""

LossName = Literal["choices", "likelihood", "lead"]
"""Cross-entropy over the choices' normalized scores; the right choice's negative log-likelihood alone; or how far its
score is behind the mean of all choices, so that labels at random teach nothing on average: cross-entropy also lowers
where choices only become alike."""

Head = Literal["tangent", "full"]
"""What a neighbour's likelihood is divided by: the head's normalizer as a plane around the neighbour's own pathway, or
computed anew over the whole vocabulary in each step. A head that cannot be run for some entries alone (quantized,
offloaded) is always run in full."""

LearnFrom = Literal["successful", "all", "consistent"]
"""Which references may be neighbours: those that the model answers right (the paper), also those it gets wrong, or
those whose answers their nearest references do not vote against (``c3po refset check --suspects`` names the others)."""

Labels = Literal["own", "shuffled"]
"""What neighbours teach: their right choices, or (a control) choices drawn at random."""

Attributable = Literal["neighbours", "entropy", "margin"]
"""The neighbours' loss; the entropy of the sample's own choices; or the lead of its best choice over the second."""

Changes = Literal["each", "same", "core", "nothing"]
"""What becomes of pathways: each question's own change; the same of all; no step, with the core experts mixed; or
nothing at all."""

Mix = Literal["core", "top-k"]
"""What an answer mixes: every expert that has weight, or as many as the model itself uses."""

PathwayKind = Literal["router", "weights"]
"""What ω is: each router's distribution over all experts, of which a layer then takes its top-k (the paper, as its
released code has it), or the weights that are mixed, zero where an expert is not used."""

Gradient = Literal["straight-through", "core"]
"""The gradient of a router distribution: of what the top-k of it gives, passed straight through to every core expert;
or of all core experts mixed. The paper does not say which."""

Score = Literal["likelihood", "generated"]
"""What an answer is: the likeliest choice, or the choice that the model writes by itself."""

NO_CHOICE = -1
"""In a choice's place where what was written is none of them."""


OPTIONAL = ("images", "about")
"""Fields of a question that are written only where it has them."""


@dataclass(frozen=True)
class Question:
    """A multiple-choice question; ``answer`` is the index of the right choice, None where unknown.

    ``images`` are shown before it: paths, bytes of files or images of PIL, one or several, stored as ``Picture``.
    ``about`` is the text that its neighbours are found by, "" the question itself: for one that stands behind a long
    text, of which a sentence embedder reads the beginning alone.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int | None = None
    task: str = ""
    subject: str = ""
    split: str = ""
    images: Sequence[Any] = field(default=(), repr=False)
    about: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        images: Any = () if self.images is None else self.images
        if isinstance(images, str | bytes) or not isinstance(images, Iterable):  # one alone
            images = [images]
        pictures = tuple(image if isinstance(image, Picture) else Picture(image) for image in images)
        object.__setattr__(self, "images", pictures)
        self._check()

    def _check(self) -> None:
        """Refuse values in each other's places, where the id stands first, and an answer that is no choice."""
        texts = isinstance(self.choices, list | tuple) and all(isinstance(choice, str) for choice in self.choices)
        fit = {"id": isinstance(self.id, str), "question": isinstance(self.question, str), "choices": texts}
        fit["answer"] = self.answer is None or isinstance(self.answer, Integral)
        if wrong := [f"{name} {short(getattr(self, name))}" for name, right in fit.items() if not right]:
            raise DataError(
                'Expected a question as Question("boat", "What floats?", ("a stone", "a boat"), 1): its id, the text, '
                f"the choices, and the place of the right one or None, got {', '.join(wrong)}."
            )
        last = len(self.choices) - 1
        if self.choices and self.answer is not None and not 0 <= self.answer <= last:
            raise DataError(
                f"Question {self.id!r}: expected answer to be an index from 0 to {last}, got {self.answer}; correct it."
            )

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its images."""
        return tuple(self.images)

    def row(self) -> dict[str, Any]:
        """Its fields as JSON has them: what identifies it. ``about`` and ``images`` (by what they show) where it
        has some.
        """
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in OPTIONAL}
        about = {"about": self.about} if self.about else {}
        return row | about | ({"images": [picture.digest for picture in self.pictures]} if self.images else {})


@dataclass(frozen=True)
class Extra:
    """What a model takes beside a prompt's tokens: its pictures, as its processor makes them ready.

    Attributes:
        digest: of all of it; what identifies it.
        inputs: by the names of the model's arguments, as for one prompt: tensors, or lists of numbers.
        shown: ``[T]`` bool, the tokens that pictures stand at.
    """

    digest: str
    inputs: Mapping[str, Any] = field(compare=False, repr=False)
    shown: Tensor = field(compare=False, repr=False)

    @property
    def nbytes(self) -> int:
        return self.shown.nbytes + sum(getattr(value, "nbytes", 0) for value in self.inputs.values())


@dataclass(frozen=True)
class Prompt:
    """What the model really reads: token ids of the prompt, and of each option that may follow it.

    Attributes:
        ids: the prompt's tokens.
        options: continuation tokens of each choice; empty for raw text.
        lengths: what each option's log-likelihood is divided by.
        given: how many of each option's first tokens are given, and count for nothing; (): none.
        after: how many of the prompt's tokens come after the one where a pathway acts; 0: that is the last one.
        extra: what the model takes beside the tokens: pictures; None: a text alone.
    """

    ids: tuple[int, ...]
    options: tuple[tuple[int, ...], ...] = ()
    lengths: tuple[float, ...] = ()
    given: tuple[int, ...] = ()
    after: int = 0
    extra: Extra | None = field(default=None, repr=False)
    __repr__ = in_brief

    @property
    def drawn_by(self) -> str:
        """All of it, which settles what is drawn for it; cached answers are of these very words."""
        plain = ("ids", "options", "lengths", "given", "after")
        said = f"Prompt({', '.join(f'{name}={getattr(self, name)!r}' for name in plain)})"
        return said if self.extra is None else f"({said}, {self.extra.digest!r})"  # of pictures tokens say the size

    @property
    def lettered(self) -> bool:
        """Whether options can be compared by the logits of one token each."""
        return all(len(option) == 1 for option in self.options) and len(set(self.lengths)) == 1


@dataclass(frozen=True, eq=False)
class Pathway(OnHub):
    """The routing ω at the prompt's last token, and how it acts.

    It is a router's distribution over all experts of each layer, as C3PO has it (arXiv 2504.07964, released code): the
    layer's top-k is taken of it, as of the model's own. Without a gate it is the weights themselves.

    One that says whose it is (``model.with_origin(pathway, text)``) can be saved: as a file (``save``, ``load``), or as
    a folder with a card, here or on the Hub (``save_pretrained``, ``push_to_hub``, ``from_pretrained``). Read back, it
    is refused by every other model.

    Attributes:
        router: ``[L, E]`` or ``[B, L, E]``, ω: how much of each layer's routing each expert has.
        own: same shape: the model's own (ω0). Answer tokens take ``router - own``.
        layers: decoder layer index of each of the L rows.
        scope: see ``Scope``.
        top_k: if set, only the k largest weights of a layer are mixed, rescaled to the layer's mass.
        origin: which model and texts it is of; None for one that was never saved, and is its maker's to look after.
        gate: what makes the weights of it; None: it is the weights.
    """

    router: Tensor
    own: Tensor
    layers: tuple[int, ...]
    scope: Scope = "answer"
    top_k: int | None = None
    origin: Origin | None = None
    gate: Gate | None = field(default=None, repr=False)
    repo_type: ClassVar[Literal["model"]] = "model"
    files: ClassVar[tuple[str, ...]] = ("pathway.safetensors",)

    def __post_init__(self) -> None:
        shape = self.router.shape
        if shape != self.own.shape or len(shape) not in (2, 3) or shape[-2] != len(self.layers):
            raise ShapeError(
                f"Expected router and own of one shape ([B,] L, E) with L = {len(self.layers)}, got "
                f"{tuple(self.router.shape)} and {tuple(self.own.shape)}; start from model.pathway(text)."
            )
        if not self.router.isfinite().all() or (self.router < 0).any():
            raise ShapeError(
                "Expected finite routing weights >= 0, got NaN, infinite or negative ones; "
                "clamp them at zero and rescale each layer to its mass."
            )
        samples = len(self.router) if self.batched else 1
        if self.origin is not None and len(self.origin.prompts) != samples:
            raise ShapeError(
                f"Expected an origin with one text for each of {samples} samples, got {len(self.origin.prompts)}; say "
                "whose it is anew: model.with_origin(replace(pathway, …, origin=None), texts)."
            )

    def __repr__(self) -> str:
        """Without the tensors, which fill a screen."""
        changed = self.changed().reshape(-1, len(self.layers)).any(0).tolist()
        where = [layer for layer, moved in zip(self.layers, changed, strict=True) if moved]
        return f"Pathway({list(self.router.shape)}, changed in {f'layers {where}' if where else 'no layer'})"

    @property
    def batched(self) -> bool:
        return self.router.ndim == 3

    def __getitem__(self, index: Any) -> Pathway:
        """Samples of a batched pathway."""
        origin = self.origin
        if origin is not None and self.batched:
            import torch

            origin = origin.of(torch.arange(len(self.router))[index].reshape(-1).tolist())
        gate = None if self.gate is None else self.gate[index]
        return replace(self, router=self.router[index], own=self.own[index], origin=origin, gate=gate)

    @property
    def weights(self) -> Tensor:
        """``[..., L, E]`` what the experts' outputs are multiplied with at the token where ω acts, zero where an expert
        is not used."""
        return self.used.router

    @property
    def used(self) -> Pathway:
        """The same as weights: what is mixed of ω and of ω0 at the token where it acts, without a gate.

        On other tokens it acts otherwise, as these have gates of their own.
        """
        if self.gate is None:
            return self
        router, own = self.gate.weights(self.router), self.gate.weights(self.own)
        moved = self.changed().unsqueeze(-1)
        return replace(self, router=router.where(moved, own), own=own, gate=None)

    def changed(self) -> Tensor:
        """``[..., L]`` True where a layer's routing differs from the model's own."""
        return (self.router != self.own).any(-1)

    def save(self, path: str | Path) -> Path:
        """Write it as one file (safetensors, its card inside), whole or not at all; an old pathway of that name is
        replaced.

        Raises:
            SettingError: it does not say which model it is of.
            DataError: the disk refuses it, or something else than a pathway lies there.
        """
        origin = self._known_origin()
        gate = None if self.gate is None else _gate_card(self.gate)
        card = PathwayCard(
            schema_version=2, layers=self.layers, scope=self.scope, top_k=self.top_k, origin=origin, gate=gate
        )
        tensors = {"router": self.router, "own": self.own}
        tensors |= {} if self.gate is None else {"bias": self.gate.bias, "scale": self.gate.scale}
        write_pathway(Path(path), tensors, card)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Pathway:
        """Read a file that ``save`` wrote; a model that it is not of refuses it when it is used.

        Raises:
            DataError: no such file, no pathway, or a damaged one.
        """
        tensors, card = read_pathway(Path(path))
        if card.scope not in get_args(Scope):
            raise DataError(f"{path}: expected a scope among {', '.join(get_args(Scope))}, got {card.scope!r}.")
        scope: Any = card.scope
        try:
            gate = _gate(tensors, card)
            return cls(tensors["router"], tensors["own"], card.layers, scope, card.top_k, card.origin, gate)
        except ShapeError as error:
            raise DataError(f"{path}: {error}") from error

    def _known_origin(self) -> Origin:
        if self.origin is None:
            raise SettingError(
                "Expected a pathway that says which model and text it is of, got one in memory alone; save "
                "model.with_origin(pathway, text)."
            )
        return self.origin

    def _write(self, folder: Path) -> None:
        self.save(folder / self.files[0])

    @classmethod
    def _owns(cls, folder: Path) -> bool:
        return is_pathway(folder / cls.files[0])

    @classmethod
    def _read(cls, folder: Path) -> Pathway:
        return cls.load(folder / cls.files[0])


def _gate_card(gate: Gate) -> GateCard:
    groups = None if gate.groups is None else asdict(gate.groups)
    return GateCard(k=gate.k, renormalized=gate.renormalized, groups=groups)


def _gate(tensors: Mapping[str, Tensor], card: PathwayCard) -> Gate | None:
    """Of a pathway that was read."""
    from .gate import Gate, Groups

    if card.gate is None:
        return None
    groups = None if card.gate.groups is None else Groups(**card.gate.groups)
    return Gate(tensors["bias"], tensors["scale"], card.gate.k, card.gate.renormalized, groups)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Retrieved references of B samples, nearest first; short rows are padded with index -1.

    Attributes:
        index: ``[B, K]`` rows of the reference set.
        similarity: ``[B, K]`` cosine.
        weight: ``[B, K]`` kernel values normalized to sum to one (all zero where nothing was found).
    """

    index: Tensor
    similarity: Tensor
    weight: Tensor
    __repr__ = in_brief


def draw_key(seed: int, what: object) -> int:
    """A number that settles what is drawn for one question: the same in any batch, and in any process."""
    said = what.drawn_by if isinstance(what, Prompt) else repr(what)
    return zlib.crc32(f"({seed!r}, {said})".encode())


@dataclass(frozen=True, eq=False)
class Selection:
    """Which layers and experts may be re-mixed.

    Attributes:
        mask: ``[B, L, E]`` bool; a layer is selected if any of its experts is.
        scores: ``[B, L]`` what the layers were chosen by, if anything.
        strength: ``[B]`` what spoke for re-mixing the sample at all, if that was weighed.
        threshold: what it had to be above.
    """

    mask: Tensor
    scores: Tensor | None = None
    strength: Tensor | None = None
    threshold: float | None = None
    __repr__ = in_brief

    @property
    def layers(self) -> Tensor:
        """``[B, L]`` bool."""
        return self.mask.any(-1)


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """A question answered, and how it came about; what an answerer does not know stays at its default.

    Attributes:
        choice: index of the chosen option; ``NO_CHOICE`` if what was written is none of them.
        scores: of each option; their softmax is the distribution that likelihood and calibration are computed from. The
            remixer gives normalized log-likelihoods.
        ledger: what it took.
        base_flops: FLOPs of the question's own forward pass, which costs are reported in.
        base_choice: the choice along the model's own pathway.
        base_scores: scores along the model's own pathway.
        pathway: the routing weights that it was answered along.
        layers: decoder layers that were re-mixed.
        experts: in each of them, those whose weight changed.
        neighbours: the references that it learned from: id, cosine similarity, kernel weight.
        layer_scores: what the selector gave each layer, if it scores them.
        strength: what spoke for re-mixing it at all, if the selector weighed that.
        setup_flops: that its answerer took before the first question, whatever is asked: references run, gradients
            stored, parameters trained. The same in each of its answers.
        reference_flops: of those, what is computed of each reference by itself: spent once, however many learn from the
            set.
        parameters: how many parameters, the model's or beside it, were trained before it or for it.
        generated: what the model wrote, if that is what the choice was read from; None: it is the likeliest one.
    """

    choice: int
    scores: tuple[float, ...]
    ledger: Ledger
    base_flops: float
    base_choice: int | None = None
    base_scores: tuple[float, ...] = ()
    pathway: Pathway | None = None
    layers: tuple[int, ...] = ()
    experts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    neighbours: tuple[tuple[str, float, float], ...] = ()
    layer_scores: tuple[float, ...] = ()
    strength: float | None = None
    setup_flops: float = 0.0
    reference_flops: float = 0.0
    parameters: int = 0
    generated: str | None = None

    def __repr__(self) -> str:
        """What was answered, before and after, where, and at which cost; the pathway and the rest by their names."""
        scores = ", ".join(f"{score:.3f}" for score in self.scores)
        parts = [f"choice={self.choice}", f"scores=({scores}{',' * (len(self.scores) == 1)})"]
        parts += [] if self.base_choice is None else [f"base_choice={self.base_choice}"]
        parts += [] if self.generated is None else [f"generated={self.generated!r}"]
        parts += [f"layers={self.layers}"] if self.layers else []
        parts += [f"{len(self.neighbours)} neighbours"] if self.neighbours else []
        parts += [f"{self.cost.total / self.base_flops:.2f} base forwards"] if self.base_flops else []
        return f"Answer({', '.join(parts)})"

    @property
    def cost(self) -> Cost:
        """FLOPs by phase."""
        return self.ledger.cost

    @property
    def seconds(self) -> float:
        """The sample's share of its batch's time."""
        return self.ledger.seconds
