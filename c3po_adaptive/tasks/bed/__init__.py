"""The bed: many kinds of tasks, by families that the embedded model's experts learned, and what was kept from them."""

from .families import EXPERTS, FAMILIES, LEARNED, SIBLINGS, Family
from .kinds import KINDS, UNKNOWN, Kind, Source, Terms
from .questions import BED, bed_questions, cases

__all__ = [
    "BED",
    "EXPERTS",
    "FAMILIES",
    "KINDS",
    "LEARNED",
    "SIBLINGS",
    "UNKNOWN",
    "Family",
    "Kind",
    "Source",
    "Terms",
    "bed_questions",
    "cases",
]
