"""Load a Mixture-of-Experts model: embedded, by alias, from the Hub or a folder, whole or spread over devices."""

from __future__ import annotations

import pickle
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import reduce
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from huggingface_hub import constants, get_session, try_to_load_from_cache
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .. import elsewhere
from ..errors import ArtifactError, C3POError, ModelError, SettingError, checked_call, suggestion
from ..routing.dense_experts import run_densely_if_narrow
from ..storage.files import is_file, is_folder
from ..storage.folders import cache_folder
from .architecture import language_model_class, that_answers
from .footprint import BITS, Footprint, as_dtype, check_memory, footprint
from .in_memory import as_routed, check_tokenizer
from .names import ALIASES, EMBEDDED, MERGED, VARIANTS, ours
from .processors import processor_of
from .routed import RoutedModel

LONGEST_REASON = 800  # characters of another library's error that are shown
REACHED = 10.0  # seconds that the Hub has to answer at all
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
DTYPES = ("auto", "float32", "bfloat16", "float16")
SCALE = re.compile(r"\.weight_scale|\.SCB$")
"""Names of what quantized weights of a plain shape are multiplied by."""
BESIDE = "c3po_adaptive.beside"
"""What is known of checkpoints by a file beside their weights: entry points of this group by the file's name, functions
of the folder, called before it is loaded, that give one from the model that was loaded to the model with what is known
of it."""
DeviceMap = dict[str, int | str | torch.device]
"""Where each part of a model goes, by the name of its module; "" is all of it."""


class Fetching(TypedDict, total=False):
    """What every file of a checkpoint is asked for with."""

    revision: str | None
    trust_remote_code: bool


@checked_call
def load_moe_model(
    name_or_path: str | Path | nn.Module = EMBEDDED,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    device_map: str | DeviceMap | None = None,
    quantize: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> RoutedModel:
    """Load a causal MoE language model with its tokenizer, frozen and in evaluation mode; one that reads images with
    its processor, where that is there.

    Args:
        name_or_path: ``smollm2-moe`` (embedded), ``smollm2-moe-merged`` (its experts behind routers made of prompts),
            a variant of it that an installed package brings (``VARIANTS``), such as ``smollm2-moe-misrouted``, an alias
            such as ``OLMoE`` or ``DeepSeekMoE``, any Hub id, or a local folder; or a model of transformers that is in
            memory, as it is.
        dtype: a torch dtype or its name; ``auto`` keeps the checkpoint's.
        device: where the whole model goes (``cuda``); ``auto`` spreads it over all devices, the CPU and the disk.
        device_map: where each part goes, as accelerate has it (``auto``, or by module name). Not with device.
        quantize: linear layers in 4 or 8 bits, by bitsandbytes; transformers leaves experts in the dtype.
        revision: branch, tag or commit of a Hub id.
        trust_remote_code: run code that comes with the checkpoint.
        tokenizer: of a model that is in memory; of any other one, in place of the checkpoint's.

    Raises:
        ModelError: the model cannot be loaded, does not fit, lacks weights, is dense, or its routing cannot be reached.
        SettingError: an unknown dtype or quantization, both device and device_map, or a revision of a folder.
        ArtifactError: the embedded model's files can neither be found nor fetched.
        DataError: what an installed package knows of the folder is broken, such as the truth of ``c3po fault``.
    """
    if not isinstance(name_or_path, str | Path):
        _check_as_it_is(dtype, device, device_map, quantize, revision)
        return as_routed(name_or_path, tokenizer)
    name = str(name_or_path)
    if tokenizer is not None:
        check_tokenizer(tokenizer, repr(name))
    _check_settings(dtype, device, device_map, quantize)
    if (made := _variant(name)) is not None:
        given: dict[str, Any] = {"device": device, "device_map": device_map, "revision": revision}
        return made(load_moe_model(EMBEDDED, dtype=dtype, quantize=quantize, tokenizer=tokenizer, **given))
    source = source_of(name)
    _check_name(name)
    options = Fetching(revision=revision, trust_remote_code=trust_remote_code)
    placed = device_map
    if device is not None and device != "cpu":  # straight to where it goes, without all of it passing the CPU
        placed = "auto" if device == "auto" else {"": device}
    beside = [point.load()(Path(source)) for point in _beside(Path(source))]
    try:
        _check_reachable(source, revision)
        config = that_answers(AutoConfig.from_pretrained(source, **options))
        if device_map is None and device != "auto" and not hasattr(config, "quantization_config"):
            check_memory(name, footprint(config, dtype, quantize, trust_remote_code=trust_remote_code), device)
        tokenizer = _tokenizer(source, options) if tokenizer is None else tokenizer
        model = weights(source, config, dtype, placed, _quantization(quantize, dtype), options)
    except C3POError:
        raise
    except Exception as error:  # transformers checks little: a broken configuration may fail anywhere, and in any way
        if name == EMBEDDED:
            raise ArtifactError(f"Could not read {source}: {error}\nDelete that folder; it is built again.") from error
        raise ModelError(
            f"Could not load {source!r}: {briefly(error)}\nExpected {EMBEDDED!r}, one of {', '.join(ALIASES)}, a Hub "
            "id you may access, or a folder written by save_pretrained."
        ) from error
    known = getattr(model.config, "_commit_hash", None)  # transformers 5.24 no longer says it
    cast(Any, model.config)._commit_hash = known or _commit(source, revision)
    processor, reason = processor_of(source, config, **options)
    if processor is not None:  # older checkpoints have the template of chats beside the processor alone
        tokenizer.chat_template = tokenizer.chat_template or processor.chat_template
        processor.tokenizer = tokenizer
    routed = RoutedModel(model, tokenizer, name=name, processor=processor)
    routed.reads_no_images = reason
    run_densely_if_narrow(model, routed.sites)
    return reduce(lambda model, known: known(model), beside, routed)


def _variant(name: str) -> Callable[[RoutedModel], RoutedModel] | None:
    """What makes a model of that name of the embedded one; None: it is no such model."""
    if name == MERGED:
        from .embedded.merged import merged

        return merged
    return next((point.load() for point in entry_points(group=VARIANTS, name=name)), None)


def _beside(folder: Path) -> list[EntryPoint]:
    """What knows of files that lie beside a folder's weights."""
    return [point for point in sorted(entry_points(group=BESIDE)) if is_file(folder / point.name)]


def _commit(source: str, revision: str | None) -> str | None:
    """The commit of the Hub that was loaded, which its cache knows; None of a folder."""
    if is_folder(Path(source)):
        return None
    found = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def briefly(error: Exception) -> str:
    """What a library says, without the page that torch and pickle add to it."""
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are pickled, and run code where they are not plain tensors; convert them to safetensors."
    said = str(error).strip() or "no reason given"
    kind = "" if isinstance(error, (OSError, ValueError, ImportError)) else f"{type(error).__name__}: "
    return kind + (said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}…")


def _check_name(name: str) -> None:
    """Refuse what is meant as one of our names, or as a folder, and is none, before a hub is asked for it."""
    if name in (*ours(), *ALIASES) or is_folder(Path(name)):
        return
    if is_file(Path(name)):
        raise ModelError(
            f"Expected a model's folder, got the file {name}; name the folder that its config.json lies in."
        )
    if name.startswith(("/", ".", "~")):
        raise ModelError(f"Expected a folder written by save_pretrained, got {name}, which there is not.")
    if "/" in name:
        return
    here = [config.parent.name for config in Path().glob("*/config.json")]
    if hint := elsewhere.where(name, "model") or suggestion(name, (*ours(), *ALIASES, *here), ""):
        raise ModelError(f"Expected an alias, a Hub id or a folder, got {name!r}; {hint}")


def _check_reachable(source: str, revision: str | None) -> None:
    """Refuse a Hub id that is not cached here while no Hub may be asked, or none answers: it is asked once, where its
    library asks six times.

    Raises:
        ModelError: with what to do.
        SettingError: a revision of a folder, which has none.
    """
    if revision is not None and is_folder(Path(source)):
        raise SettingError(f"Expected no revision of {source}, which is a folder, got {revision!r}; leave it out.")
    if is_folder(Path(source)) or isinstance(try_to_load_from_cache(source, "config.json", revision=revision), str):
        return
    expected = f"Expected {source!r} in the Hub's cache here"
    here = f"name a local folder (config.json is enough to plan) or {EMBEDDED!r}, which needs no network."
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{expected}, as HF_HUB_OFFLINE is set, but it is not there; unset that to fetch it, or {here}"
        )
    try:
        get_session().head(constants.ENDPOINT, timeout=REACHED)  # any answer will do
    except Exception as error:  # of whichever client the Hub's library has
        raise ModelError(
            f"{expected}, or from the Hub, but {constants.ENDPOINT} could not be reached: {briefly(error)}; "
            f"connect, set HF_ENDPOINT to a mirror, or {here}"
        ) from error


def source_of(name: str) -> str:
    """What transformers loads by: a folder or a Hub id."""
    if name in ours():
        from .embedded.builder import build

        return str(build())
    return ALIASES.get(name, name)


def _check_as_it_is(dtype: object, *others: object) -> None:
    """Refuse to say how a model is loaded that is in memory."""
    if dtype != "auto" or any(other is not None for other in others):
        raise SettingError(
            "Expected a model in memory to be taken as it is, got dtype, device, device_map, quantize or revision "
            "beside it; leave them out, or load it by its name."
        )


def _check_settings(
    dtype: str | torch.dtype, device: str | None, device_map: str | DeviceMap | None, quantize: str | None
) -> None:
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise SettingError(f"Expected a dtype, got {dtype!r}; {suggestion(dtype, DTYPES)}")
    if device is not None and device_map is not None:
        raise SettingError("Expected device or device_map, got both; device_map already says where each part goes.")
    if quantize is not None and quantize not in BITS:
        hint = suggestion(str(quantize), BITS, "choose one of these, or None.")
        raise SettingError(f"Expected bits for quantize, got {quantize!r}; {hint}")
    if device not in (None, "auto"):
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise SettingError(
                f"Expected a device that is there (cpu, cuda, cuda:1, mps) or auto, got {device!r}: {error}."
            ) from error


def _quantization(quantize: str | None, dtype: str | torch.dtype) -> BitsAndBytesConfig | None:
    if quantize is None:
        return None
    compute = torch.bfloat16 if dtype == "auto" else as_dtype(dtype)
    return BitsAndBytesConfig(
        load_in_4bit=quantize == "4bit", load_in_8bit=quantize == "8bit", bnb_4bit_compute_dtype=compute
    )


def weights(
    source: str,
    config: PreTrainedConfig,
    dtype: str | torch.dtype,
    placed: str | DeviceMap | None,
    quantization: BitsAndBytesConfig | None,
    options: Fetching,
) -> PreTrainedModel:
    """The model; a checkpoint that leaves parameters to chance is refused.

    Raises:
        ValueError: parameters are missing, of another shape, or quantized in a way that nothing says.
    """
    more: dict[str, object] = {} if quantization is None else {"quantization_config": quantization}
    folder = None
    if placed is not None:  # parts on the disk stay there as long as the model lives
        (cache_folder() / "offload").mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=cache_folder() / "offload")
        more |= {"device_map": placed, "offload_folder": folder}
    try:
        model, report = language_model_class(config).from_pretrained(  # kernels of the Hub compute other digits
            source, config=config, dtype=dtype, output_loading_info=True, use_kernels=False, **options, **more
        )
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if folder is not None:
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacking:
        others = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise ValueError(
            f"its weights do not fit its configuration: {', '.join(lacking[:3])}{others} missing or misshapen"
        )
    if scales := [key for key in sorted(report["unexpected_keys"]) if SCALE.search(key)]:
        raise ValueError(
            f"its weights are quantized ({scales[0]}), of which its configuration has no quantization_config; they "
            "would be read as plain numbers"
        )
    return cast(PreTrainedModel, model)


def model_footprint(
    name_or_path: str,
    *,
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    revision: str | None = None,
) -> Footprint:
    """The sizes of a model by alias, Hub id or folder; only its configuration is read.

    Raises:
        ModelError: there is no configuration of a causal language model, or it is of a dense one.
        SettingError: an unknown dtype or quantization.
    """
    _check_settings(dtype, None, None, quantize)
    return footprint(model_config(name_or_path, revision), dtype, quantize)


def model_config(name_or_path: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a model by alias, Hub id or folder; no weights have to be there.

    Raises:
        ModelError: there is none, or not of a causal language model.
    """
    _check_name(name_or_path)
    source = source_of(name_or_path)
    try:
        _check_reachable(source, revision)
        config = that_answers(AutoConfig.from_pretrained(source, revision=revision))
        with torch.device("meta"):
            language_model_class(config).from_config(config)
    except C3POError:
        raise
    except Exception as error:  # as above
        raise ModelError(
            f"Could not read the configuration of {source!r}: {briefly(error)}\nExpected a Hub id that can be reached, "
            "or a folder with the model's config.json, which is enough to plan."
        ) from error
    return config


def _tokenizer(source: str, options: Fetching) -> PreTrainedTokenizerBase:
    """A checkpoint's own.

    Raises:
        ModelError: its folder has none.
        ValueError: it gives no tokens.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if not tokenizer("a")["input_ids"]:
            raise ValueError("its tokenizer gives no tokens; are all of the tokenizer's files there?")
    except Exception as error:
        if has_tokenizer(source):  # another reason, or a Hub id, whose files are not seen here
            raise
        raise ModelError(
            f"Expected a tokenizer in {source} ({', '.join(TOKENIZERS)}), got none of its files; write it there with "
            "tokenizer.save_pretrained, or pass tokenizer=… in Python."
        ) from error
    return cast(PreTrainedTokenizerBase, tokenizer)


def has_tokenizer(name_or_path: str) -> bool:
    """Whether a model has one: a folder may hold a configuration alone."""
    source = Path(source_of(name_or_path))
    return not is_folder(source) or any(is_file(source / name) for name in TOKENIZERS)


def load_tokenizer(name_or_path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model by alias, Hub id or folder, alone.

    Raises:
        ModelError: it cannot be read.
    """
    source = source_of(name_or_path)
    try:
        _check_reachable(source, revision)
        return _tokenizer(source, Fetching(revision=revision))
    except C3POError:
        raise
    except Exception as error:  # as above
        raise ModelError(f"Could not read the tokenizer of {source!r}: {briefly(error)}") from error
