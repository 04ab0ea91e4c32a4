"""What differs by family of models, and a model's modules do not say: the rows of ``families.yaml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict
from torch import nn


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pictures(_Row):
    """What makes images ready for a tiny model: 28 × 28 pixels are a token.

    Attributes:
        tokens: special ones, those of a picture.
        images: transformers' class that makes images ready.
        settings: of that.
        named: tokens that the family's processor asks its tokenizer for by name.
    """

    tokens: tuple[str, ...]
    images: str
    settings: dict[str, Any]
    named: dict[str, str] | None = None


class Family(_Row):
    """A family, by the model type of its language model; or of the whole, if that reads images, too.

    Attributes:
        router: class of its router, which the next four are about.
        style: how routing gets to the experts (``styles.py``).
        last_is_none: its last choice is no expert.
        two_columns: its experts cannot take one expert a token.
        groups_by_two: it knows a group by its best two experts though it scores by softmax, where others take one.
        resumes: transformers' own cache can hold a prompt, which is continued from there.
        entered: hidden states are all that enters its decoder layers.
        no_adapters: why PEFT cannot adapt its experts; "" if it can.
        router_called: its router's module is called; if not, its weight is read, past an adapter.
        tiny: settings of its tiny model, beside those of all; None: those of its language model's row.
        whole: of a family whose tiny model has the parts for images: its settings, and those of its parts.
        pictures: what makes images ready for its tiny model.
    """

    router: str = ""
    style: Literal["fused", "chosen_by_router", "dense_scores", "sorted_gates"] = "fused"
    last_is_none: bool = False
    two_columns: bool = False
    groups_by_two: bool = False
    resumes: bool = True
    entered: bool = True
    no_adapters: str = ""
    router_called: bool = True
    tiny: dict[str, Any] | None = None
    whole: dict[str, Any] | None = None
    pictures: Pictures | None = None


class _Table(_Row):
    names: dict[Literal["experts", "top_k", "groups"], tuple[str, ...]]
    tiny: dict[str, dict[Any, Any]]
    shared: list[Any]
    families: dict[str, Family]


USUAL = Family()


@cache
def table() -> _Table:
    """All of it."""
    return _Table.model_validate(yaml.safe_load(Path(__file__).with_name("families.yaml").read_text()))


def family(model_type: str) -> Family:
    """A family's row; of one that needs none, that of most."""
    return table().families.get(model_type, USUAL)


@cache
def _by_router() -> dict[str, Family]:
    return {row.router: row for row in table().families.values() if row.router}


def of_router(router: nn.Module) -> Family:
    """The row of the family whose router this is, by its class."""
    return _by_router().get(type(router).__name__, USUAL)
