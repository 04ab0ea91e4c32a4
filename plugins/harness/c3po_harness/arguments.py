"""What evaluation harnesses name on their command lines: a model, and how it is re-mixed, or its rule."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from c3po_adaptive import (
    DataError,
    Optimizer,
    Registry,
    RemixSettings,
    RoutedModel,
    SettingError,
    load_moe_model,
    new_registry,
    preset_named,
    public_name,
    router_tensors,
    rule_named,
    with_tensors,
)
from c3po_adaptive.errors import suggestion

if TYPE_CHECKING:
    from c3po_adaptive import Format, NamedRule, ReferenceSet, Remixer

Spec = str | Mapping[str, object]
USUAL = {"kernel": "gaussian", "retriever": "faiss-knn", "selector": "fixed"}
NUMBERS = ("seed", "max_similarity")
"""Settings that lighteval gives as it found them in its command: as texts."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A model as a harness asks it.

    Attributes:
        routed: the model.
        remixer: re-mixes each prompt; None: nothing does.
        rule: that acts at every token; None: the model's own routing.
        routers: whose routers it has; "": its own.
    """

    routed: RoutedModel
    remixer: Remixer | None = None
    rule: NamedRule | None = None
    routers: str = ""

    @classmethod
    def asked(
        cls, pretrained: str | Path | RoutedModel, given: Mapping[str, Any], beside: Sequence[str], what: str
    ) -> Evaluated:
        """From arguments as a harness has read them: each is one of ``NAMES``, or a setting of ``RemixSettings``.

        Args:
            pretrained: as ``of`` takes it.
            given: by name.
            beside: names of arguments that the harness keeps to itself.
            what: it calls them.

        Raises:
            SettingError: an argument that there is not, before a model is loaded for it; or as ``of`` raises it.
            ModelError, DataError, UnknownNameError: as for ``of``.
        """
        read = {name: number(value) if name in NUMBERS else value for name, value in given.items()}
        if "trust_remote_code" in read:
            read["trust_remote_code"] = switch("trust_remote_code", read["trust_remote_code"])
        settings = {name: value for name, value in read.items() if name not in NAMES}
        _check_known(settings, [*NAMES, *beside], what)
        return cls.of(pretrained, settings=settings, **{name: read[name] for name in NAMES if name in read})

    @classmethod
    def of(
        cls,
        pretrained: str | Path | RoutedModel,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        quantize: str | None = None,
        trust_remote_code: bool = False,
        routers: str | Path | None = None,
        preset: str | None = None,
        optimizer: Spec | None = None,
        refset: str | Path | ReferenceSet | None = None,
        kernel: Spec | None = None,
        retriever: Spec | None = None,
        selector: Spec | None = None,
        format: str | Mapping[str, object] | Format | None = None,
        query: str | None = None,
        rule: str | Mapping[str, object] | Sequence[Any] | NamedRule | None = None,
        plugin: str | Path | Sequence[str | Path] | None = None,
        settings: Mapping[str, object],
    ) -> Evaluated:
        """From a harness's arguments, whose names are these and those of ``RemixSettings``.

        Args:
            pretrained: an alias, a Hub id, a folder, or a ``RoutedModel``; loaded as ``load_moe_model`` does.
            revision: of a Hub id.
            dtype: of the weights; ``auto``: the checkpoint's.
            device: where it goes, by default and for ``cuda…`` the CPU if there is no such device.
            quantize: ``4bit`` or ``8bit``.
            trust_remote_code: run code that comes with the checkpoint.
            routers: a checkpoint of the same layers and experts whose routers it gets, such as ``c3po repair`` writes.
            preset: strategies and settings that go together, by name; re-mixes, as an optimizer does.
            optimizer: by name or mapping; with neither a preset nor an optimizer nothing is re-mixed.
            refset: labeled questions, or a built set.
            kernel: as an optimizer is named, like the next two.
            retriever: of neighbours.
            selector: of layers and experts.
            format: how references are put.
            query: field of the documents that neighbours are found by.
            rule: by its text, in place of re-mixing.
            plugin: files of plugins.
            settings: of ``RemixSettings``.

        Raises:
            SettingError: what has no part without an optimizer, a rule beside one or one that this model cannot follow,
                or a strategy that looks at the right answer.
            ModelError, DataError, UnknownNameError: as for ``load_moe_model``, ``Optimizer`` and ``rule_named``.
        """
        remixes = optimizer is not None or preset is not None
        roles = {"kernel": kernel, "retriever": retriever, "selector": selector}
        if not remixes:
            files = None if rule is not None else plugin
            _check_unused({"refset": refset, **roles, "format": format, "query": query, "plugin": files, **settings})
        elif rule is not None:
            raise SettingError(
                f"Expected a rule or an optimizer, got both ({rule!r} beside {optimizer or preset!r}): a rule acts at "
                "every token, where re-mixing would start from; leave one of them out."
            )
        registry = new_registry()
        for file in [plugin] if isinstance(plugin, str | Path) else plugin or ():
            registry.load_file(file)
        along = None if rule is None else rule_named(rule, registry)  # refused before a model is loaded
        routed = pretrained if isinstance(pretrained, RoutedModel) else load_moe_model(
            pretrained, dtype=dtype, device=_there(device), quantize=quantize, revision=revision,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
        whose = "" if routers is None else public_name(str(routers))
        routed = routed if routers is None else _with_routers(routed, routers)
        if along is not None:
            along.fits(routed.layers, routed.n_experts)
            routed.prefill_along([routed.encode_text("a")], along)  # what only a forward pass tells, before any request
        if not remixes:
            return cls(routed, rule=along, routers=whose)
        specs: dict[str, Any] = {**USUAL, **{role: spec for role, spec in roles.items() if spec is not None}}
        if preset is not None:
            specs, settings = {**roles}, {**preset_named(preset).settings, **settings}
        c3po = Optimizer(
            routed,
            refset,
            preset=preset or "c3po",
            optimizer=optimizer,
            format=format,
            settings=RemixSettings.of(settings),
            registry=registry,
            **specs,
        )
        return cls(routed, _without_labels(c3po.remixer), routers=whose)

    def told(self, query: str | None = None) -> dict[str, object]:
        """What was run, in plain values: the strategies and settings, or the rule; and whose routers, if others."""
        whose: dict[str, object] = {"routers": self.routers} if self.routers else {}
        if self.rule is not None:
            return {"rule": Registry.describe(self.rule), **whose}
        if self.remixer is None:
            return {"optimizer": None, **whose}
        made = self.remixer
        strategies = {role: Registry.describe(strategy) for role, strategy in vars(made.strategies).items()}
        source = None if made.references is None else made.references.card["source"]
        told = strategies | made.settings.model_dump(mode="json") | {"references": source, "query": query}
        return {**told, **whose}


NAMES = tuple(name for name in inspect.signature(Evaluated.of).parameters if name not in ("pretrained", "settings"))
"""Arguments of every harness, beside the settings of ``RemixSettings``."""


def number(given: Any) -> Any:
    """The number that a text says; anything else as it is, for others to judge."""
    found = yaml.safe_load(given) if isinstance(given, str) else given
    return found if isinstance(found, int | float) else given


def switch(name: str, given: Any) -> bool:
    """What was said of a switch, as a text or not.

    Raises:
        SettingError: neither true nor false.
    """
    said = given if isinstance(given, bool) else {"true": True, "false": False}.get(str(given).lower())
    if said is None:
        raise SettingError(f"Expected {name}=true or {name}=false, got {given!r}.")
    return said


def _check_known(given: Mapping[str, object], own: Sequence[str], what: str) -> None:
    """Refuse arguments that there are not, with the close names."""
    known = [*own, *RemixSettings.model_fields]
    for name in given:
        if name not in RemixSettings.model_fields:
            hint = suggestion(name, known, "leave it out.", "in docs/howto/lm_eval.md")
            raise SettingError(f"Expected {what}, got {name!r}; {hint}")
    RemixSettings.of(given)


def _there(device: str | None) -> str | None:
    """The harness asks for ``cuda:0`` where its user names nothing: the CPU, if there is none, as by their ``hf``."""
    if device is None or device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            return device or "cuda"
        logging.getLogger(__name__).info("There is no CUDA device: the model is run on the CPU.")
        return None
    return device


def _with_routers(model: RoutedModel, source: str | Path) -> RoutedModel:
    """The model with a checkpoint's routers, and all else its own."""
    other = load_moe_model(source)
    if other.layers != model.layers:
        raise DataError(
            f"Expected routers of the MoE layers {[*model.layers]}, which {model.name!r} has, got those of "
            f"{[*other.layers]} from {str(source)!r}; name a checkpoint of the same model."
        )
    return with_tensors(
        model, {name: t for site in other.sites for name, t in router_tensors(other.model, site).items()}
    )


def _check_unused(given: Mapping[str, object]) -> None:
    if unused := [name for name, value in given.items() if value is not None]:
        raise SettingError(
            f"Expected an optimizer beside {', '.join(unused)}, got none: the model as it is has no use for them; add "
            "optimizer=ngd, or leave them out."
        )


def _without_labels(remixer: Remixer) -> Remixer:
    if remixer.needs_label:
        names = f"{remixer.strategies.optimizer.name} with {remixer.strategies.selector.name}"
        raise SettingError(
            f"Expected strategies that do not look at the right answer, which requests do not tell, got {names}; upper "
            "bounds are arms of c3po evaluate."
        )
    return remixer
