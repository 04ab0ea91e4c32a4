"""The command about models: families, and what a model takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ..elsewhere import added, loaded, where
from ..errors import PluginError, SettingError
from .options import AsJson, Dtype, Quantize, Revision
from .terminal import clear_errors, print_json, print_table, say


def models(
    name: Annotated[
        str | None, typer.Argument(help="Alias, Hub id or folder: its layers and size alone, before loading.")
    ] = None,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    revision: Revision = None,
    peft: Annotated[
        bool, typer.Option("--peft", help="What a LoraConfig has to name, so that adapters reach the routed experts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Families of models, and what works for each; others are found by structure, or refused with the reason."""
    if peft:
        with clear_errors():
            if name is None:
                raise SettingError("Expected a model beside --peft, got none; write c3po models NAME --peft.")
            if (point := added("peft_targets")) is None:
                raise PluginError(f"Expected plugins/experts for --peft, got none; {where('experts', 'command')}")
            targets = loaded(point, "peft_targets")(name, revision)
            if as_json:
                print_json({"name": name} | asdict(targets))
            else:
                say(targets)
        return
    if name is not None:
        with clear_errors():
            from ..models.loading import model_footprint

            footprint = model_footprint(name, dtype=dtype, quantize=quantize, revision=revision)
            if as_json:
                print_json({"name": name} | asdict(footprint))
            else:
                experts = "" if footprint.n_experts is None else f" of {footprint.n_experts} experts"
                used = "" if footprint.top_k is None else f", {footprint.top_k} a token"
                say(f"{len(footprint.layers)} MoE layers{experts}{used}; {footprint}")
        return
    from ..models.family_table import ABILITIES, families, image_families, reason

    text, shown = families(), image_families()
    known = dict(sorted((text | {name: text.get(one["text"], {}) for name, one in shown.items()}).items()))
    images = {name: shown[name]["images"] if name in shown else False for name in known}
    if as_json:
        print_json([{"family": family} | row | {"images": images[family]} for family, row in known.items()])
        return
    rows = []
    for family, row in known.items():
        works = ["yes" if able is True else "no" for able in (*map(row.get, ABILITIES), images[family])]
        why = "" if images[family] in (True, False) else f"images: {images[family]}"
        rows.append([family, *works, str(row.get("layout", "")), reason(row) or why])
    print_table(("family", *ABILITIES, "images", "tails", "note"), rows)
