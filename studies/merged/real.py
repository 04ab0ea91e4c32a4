"""Merges by the real tool: ``mergekit-moe`` puts fine-tunes together behind routers made of prompts, as it does for
anybody, from a YAML file. The folder is as the tool left it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import yaml

from c3po_adaptive.errors import ArtifactError, ModelError
from c3po_adaptive.storage.folders import new_folder

from .finetunes import DONOR, FAMILIES, finetune, folder_of
from .prompt_routers import Mode
from .prompts import negatives, prompts

_MODES = "|".join(mode for mode in get_args(Mode) if mode != "random")
_NAME = re.compile(
    rf"real-(?:(?P<mode>{_MODES})-(?P<number>[1-9]\d*)-(?P<draw>\d+)(?P<also>-negative)?|random-(?P<seed>\d+))"
)


@dataclass(frozen=True)
class Merge:
    """What a name says.

    Attributes:
        mode: of the routers, the tool's ``gate_mode``.
        number: prompts an expert; ``random`` looks at none.
        draw: of prompts, and of ``random``.
        negative: as many prompts of others, too.
    """

    mode: str
    number: int
    draw: int
    negative: bool


def merge_named(name: str) -> Merge | None:
    """The merge that a case's name means; None: it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    if found["mode"] is None:
        return Merge("random", 2, int(found["seed"]), negative=False)
    return Merge(found["mode"], int(found["number"]), int(found["draw"]), negative=bool(found["also"]))


def make_merge(merge: Merge, kinds: Path, dense: Path, out: Path) -> None:
    """Fine-tune what is not in ``dense`` yet, and have the tool merge it into a new folder ``out``.

    Raises:
        ArtifactError: the tool is not installed.
        ModelError: it gave up.
    """
    if find_spec("mergekit") is None:
        raise ArtifactError("Expected mergekit, which is not installed; pip install 'c3po_adaptive[merge]'.")
    finetune(FAMILIES, kinds, dense)
    every = prompts(kinds, merge.number, merge.draw)
    positive = {family: every[family] for family in FAMILIES}
    negative = negatives(positive, merge.draw) if merge.negative else None
    with tempfile.TemporaryDirectory() as scratch, new_folder(out, "folder for a merge") as folder:
        config = Path(scratch) / "merge.yaml"
        said = config_of(merge.mode, dense, positive, negative)
        config.write_text(yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
        run_the_tool(config, folder, merge.draw)


def config_of(
    mode: str, dense: Path, positive: Mapping[str, Sequence[str]], negative: Mapping[str, Sequence[str]] | None
) -> dict[str, Any]:
    """What the tool reads. Experts a token and the architecture, Mixtral, are its defaults."""
    experts = []
    for family, texts in positive.items():
        expert = {"source_model": str(folder_of(family, dense).resolve()), "positive_prompts": list(texts)}
        experts.append(expert | ({} if negative is None else {"negative_prompts": list(negative[family])}))
    base = str(folder_of(DONOR, dense).resolve())
    return {"base_model": base, "gate_mode": mode, "dtype": "float32", "experts": experts}


def run_the_tool(config: Path, folder: Path, seed: int) -> None:
    """``mergekit-moe CONFIG FOLDER``, in this Python; what it says goes to the terminal.

    Raises:
        ModelError: it gave up.
    """
    done = subprocess.run(
        [sys.executable, "-m", "mergekit.scripts.moe", str(config), str(folder), "--random-seed", str(seed)]
    )
    if done.returncode:
        raise ModelError(f"Expected mergekit-moe to merge the models, it gave up (exit {done.returncode}); see above.")
