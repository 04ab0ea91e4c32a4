"""The bed: many kinds of tasks, by families that the embedded model's experts learned, and what was kept from them."""

from .case_questions import Bed, cases, source
from .expert_families import EXPERTS, FAMILIES, GENERAL, LEARNED, SIBLINGS, Family
from .hub_kinds import HUB
from .hub_questions import fingerprints, fresh
from .kinds import KINDS, UNKNOWN, Kind, Source, Terms
from .wording import wordings

__all__ = [
    "EXPERTS",
    "FAMILIES",
    "GENERAL",
    "HUB",
    "KINDS",
    "LEARNED",
    "SIBLINGS",
    "UNKNOWN",
    "Bed",
    "Family",
    "Kind",
    "Source",
    "Terms",
    "cases",
    "fingerprints",
    "fresh",
    "source",
    "wordings",
]
