"""What evaluation harnesses name on their command lines: a model, and how it is re-mixed, or its rule."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c3po_adaptive import (
    Optimizer,
    Registry,
    RemixSettings,
    RoutedModel,
    SettingError,
    load_moe_model,
    new_registry,
    preset_named,
    rule_named,
)
from c3po_adaptive.errors import suggestion

if TYPE_CHECKING:
    from c3po_adaptive import Format, NamedRule, ReferenceSet, Remixer

Spec = str | Mapping[str, object]
USUAL = {"kernel": "gaussian", "retriever": "faiss-knn", "selector": "fixed"}


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A model as a harness asks it.

    Attributes:
        routed: the model.
        remixer: re-mixes each prompt; None: nothing does.
        rule: that acts at every token; None: the model's own routing.
    """

    routed: RoutedModel
    remixer: Remixer | None = None
    rule: NamedRule | None = None

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
        if along is not None:
            along.fits(routed.layers, routed.n_experts)
            routed.prefill_along([routed.encode_text("a")], along)  # what only a forward pass tells, before any request
        if not remixes:
            return cls(routed, rule=along)
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
        return cls(routed, _without_labels(c3po.remixer))

    def told(self, query: str | None = None) -> dict[str, object]:
        """What was run, in plain values: the strategies and settings, or the rule."""
        if self.rule is not None:
            return {"rule": Registry.describe(self.rule)}
        if self.remixer is None:
            return {"optimizer": None}
        made = self.remixer
        strategies = {role: Registry.describe(strategy) for role, strategy in vars(made.strategies).items()}
        source = None if made.references is None else made.references.card["source"]
        return strategies | made.settings.model_dump(mode="json") | {"references": source, "query": query}


def check_known(given: Mapping[str, object], own: Sequence[str], what: str) -> None:
    """Refuse arguments that there are not, before a model is loaded for them.

    Args:
        given: that are none of ``own``.
        own: names of a harness's own arguments.
        what: the harness calls them.

    Raises:
        SettingError: with the close names.
    """
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
