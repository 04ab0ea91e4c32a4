"""A Mixture-of-Experts model as it is held: what it is, which prompts it can read, and that it is still the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from typing import Any, Protocol, cast

from cachetools import LRUCache, RRCache
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import DataError, ModelError, SettingError
from ..ledger import Entry
from ..routing.dense_experts import forget_flat
from ..routing.flops import Flops, measure
from ..routing.generation import Written
from ..routing.head import can_choose, check_head
from ..routing.image_inputs import ImageInputs, image_inputs_of
from ..routing.modules import answering, forget_modules, lock_of
from ..routing.packing import Packed, caches_keys, layout_for, pack
from ..routing.sites import Site, decoder_layers, decoder_of, find_sites
from ..routing.states import State
from ..tasks.formats import Format, as_format, raw_text, raw_text_with
from ..tasks.pictured import pictures_of
from ..types import Head, PathwayKind, Prompt, Question
from .architecture import longest_prompt
from .fingerprint import computed, fingerprint
from .footprint import available
from .snapshot import Snapshot

KEPT = 4096  # answers that the model wrote by itself


class KnownFault(Protocol):
    """What is known to be wrong with a model."""

    def truth(self, model: Any, states: Sequence[State], kind: PathwayKind) -> Any:
        """What it did to prompts that the ``RoutedModel`` prefilled, a ``FaultTruth``."""


@dataclass(eq=False)
class HeldModel:
    """What a ``RoutedModel`` is, beside what it runs; its attributes are described there."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str = ""
    cache_bytes: int | None = None
    processor: Any = None
    sites: tuple[Site, ...] = field(init=False)
    flops: Flops = field(init=False)
    letters_alone: bool = field(init=False)
    snapshot: Snapshot = field(init=False)
    fault: KnownFault | None = field(default=None, init=False)
    reads_no_images: str = field(default="it is a model of text alone", init=False)

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)
        for module in self.model.modules():  # bitsandbytes' packed CPU weights give wrong gradients (0.50)
            if hasattr(module, "support_avx512bf16_for_cpu"):
                cast(Any, module).support_avx512bf16_for_cpu = False
        if self.cache_bytes is None:
            self.cache_bytes = available(None) // 4 if self.model.device.type == "cpu" else 2**30
        self._find()
        self._begin()
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "left"

    def _find(self) -> None:
        """What its modules tell."""
        self.sites = find_sites(self.model)
        check_head(self.model)
        self.letters_alone = can_choose(self.model)
        self.flops = measure(self.model, self.sites)

    def _begin(self) -> None:
        """With nothing in memory, of the model as it is."""
        self._states: RRCache[tuple[Prompt, bool], State] = RRCache(
            cast(int, self.cache_bytes), Random(0).choice, lambda s: s.nbytes
        )
        self._written: LRUCache[Prompt, Written] = LRUCache(KEPT)
        self.snapshot = Snapshot(self.model)

    def __repr__(self) -> str:
        """In a few lines, without the modules, which fill many screens."""
        config = self.model.config.get_text_config()
        layers, devices = self.layers, sorted({str(p.device) for p in self.model.parameters()})
        in_a_row = layers == tuple(range(layers[0], layers[0] + len(layers))) and len(layers) > 2
        where = f"{layers[0]} to {layers[-1]}" if in_a_row else ", ".join(map(str, layers))
        used = "/".join(map(str, sorted({site.top_k for site in self.sites})))
        return (
            f"RoutedModel({self.name!r}: {type(self.model).__name__} of the family {config.model_type},\n"
            f"  {len(self.layers)} MoE layers ({where}) of {config.num_hidden_layers}, "
            f"{self.n_experts} experts, top-{used},\n"
            f"  {self.model.num_parameters():,} parameters in {str(self.model.dtype).removeprefix('torch.')} on "
            f"{', '.join(devices)})"
        )

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held by whoever runs the model; the same thread may take it again."""
        lock: AbstractContextManager[Any] = lock_of(self.model)
        return lock

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Held by what answers: the ``lock``, with all modules in evaluation mode, and nothing in memory that is of
        other weights or modules than the model has now."""
        with answering(self.model) as modules:
            if modules is not None and not self.snapshot.holds(modules):
                if not self.snapshot.same_layers(modules):
                    self._find()
                self._begin()
            yield

    def forget(self) -> None:
        """Forget all that is cached in memory, as after a change that is seen: for changes that are not, such as writes
        through ``.data``, hooks, offloaded weights and the configuration (``Snapshot`` lists them). Weights are
        fingerprinted anew; hooks and the configuration are not in a fingerprint, so build references anew after those.
        """
        with self.lock:
            forget_modules(self.model)
            forget_flat(self.model)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Held by what puts something else in its places for a while, such as a training: every weight is read again.

        Raises:
            ModelError: it is not as it was, bit for bit.
        """
        before = self.fingerprint
        try:
            yield
        finally:
            if computed(self.model) != before:
                raise ModelError(
                    f"Expected {type(self.model).__name__} to be as it was after training, bit for bit, got other "
                    "weights; load the model anew, and report this."
                )

    @property
    def decoder(self) -> nn.Module:
        """What runs its decoder layers."""
        return decoder_of(self.model)

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """Its decoder layers, in order."""
        return decoder_layers(self.model)

    @property
    def caches_keys(self) -> bool:
        """Whether all that its layers keep of a prompt are keys and values, so that it can be continued from these."""
        return caches_keys(self.model)

    @property
    def layers(self) -> tuple[int, ...]:
        """Decoder layer index of each of the L MoE layers."""
        return tuple(s.layer for s in self.sites)

    @property
    def n_experts(self) -> int:
        return self.sites[0].n_experts

    @property
    def known_fault(self) -> KnownFault:
        """The fault that was planted in it.

        Raises:
            SettingError: it has none that is known.
        """
        if self.fault is None:
            raise SettingError(
                f"Expected a model with a known fault, got {self.name!r}; plant one by c3po fault, or by a study of "
                "kind: faults."
            )
        return self.fault

    @property
    def fingerprint(self) -> str:
        """Identifies it by every weight; cached until one of them is written to."""
        return fingerprint(self)

    @property
    def max_length(self) -> int:
        """The longest prompt with an option that is run."""
        return longest_prompt(self.model.config)

    def head_for(self, wanted: Head) -> Head:
        """The way to the head that this model supports: all of it if it cannot be run for some entries only."""
        return wanted if self.letters_alone else "full"

    @property
    def pad(self) -> int:
        """What fills a batch where nothing is read: it is masked, so any token does that the embedding has."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((token for token in known if token is not None and token < self._rows), 0)

    @property
    def _rows(self) -> int:
        return int(cast(Any, self.model.get_input_embeddings()).weight.shape[0])

    def encode(self, question: Question, format: str | Format = "cloze") -> Prompt:
        """The tokens of a question and its options, with its images.

        Raises:
            DataError: longer than the model's context, an option without tokens, tokens that the model does not know,
                or images that cannot be read.
        """
        if question.images and self.processor is None:
            raise DataError(
                f"Question {question.id!r}: expected no images, as {self.name!r} reads none ({self.reads_no_images}); "
                "leave them out, or load a checkpoint with its processor, of a family that c3po models lists with "
                "images."
            )
        return self._known(as_format(format).prompt(question, self.tokenizer, self.max_length, self.processor))

    def encode_text(self, text: str) -> Prompt:
        """The tokens of raw text; a pathway acts on the last one. Pictures that it brings (``description``) stand in
        front of it, where the model reads them."""
        if self.processor is None or not (pictures := pictures_of(text)):
            return self._known(raw_text(text, self.tokenizer, max_length=self.max_length))
        return raw_text_with(text, pictures, self.tokenizer, self.processor, max_length=self.max_length)

    def _known(self, prompt: Prompt) -> Prompt:
        """It, unless it has tokens that the model's embedding has no rows for; pictures' are replaced before."""
        most = max(chain(prompt.ids, *prompt.options))
        if prompt.extra is None and most >= self._rows:
            raise DataError(
                f"Expected tokens below {self._rows}, the rows of the embedding of {self.name!r}, got {most} "
                f"({self.tokenizer.decode([most])!r}); load the model with its own tokenizer."
            )
        return prompt

    def plain_work(self, prompt: Prompt) -> Entry:
        """What a prompt's plain answer takes, found without running it, but for what comes of its pictures."""
        with self.answering():
            images = image_inputs_of(self.model, prompt)
        return self.flops.prefill(self.packed(prompt, images))

    def packed(self, prompt: Prompt, images: ImageInputs | None = None) -> Packed:
        """A prompt's tail as it is run, by which ``flops`` tells what work it is; ``images`` is what its pictures
        become."""
        return pack(prompt, layout_for(self.model, prompt), images=images)
