"""Replaying routes in training: a plain transformers model, forced along the experts that a rollout took."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..errors import ModelError, SettingError, checked_call
from ..routing.forced import choosing
from ..routing.intercept import intercepted
from ..routing.modules import answering, hook_after, hook_before, hooked, lock_of, modules_of
from ..routing.routes import Layout, Routes, Sequences, of_arrays, of_batch, of_traces
from ..routing.sites import Site, decoder_layers, decoder_of, find_sites
from ..routing.styles import Change
from ..routing.trace import Trace
from ..routing.trace_file import read_trace
from .fingerprint import identity
from .routed import RoutedModel
from .snapshot import Snapshot

Part = TypeVar("Part")
Each = Tensor | Sequence[Tensor]


@checked_call
@contextmanager
def replaying(
    model: RoutedModel | nn.Module,
    routes: Each | Trace | Sequence[Trace] | str | Path,
    weights: Each | None = None,
    *,
    foreign: bool = False,
) -> Iterator[None]:
    """Inside the block the model routes each token as its routes say; afterwards it is as it was::

        with replaying(model, routes):
            loss = model(**batch, labels=labels).loss
            loss.backward()

    With ids alone the router weighs the prescribed experts by its own code, and gets gradients. With
    weights those are used, and the router gets none. Where an id is -1 a token routes itself. Other threads, meanwhile,
    get the model's own routing.

    Call ``backward`` inside the block: gradient checkpointing runs layers again in it, which has to be along the same
    routes. Each block is for one batch, which may be run several times; another is refused. A step that accumulates
    gradients opens a block for each of its batches.

    Args:
        model: of transformers, with PEFT's adapters or without, or a ``RoutedModel``.
        routes: expert ids ``[B, T, L, k]`` beside padded tokens ``[B, T]``; or for each sequence, without its padding,
            ids ``[T_i, L, k]`` or a ``Trace``, where those of all but the last token are enough, as engines give them;
            or the file of one trace.
            L counts MoE layers, or all decoder layers, whose dense ones are left out.
        weights: what the experts' outputs are multiplied with, in the shapes of the ids; those of traces are theirs.
        foreign: whether traces may be of a model with other weights, as of an earlier step of the training.

    Raises:
        SettingError: traces of another model, layers or tokens; weights beside traces; a second batch.
        ShapeError: routes of another batch, order, length, number of layers or experts, padded on the other side, or
            that nobody recorded.
        ModelError: the model is dense or its routing cannot be reached; ids alone, for a router that does not choose by
            ``topk`` (phimoe's); no layer was run; or, on leaving, layers that ``backward`` has still to run again.
    """
    base = transformers_model(model)
    with lock_of(base):
        sites = sites_of(base)
        run = _Replay(base, sites, _source(base, sites, routes, weights, foreign))
        weighed = run.source.weights is not None
        forced = intercepted(sites, run.change) if weighed else choosing(base, sites, run.chosen)
        with hooked(run.hooks()), forced:
            yield
            run.check_done()


def transformers_model(model: RoutedModel | nn.Module) -> PreTrainedModel:
    """The model of transformers inside of what wraps it.

    Raises:
        SettingError: there is none.
    """
    inner: Any = model.model if isinstance(model, RoutedModel) else model
    if not isinstance(inner, PreTrainedModel) and hasattr(inner, "get_base_model"):  # PEFT
        inner = inner.get_base_model()
    if not isinstance(inner, PreTrainedModel):
        raise SettingError(
            f"Expected a RoutedModel, or a model of transformers or in PEFT's wrapper, got {type(model).__name__}; it "
            "stands first. Of a name it is load_moe_model(NAME), of what is distributed .module."
        )
    return inner


def sites_of(model: PreTrainedModel) -> tuple[Site, ...]:
    """Every MoE layer of the model; found once, until modules are put in or taken out, or route otherwise.

    Raises:
        ModelError: as ``find_sites``.
    """
    modules = modules_of(model)
    known: tuple[Snapshot, tuple[Site, ...]] | None = modules.cache.get("sites")
    if known is None or not known[0].same_layers(modules):
        with answering(model):  # no dropout, which would use up random numbers
            sites = find_sites(model)
        known = modules.cache["sites"] = Snapshot(model), sites
    return known[1]


def _source(
    model: PreTrainedModel, sites: Sequence[Site], routes: object, weights: Each | None, foreign: bool
) -> Routes | Sequences:
    """What is replayed, held against the model."""
    layers = tuple(site.layer for site in sites)
    layout = Layout(layers, len(decoder_layers(model)), sites[0].mixable, sites[0].top_k, model.device)
    if isinstance(routes, str | Path):
        routes = read_trace(Path(routes))
    each = [routes] if isinstance(routes, Trace) else routes
    if _are(each, Trace):
        if weights is not None:
            raise SettingError(
                "Expected traces or weights, got both; dataclasses.replace(trace, weights=…) has others."
            )
        found = of_traces(each, layout)
        _check_model(model, each, foreign)
        return found
    if isinstance(routes, Tensor) and not isinstance(weights, list | tuple):
        return of_batch(routes, cast(Tensor | None, weights), layout)
    if _are(routes, Tensor) and not isinstance(weights, Tensor):
        return of_arrays(routes, weights, layout)
    raise SettingError(
        "Expected routes as a tensor [B, T, L, k], or as a list of a trace or a tensor [T, L, k] for each sequence, "
        f"and weights of the same kind, got {type(routes).__name__} and {type(weights).__name__}; give routes.experts "
        "and weights=routes.weights of what read_routing gave, torch.as_tensor(…) of an array."
    )


def _are(value: object, kind: type[Part]) -> TypeGuard[Sequence[Part]]:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(part, kind) for part in value)


def _check_model(model: PreTrainedModel, traces: Sequence[Trace], foreign: bool) -> None:
    """Refuse traces that say they are of other weights; an engine's say nothing."""
    known = {trace.model for trace in traces if trace.model}
    if not foreign and known and known != {identity(model)}:
        names = ", ".join(sorted({trace.name for trace in traces if trace.name})) or "an unknown model"
        raise SettingError(
            f"Expected traces of this model, got those of {names} with other weights; say foreign=True if that is "
            "meant, as after a step of training."
        )


@dataclass(eq=False)
class _Replay:
    """One block.

    Attributes:
        model: that is run.
        sites: its MoE layers.
        source: what is replayed.
        asked: inputs of a call that has not reached the decoder yet.
        routes: what is replayed, beside the tokens of the calls; None before the first.
        inputs: of the first call, ``[B, T]`` ids or what it took in their place, and its pictures.
        real: ``[B, T]`` bool of that call, no padding; None: its mask does not say.
        to_repeat: of each decoder layer how often ``backward`` will run it again.
        repeated: of each how often it has.
    """

    model: PreTrainedModel
    sites: Sequence[Site]
    source: Routes | Sequences
    asked: dict[str, Tensor] = field(default_factory=dict)
    routes: Routes | None = None
    inputs: dict[str, Tensor] = field(default_factory=dict)
    real: Tensor | None = None
    to_repeat: dict[int, int] = field(default_factory=dict)
    repeated: dict[int, int] = field(default_factory=dict)

    def hooks(self) -> Iterator[Any]:
        """Those that lay the routes beside the tokens of a call, and see which layers will be run again."""
        yield _before(self.model, lambda named: setattr(self, "asked", _inputs(named)))
        yield _before(decoder_of(self.model), self._lay)
        layers = decoder_layers(self.model)
        for number in {site.layer for site in self.sites}:
            yield hook_after(layers[number], self._noting(number))

    def _noting(self, number: int) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            checkpointed = getattr(module, "gradient_checkpointing", False) and module.training
            if checkpointed and torch.is_grad_enabled() and first.requires_grad:
                self.to_repeat[number] = self.to_repeat.get(number, 0) + 1

        return note

    def _lay(self, named: Mapping[str, Any]) -> None:
        """Lay the routes beside the tokens that the decoder takes.

        Raises:
            ShapeError: they are of other numbers of sequences or tokens, padded on the other side, or in another order.
            SettingError: a second batch in one block.
        """
        tokens, mask = named.get("input_ids"), named.get("attention_mask")
        read = tokens if tokens is not None else named.get("inputs_embeds")
        if read is None:
            raise SettingError("Expected the model to be called with input_ids or inputs_embeds, got neither.")
        if isinstance(self.source, Routes):
            self.source.check_size(tuple(read.shape[:2]))
        # Who reads images embeds the tokens first: by weights that a step of training changes.
        inputs, self.asked = self.asked or _inputs(named), {}
        real = self._real(read, mask)
        if self.routes is None:
            everywhere = torch.ones(read.shape[:2], dtype=torch.bool, device=self.model.device)
            self.routes = self.source.beside(everywhere if real is None else real, tokens)
            self.inputs = {name: part.detach().clone() for name, part in inputs.items()}  # trainers fill memory again
            self.real = real
        elif not _same(self.inputs, inputs) or not (real is None or self.real is None or torch.equal(self.real, real)):
            raise SettingError(
                "Expected one batch in a block of replaying, got another: its tokens (or embeddings), positions, "
                "pictures or padding are others. Open a block for each; where one loss is of both, run both as one "
                "batch."
            )

    def _real(self, read: Tensor, mask: object) -> Tensor | None:
        """``[B, T]`` bool, no padding; None: a mask of another kind, which padded routes alone can do without."""
        size = read.shape[:2]
        if mask is None:
            return torch.ones(size, dtype=torch.bool, device=self.model.device)
        if isinstance(mask, Tensor) and mask.shape == size:
            return mask.to(self.model.device).bool()
        if isinstance(self.source, Routes):
            return None
        raise SettingError(
            f"Expected an attention_mask (B, T) = {tuple(size)} beside routes of sequences without padding, got "
            f"{tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__}; give routes [B, T, L, k]."
        )

    def _at(self, position: int) -> Routes:
        if self.routes is None:
            raise ModelError(
                f"Expected {type(self.model).__name__} to be called as a whole, got a call of MoE layer "
                f"{self.sites[position].layer} before; run the model itself inside the block."
            )
        if in_backward():
            layer = self.sites[position].layer
            self.repeated[layer] = self.repeated.get(layer, 0) + 1
        return self.routes

    def chosen(self, position: int, rows: int) -> tuple[Tensor, Tensor | None]:
        return self._at(position).chosen(position, rows)

    def change(self, position: int, index: Tensor, weights: Tensor) -> Change:
        return self._at(position).change(position, index, weights)

    def check_done(self) -> None:
        """Refuse to leave what would be run again without routes.

        Raises:
            ModelError: layers that gradient checkpointing has still to run.
        """
        left = sorted(n for n, count in self.to_repeat.items() if self.repeated.get(n, 0) < count)
        if left:
            raise ModelError(
                f"Expected backward() inside the block: gradient checkpointing runs layers {left} again in it, which "
                "would be along their own routing. Move it inside, or run under torch.no_grad() what is not trained on."
            )


def _before(module: nn.Module, tell: Callable[[dict[str, Any]], None]) -> RemovableHandle:
    """Tells each call's arguments by name, before it."""
    signature = inspect.signature(module.forward)

    def called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = signature.bind_partial(*args, **kwargs).arguments
        tell({**named, **named.get("kwargs", {})})

    # What is told is compared by value, which is nothing to compile.
    return hook_before(module, torch.compiler.disable(called), with_kwargs=True)


def _inputs(named: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a call reads: ids or embeddings, pictures, sounds, and places."""
    return {k: v for k, v in named.items() if isinstance(v, Tensor) and k.startswith(("input", "pixel", "position"))}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether they hold the same values, whatever their dtype."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n].detach().to(one[n])) for n in one)


def in_backward() -> bool:
    """Whether a call is made by autograd, as to compute again what gradient checkpointing did not keep."""
    return torch._C._current_graph_task_id() != -1
