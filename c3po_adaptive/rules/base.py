"""The role of rules by name: how a layer's choice of experts is edited, in all layers or some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from ..checks import Checked
from ..errors import SettingError
from ._layers import acting, check_layers
from .text import read_number

if TYPE_CHECKING:
    from ..routing.choice import Choice
    from ..routing.router_rules import LayerRouting
    from ..routing.styles import Change


@dataclass(frozen=True, kw_only=True)
class NamedRule(Checked, ABC):
    """Edits how MoE layers choose their experts; subclasses are frozen dataclasses with a ``name``.

    It is a rule as any other: it goes wherever a ``RoutingRule`` goes.

    Attributes:
        layers: which: ``all``, ``last-5``, or numbers of decoder layers such as ``16``, ``16-20``, ``3/16-20``.
    """

    layers: str = "all"
    name: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self.name, self.layers)

    @abstractmethod
    def edit(self, choice: Choice) -> Choice:
        """The choice of one of its layers, changed by ``dataclasses.replace``; R tokens together."""

    @classmethod
    def read(cls, text: str) -> Mapping[str, object]:
        """Its parameters from what stands behind its name: by default the first one, a number if it looks like one.

        Raises:
            SettingError: it has no parameter.
        """
        own = [field.name for field in fields(cls) if field.init and field.name != "layers"]
        if not own:
            raise SettingError(f"Expected nothing behind the name of rule {cls.name!r}, got {text!r}; leave it out.")
        return {own[0]: read_number(text)}

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        """Refuse what a model does not have.

        Args:
            layers: decoder layer index of each of its MoE layers.
            experts: how many there are in each.

        Raises:
            SettingError: a layer that is none of them, or an expert that there is not.
        """
        acting(self.name, self.layers, layers)

    def edited(self, choice: Choice) -> Choice:
        """The choice as it becomes: the same object in layers that are none of its own.

        Raises:
            SettingError: as for ``fits``.
        """
        routing = choice.routing
        self.fits(routing.layers, routing.site.mixable)
        return self.edit(choice) if routing.site.layer in acting(self.name, self.layers, routing.layers) else choice

    def __call__(self, routing: LayerRouting) -> Change | None:
        """As ``RoutingRule``.

        Raises:
            SettingError: as for ``fits``, or a choice that cannot be made.
            ModelError: a family that chooses or weighs its experts in a way of its own.
        """
        from ..routing.choice import Choice

        own = Choice.own(routing)
        found = self.edited(own)
        return None if found is own else found.change()

    def __add__(self, other: NamedRule) -> Then:
        """This rule, and then another."""
        return Then(self, other)


@dataclass(frozen=True)
class Then(NamedRule):
    """One rule, and then another on what it left.

    Attributes:
        first: of the two.
        second: edits what the first one made of the choice.
    """

    first: NamedRule
    second: NamedRule
    name: ClassVar[str] = "then"

    def edit(self, choice: Choice) -> Choice:
        return self.second.edited(self.first.edited(choice))

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        self.first.fits(layers, experts)
        self.second.fits(layers, experts)
