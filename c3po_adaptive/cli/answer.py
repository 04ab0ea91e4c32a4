"""The command that answers one question, or continues one text, along the model's own routing and a rule's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingError
from ..progress import working
from .options import AsJson, Format, ModelOptions, Plugins, Rules, registry_with, rule_of
from .terminal import clear_errors, print_json, print_table, say

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..rules.base import NamedRule


def answer(
    text: Annotated[str, typer.Argument(help="A question, or any text.")],
    *,
    choice: Annotated[list[str] | None, typer.Option("--choice", help="An option, two at least; repeatable.")] = None,
    rule: Rules = None,
    tokens: Annotated[int, typer.Option(min=1, help="That a text without choices is continued by, at most.")] = 32,
    model: ModelOptions,
    format: Format = "cloze",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Choose among options, or continue a text, as the model does, and beside that along a rule at every token;
    re-mixed by references: c3po explain --refset."""
    with clear_errors():
        from ..models.names import public_name
        from ..tasks.texts import listed

        listed(text, "a text")
        choices = choice or []
        if len(choices) == 1:
            raise SettingError(f"Expected two choices at least, or none, got {choices}; add one, or leave it out.")
        along = rule_of(rule, registry_with(plugin))
        loaded = model.loaded()
        rules = ";".join(rule or ())
        routings: dict[str, NamedRule | None] = {"own": None} if along is None else {"own": None, rules: along}
        with working("answers"):
            found = {name: _answered(loaded, text, choices, each, tokens, format) for name, each in routings.items()}
        if as_json:
            own, *others = found.values()
            beside = {"rule": rules, "ruled": others[0]} if others else {}
            print_json({"model": public_name(loaded.name), "own": own} | beside)
        elif choices:
            _say_choices(choices, found)
        else:
            for name, answered in found.items():
                say(f"{name}: {answered['text']}".replace("\n", "\\n"))


def _answered(
    model: RoutedModel, text: str, choices: Sequence[str], rule: NamedRule | None, tokens: int, format: str
) -> dict[str, Any]:
    """What one routing makes of a text."""
    if not choices:
        return {"text": model.generate(text, rule, max_new_tokens=tokens, do_sample=False)}
    (scores,) = model.score_choices([text], [list(choices)], rule, format=format)
    return {"choice": choices[int(scores.argmax())], "scores": scores.tolist()}


def _say_choices(choices: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [[name, *(f"{answered['scores'][i]:.3f}" for answered in found.values())] for i, name in enumerate(choices)]
    print_table(("choice", *found), [*rows, ["chosen", *(str(answered["choice"]) for answered in found.values())]])
