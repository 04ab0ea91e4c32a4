"""The prefill store: what a reference's tail starts from, computed once, stored on disk beside the set, read as needed.

A store is a folder of shards (safetensors, memory-mapped), whose names tell by a hash the model, the format and the
prompts that they are of, and by another what they hold: an interrupted build resumes, a shard that does not hold is
computed again, two processes that build the same store write the same, and what is of something else is not met.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from cachetools import LRUCache
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import DataError, SettingError, disk_says
from ..models.fingerprint import fingerprint, numbers_of
from ..progress import RESUMES, Progress, silent
from ..routing.image_inputs import ImageInputs
from ..routing.packing import Layout, layout_for, pack
from ..routing.prompt_caches import CacheSlice
from ..routing.states import State, tangent_of
from ..storage.checksummed import FIRST, TENSORS, checksummed_files, save_shard, shards_of, verify_checksum
from ..storage.files import is_own
from ..storage.identity import digest
from ..tasks.formats import Format, format_key
from ..types import Prompt
from .build import SHARD, Shards
from .reference_set import ReferenceSet

if TYPE_CHECKING:
    from ..models.routed import RoutedModel

LENGTH = 20  # hex digits of what a shard is of
OURS = f"{'[0-9a-f]' * LENGTH}-*-{FIRST}"
GIVEN = "given/"  # before names of what pictures became
DTYPES = ("float32", "bfloat16", "float16", "float64")
HOLDS = "states, gates, router inputs and tangents"  # a store that holds anything else is made anew
REBUILD = "build it again: c3po refset warm DIR --model MODEL"


def build_store(
    references: ReferenceSet,
    model: RoutedModel,
    folder: str | Path,
    *,
    format: str | Format = "cloze",
    dtype: torch.dtype | None = None,
    progress: Progress = silent,
    compute: Shards | None = None,
) -> PrefillStore:
    """Compute the states of all successful references and keep them in ``folder``; what is there already stays.

    Those of another model, format, set or dtype are deleted once these are made.

    Args:
        references: the set; only its successful references are run.
        model: runs them.
        folder: of the store.
        format: how questions are put.
        dtype: of hidden states and caches on disk; None: the model's, with which results are the same.
        progress: wraps the iteration over shards, to show how far it is.
        compute: computes shards elsewhere (see ``study.reference_shards``); by default the model here does.

    Raises:
        DataError: the folder cannot be written, or what it held before cannot be deleted.
    """
    folder, successes = Path(folder), references.successes
    prompts = [model.encode(q, format) for q in successes.questions]
    of = _of(model, prompts, format, str(dtype or model.model.dtype).removeprefix("torch."))
    files = {i: path for i, path in shards_of(folder, of).items() if _holds(path)}
    RESUMES.set(RESUMES.get() or bool(files))
    missing = [i for i in range(0, len(prompts), SHARD) if i not in files]
    run = compute or (lambda starts: ((i, state_shard(model, prompts[i : i + SHARD], dtype)) for i in starts))
    for i, tensors in progress(run(missing), "references", len(missing)):
        files[i] = save_shard(tensors, folder, of, i)
    if not folder.is_symlink():  # where a link leads may be another set's
        _forget_others(folder, files.values())
    return PrefillStore(folder, model, prompts, files)


def _holds(path: Path) -> bool:
    try:
        verify_checksum(path, REBUILD)
    except DataError:
        return False
    return True


def _forget_others(folder: Path, used: Collection[Path]) -> None:
    """Delete all other shards.

    Raises:
        DataError: one cannot be deleted.
    """
    try:
        for path in checksummed_files(folder, OURS, TENSORS):
            if path not in used and is_own(path):
                path.unlink()
    except OSError as error:
        raise DataError(
            f"Expected to delete {path}, of the store before, got: {disk_says(error)}; build again to go on."
        ) from error


def state_shard(model: RoutedModel, prompts: Sequence[Prompt], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """What a store keeps of some prompts; of hidden states and caches in ``dtype``, by default the model's."""
    states = model.prefill(prompts, keep=False)
    if model.letters_alone and not all(s.prompt.lettered for s in states):
        tangent_of(model.model, states)
    return {
        f"{i}/{name}": t.detach().cpu().contiguous().clone()
        for i, state in enumerate(states)
        for name, t in _named(state, dtype or model.model.dtype).items()
    }


def open_store(
    references: ReferenceSet, model: RoutedModel, folder: str | Path, format: str | Format, budget: int = 2**30
) -> PrefillStore | None:
    """The store of a set, if there is one; not used, with a warning, if it is of something else or not complete."""
    folder = Path(folder)
    if not checksummed_files(folder, OURS, TENSORS):
        return None
    prompts = [model.encode(q, format) for q in references.successes.questions]
    for dtype in DTYPES:
        files = shards_of(folder, _of(model, prompts, format, dtype))
        if len(files) == -(-len(prompts) // SHARD):
            return PrefillStore(folder, model, prompts, files, budget)
    warnings.warn(f"{folder} is of another model, format, set or release, or not complete; {REBUILD}.", stacklevel=2)
    return None


@dataclass(eq=False)
class PrefillStore:
    """States on disk by prompt.

    Attributes:
        folder: of the shards.
        model: whose they are.
        prompts: of the references, in order.
        files: shards by the number of their first prompt.
        budget: bytes of states held in memory, least recently used first out.
    """

    folder: Path
    model: RoutedModel
    prompts: Sequence[Prompt]
    files: Mapping[int, Path]
    budget: int = 2**30

    def __post_init__(self) -> None:
        self._rows = {prompt: i for i, prompt in enumerate(self.prompts)}
        self._open: dict[int, Any] = {}
        self._begin()
        self._of = fingerprint(self.model)

    def _begin(self) -> None:
        """With nothing in memory, of the model as it is."""
        self._kept: LRUCache[Prompt, State] = LRUCache(self.budget, getsizeof=lambda s: s.nbytes)
        vars(self).pop("_like", None)
        self._seen = self.model.snapshot

    @property
    def nbytes(self) -> int:
        """Bytes of states in memory."""
        return int(self._kept.currsize)

    def states(self, prompts: Sequence[Prompt]) -> list[State]:
        """The states of references, from memory or disk; others are run.

        Raises:
            DataError: a shard is missing, cut short or altered; or the model was changed since they were made.
            SettingError: the budget is below one state.
        """
        with self.model.answering():
            if self.model.snapshot is not self._seen:
                self._check_model()
                self._begin()  # it may be elsewhere
            missing = [p for p in dict.fromkeys(prompts) if p not in self._kept and p not in self._rows]
            run = dict(zip(missing, self.model.prefill(missing), strict=True)) if missing else {}
            return [run[p] if p in run else self._state(p) for p in prompts]

    def _check_model(self) -> None:
        if self._of != (now := fingerprint(self.model)):
            raise DataError(
                f"Expected the model that the states in {self.folder} are of ({self._of}), got one that was changed "
                f"since ({now}); put it back, or {REBUILD}."
            )

    def _state(self, prompt: Prompt) -> State:
        if prompt in self._kept:
            return self._kept[prompt]
        state = self._read(self._rows[prompt], prompt)
        if state.nbytes > self.budget:
            raise SettingError(
                f"Expected a memory budget of at least {state.nbytes} bytes, one reference's state, got {self.budget}."
            )
        self._kept[prompt] = state
        return state

    def _read(self, row: int, prompt: Prompt) -> State:
        try:
            return self._loaded(row, prompt)
        except (KeyError, SafetensorError, OSError) as error:
            raise DataError(
                f"{self.folder}: expected the state of reference {row}, got {error!r}; {REBUILD}."
            ) from error

    def _loaded(self, row: int, prompt: Prompt) -> State:
        shard, number = self._shard(row // SHARD * SHARD), row % SHARD
        named = {
            key.partition("/")[2]: shard.get_tensor(key)
            for key in shard.keys()  # noqa: SIM118 (no mapping)
            if key.partition("/")[0] == str(number)
        }
        layout = layout_for(self.model.model, prompt)
        dtype, like = self.model.model.dtype, self._like[layout]
        packed = pack(prompt, layout, images=_images(named, prompt, like.final.device, dtype))
        cache = zip(like.cache if packed.past else (), range(len(like.cache)), strict=False)
        state = State(
            prompt,
            packed,
            tuple(CacheSlice(part.shell, _cached(named, i, part, dtype)) for part, i in cache),
            named["entry"].to(like.entry.device, dtype),
            named["own"],
            named["router"],
            replace(like.gate, bias=named["bias"], scale=named["scale"]),
            named["router_input"],
            named["scores"],
            named["final"].to(like.final.device, dtype),
            None,
            self.model.flops.prefill(packed),
        )
        if "slope" in named:
            place = like.final.device
            state.keep_tangent(named["normalizer"].to(place), named["slope"].to(place, dtype))
        return state

    def _shard(self, first: int) -> Any:
        if first not in self._open:
            verify_checksum(self.files[first], REBUILD)
            self._open[first] = safe_open(self.files[first], "pt")
        return self._open[first]

    @cached_property
    def _like(self) -> dict[Layout, State]:
        """For each layout that the references have, the state of a short prompt: its cache layers, and its devices."""
        found: dict[Layout, State] = {}
        for prompt in self.prompts:
            layout = layout_for(self.model.model, prompt)
            if layout not in found or (pack(prompt, layout).past and not found[layout].cache):
                found[layout] = self.model.prefill(
                    [replace(prompt, ids=prompt.ids[-2:], after=0, extra=None)], keep=False
                )[0]
        return found


def _images(named: Mapping[str, Tensor], prompt: Prompt, place: torch.device, dtype: torch.dtype) -> ImageInputs | None:
    """What the pictures of a prompt became, as far as its tail needs it."""
    if prompt.extra is None:
        return None
    stored = {name.removeprefix(GIVEN): t for name, t in named.items() if name.startswith(GIVEN)}
    embeddings, deep = (stored[name].to(place, dtype) if name in stored else None for name in ("embeddings", "deep"))
    sees = {name.removeprefix("sees/"): seen for name, seen in stored.items() if name.startswith("sees/")}
    return ImageInputs(embeddings, stored.get("positions"), deep, prompt.extra.shown, stored["flops"].item(), sees)


def _cached(
    named: Mapping[str, Tensor], layer: int, like: CacheSlice, dtype: torch.dtype
) -> dict[str | tuple[str, int], Tensor]:
    """Tensors of one cache layer, by attribute, or attribute and key; where those of ``like`` are."""
    found: dict[str | tuple[str, int], Tensor] = {}
    for key, tensor in named.items():
        kind, _, rest = key.partition("/")
        number, _, rest = rest.partition("/")
        if kind == "cache" and number == str(layer):
            name, _, inner = rest.partition("/")
            place = next(iter(like.tensors.values())).device
            value = tensor.to(place, dtype) if tensor.is_floating_point() else tensor.to(place)
            found[(name, int(inner)) if inner else name] = value
    return found


def _named(state: State, dtype: torch.dtype) -> dict[str, Tensor]:
    named = {"entry": state.entry.to(dtype), "own": state.own, "router": state.router}
    named |= {"bias": state.gate.bias, "scale": state.gate.scale}
    named |= {"router_input": state.router_input, "scores": state.token_scores}
    named["final"] = state.final.to(dtype)
    if state.tangent is not None:
        named |= {"normalizer": state.tangent.normalizer, "slope": state.tangent.slope.to(dtype)}
    if (images := state.packed.images) is not None:
        parts = {"embeddings": images.embeddings, "positions": images.positions, "deep": images.deep}
        parts |= {f"sees/{kind}": seen for kind, seen in images.sees.items()}
        named |= {GIVEN + name: part for name, part in parts.items() if part is not None}
        named[GIVEN + "flops"] = torch.tensor(images.flops, dtype=torch.float64)
    for i, part in enumerate(state.cache):
        for key, tensor in part.tensors.items():
            name = key if isinstance(key, str) else f"{key[0]}/{key[1]}"
            named[f"cache/{i}/{name}"] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return named


def _identified(prompt: Prompt) -> list[object]:
    shown = [] if prompt.extra is None else [prompt.extra.digest]
    return [prompt.ids, prompt.options, prompt.lengths, prompt.given, prompt.after, *shown]


def _of(model: RoutedModel, prompts: Sequence[Prompt], format: str | Format, dtype: str) -> str:
    """What shards are of, as their names begin."""
    whole = [*numbers_of(model), list(map(_identified, prompts)), format_key(format), HOLDS]
    return f"{digest(whole)[:LENGTH]}-{dtype}"
