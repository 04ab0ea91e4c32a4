"""The bed: many kinds of tasks, by families that the embedded model's experts learned, and what was kept from them."""

from .case_questions import BED, bed_questions, cases
from .expert_families import EXPERTS, FAMILIES, LEARNED, SIBLINGS, Family
from .kinds import KINDS, UNKNOWN, Kind, Source, Terms

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
