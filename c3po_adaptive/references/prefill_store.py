"""The prefill store: what a reference's tail starts from, computed once, kept on disk beside the set, read as needed.

A store is a folder of shards (safetensors, memory-mapped) with a card that names the model, the format and a hash of
the prompts it was made with, and every shard. Shards are written with a checksum, one at a time: an interrupted build
resumes, one that does not hold is computed again, and of two processes that build the same store the last card names
files of its own.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from cachetools import LRUCache
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import DataError, SettingError, disk_says
from ..models.fingerprint import fingerprint
from ..progress import Progress, silent
from ..routing.caches import CacheSlice
from ..routing.given import Given
from ..routing.packing import Layout, layout_for, pack
from ..routing.states import State, tangent_of
from ..storage.checksummed import TENSORS, checksummed_files, save_checksummed, verify_checksum
from ..storage.files import is_file, is_folder, is_own, is_there, write_text
from ..storage.identity import digest, routing_versions
from ..storage.json_files import Ours, checked, read_json
from ..tasks.formats import Format, format_key
from ..types import Prompt
from .build import SHARD, Shards
from .reference_set import ReferenceSet

if TYPE_CHECKING:
    from ..models.routed import RoutedModel

CARD, BEGUN = "card.json", "card.begun.json"
"""Of a store, and of one that is begun where another lies, which stays until it is made."""
FIRST = "[0-9]" * 7
GIVEN = "given/"  # before names of what pictures became
HOLDS = "states, router inputs and tangents"  # a store that holds anything else is made anew
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

    A store of another model, format, set or dtype stays until this one is made, and is then deleted.

    Args:
        references: the set; only its successful references are run.
        model: runs them.
        folder: where the store is kept.
        format: how questions are put.
        dtype: of hidden states and caches on disk; None: the model's, with which results are the same.
        progress: wraps the iteration over shards, to show how far it is.
        compute: computes shards elsewhere (see ``study.reference_shards``); by default the model here does.

    Raises:
        DataError: the folder cannot be written, is a link, or holds what is no store's.
    """
    folder, successes = Path(folder), references.successes
    prompts = [model.encode(q, format) for q in successes.questions]
    wanted = _card(model, prompts, format, dtype or model.model.dtype)
    _check_own(folder)
    known = [one for name in (CARD, BEGUN) if (one := _read_card(folder / name)) is not None]
    files = next((dict(one.files) for one in known if _identity(one) == wanted), {})
    card = folder / (CARD if all(_identity(one) == wanted for one in known) else BEGUN)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected a folder to keep states in, got {folder}: {disk_says(error)}; move that away."
        ) from error
    missing = [i for i in range(0, len(prompts), SHARD) if _why_not(folder, str(i), files)]
    run = compute or partial(_shards, model, prompts, dtype)
    for i, tensors in progress(run(missing), "references", len(missing)):
        files[str(i)] = _written(folder, i, tensors)
        write_text(card, _as_text(wanted, files))
    if is_there(folder / BEGUN):
        write_text(folder / CARD, _as_text(wanted, files))
        _forget_others(folder, files)
    return PrefillStore(folder, model, prompts)


def _check_own(folder: Path) -> None:
    """Refuse a folder where shards and cards could not be told from what is another's.

    Raises:
        DataError: it is a link, or holds links or folders of such names.
    """
    if os.path.islink(folder):
        raise DataError(
            f"Expected a folder to keep states in, got {folder}, a link, which is not followed, as what it leads to "
            "may be another set's; name the folder itself, or move the link away."
        )
    shards = checksummed_files(folder, FIRST, TENSORS) if is_folder(folder) else []
    others = [path for path in (*shards, folder / CARD, folder / BEGUN) if is_there(path) and not is_own(path)]
    if others:
        raise DataError(f"Expected shards of states in {folder}, got {others[0].name}, which is no file; move it away.")


def _forget_others(folder: Path, files: Mapping[str, str]) -> None:
    """Delete the shards that the card does not name, and that of what was begun: last, as until then it is not done.

    Raises:
        DataError: one cannot be deleted.
    """
    others = [path for path in checksummed_files(folder, FIRST, TENSORS) if path.name not in files.values()]
    try:
        for path in (*others, folder / BEGUN):
            path.unlink()
    except OSError as error:
        raise DataError(
            f"Expected to delete {path}, of the store before, got: {disk_says(error)}; build again to go on."
        ) from error


def _shards(
    model: RoutedModel, prompts: Sequence[Prompt], dtype: torch.dtype | None, firsts: Sequence[int]
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    for i in firsts:
        yield i, state_shard(model, prompts[i : i + SHARD], dtype)


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
    card = _read_card(folder / CARD)
    if card is None:
        return None
    prompts = [model.encode(q, format) for q in references.successes.questions]
    complete = len(card.files) == -(-len(prompts) // SHARD)
    if _identity(card) != _card(model, prompts, format, getattr(torch, card.dtype)) or not complete:
        warnings.warn(
            f"{folder} is of another model, format, set or release, or not complete; {REBUILD}.", stacklevel=2
        )
        return None
    return PrefillStore(folder, model, prompts, budget)


@dataclass(eq=False)
class PrefillStore:
    """States on disk by prompt.

    Attributes:
        folder: of the shards.
        model: whose they are.
        prompts: of the references, in order.
        budget: bytes of states that are kept in memory, least recently used first out.
    """

    folder: Path
    model: RoutedModel
    prompts: Sequence[Prompt]
    budget: int = 2**30

    @property
    def written(self) -> int:
        """When, so that one that was built anew is another."""
        return (self.folder / CARD).stat().st_mtime_ns

    def __post_init__(self) -> None:
        self._rows = {prompt: i for i, prompt in enumerate(self.prompts)}
        self._open: dict[int, Any] = {}
        self._begin()
        card = _read_card(self.folder / CARD)
        if card is None:
            raise DataError(f"Expected a prefill store (a folder with {CARD}) at {self.folder}; {REBUILD}.")
        self._files: Mapping[str, str] = card.files
        self._of = (card.model_extra or {}).get("model")

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
        packed = pack(prompt, layout, given=_given(named, prompt, like.final.device, dtype))
        cache = zip(like.cache if packed.past else (), range(len(like.cache)), strict=False)
        state = State(
            prompt,
            packed,
            tuple(CacheSlice(kept.shell, _cached(named, i, kept, dtype)) for kept, i in cache),
            named["entry"].to(like.entry.device, dtype),
            named["own"],
            named["router"],
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
            if why := _why_not(self.folder, str(first), self._files):
                raise DataError(why)
            self._open[first] = safe_open(self.folder / self._files[str(first)], "pt")
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


def _given(named: Mapping[str, Tensor], prompt: Prompt, place: torch.device, dtype: torch.dtype) -> Given | None:
    """What the pictures of a prompt became, as far as its tail needs it."""
    if prompt.extra is None:
        return None
    kept = {name.removeprefix(GIVEN): t for name, t in named.items() if name.startswith(GIVEN)}
    embeddings, deep = (kept[name].to(place, dtype) if name in kept else None for name in ("embeddings", "deep"))
    sees = {name.removeprefix("sees/"): seen for name, seen in kept.items() if name.startswith("sees/")}
    return Given(embeddings, kept.get("positions"), deep, prompt.extra.shown, kept["flops"].item(), sees)


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
    named |= {"router_input": state.router_input, "scores": state.token_scores}
    named["final"] = state.final.to(dtype)
    if state.tangent is not None:
        named |= {"normalizer": state.tangent.normalizer, "slope": state.tangent.slope.to(dtype)}
    if (given := state.packed.given) is not None:
        parts = {"embeddings": given.embeddings, "positions": given.positions, "deep": given.deep}
        parts |= {f"sees/{kind}": seen for kind, seen in given.sees.items()}
        named |= {GIVEN + name: part for name, part in parts.items() if part is not None}
        named[GIVEN + "flops"] = torch.tensor(given.flops, dtype=torch.float64)
    for i, kept in enumerate(state.cache):
        for key, tensor in kept.tensors.items():
            name = key if isinstance(key, str) else f"{key[0]}/{key[1]}"
            named[f"cache/{i}/{name}"] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return named


def _written(folder: Path, first: int, tensors: Mapping[str, Tensor]) -> str:
    """Write a shard, whole or not at all; its name."""
    try:
        return save_checksummed(tensors, folder, f"{first:07d}").name
    except OSError as error:
        raise DataError(
            f"Could not write to {folder}: {disk_says(error)}; free the disk, and build again to resume."
        ) from error


def _why_not(folder: Path, first: str, files: Mapping[str, str]) -> str:
    """What is wrong with a shard of a card; "" if it holds what was written."""
    name = files.get(first, "")
    if Path(name).name != name or not name.startswith(f"{first:0>7}."):
        return f"{folder / CARD}: expected the shard of reference {first}, got {name!r}; {REBUILD}."
    try:
        verify_checksum(folder / name, REBUILD)
    except DataError as error:
        return str(error)
    return ""


def damaged(folder: Path) -> list[str]:
    """What is wrong with the shards of a store, one by one; of none, or one of another release, nothing is used.

    Raises:
        DataError: its card is none of ours.
    """
    card = _read_card(folder / CARD)
    files = {} if card is None or "prompts" not in (card.model_extra or {}) else card.files
    return [why for first in files if (why := _why_not(folder, first, files))]


def _as_text(card: Mapping[str, object], files: Mapping[str, str]) -> str:
    return json.dumps({**card, "files": files}, indent=1)


def _identity(card: PrefillStoreCard) -> dict[str, object]:
    return card.model_dump(exclude={"files"})


def _identified(prompt: Prompt) -> list[object]:
    shown = [] if prompt.extra is None else [prompt.extra.digest]
    return [prompt.ids, prompt.options, prompt.lengths, prompt.given, prompt.after, *shown]


def _card(model: RoutedModel, prompts: Sequence[Prompt], format: str | Format, dtype: torch.dtype) -> dict[str, object]:
    return {
        "model": fingerprint(model),
        "prompts": digest(list(map(_identified, prompts))),
        "format": format_key(format),
        "dtype": str(dtype).removeprefix("torch."),
        "holds": HOLDS,
        "versions": routing_versions(),
    }


class PrefillStoreCard(Ours):
    """the card of a prefill store"""

    dtype: Literal["float32", "bfloat16", "float16", "float64"]
    files: dict[str, str]


def _read_card(path: Path) -> PrefillStoreCard | None:
    if not is_file(path):
        return None
    card = read_json(path, REBUILD)
    if isinstance(card, dict) and "embedder" in card:
        raise DataError(
            f"{path.parent} holds a reference set; name another folder for its states, such as {path.parent / 'warm'}."
        )
    if isinstance(card, dict) and {"model", "set", "format"} <= card.keys() and not {"files", "dtype"} <= card.keys():
        return None  # of a release that kept something else
    return checked(PrefillStoreCard, card, str(path), REBUILD)
