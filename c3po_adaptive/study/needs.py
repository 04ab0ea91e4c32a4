"""What the arms and the references of a study take, before a device is named."""

from __future__ import annotations

from dataclasses import dataclass

from ..ledger import Ledger


@dataclass(frozen=True)
class ArmNeeds:
    """What an arm takes on all questions of one data set.

    Attributes:
        dataset: its name.
        arm: its name.
        answers: how many: questions times draws.
        draws: how often each is answered.
        ledger: of all of them; its seconds are what this machine takes for the narrow model, which no device spares.
        kept: FLOPs of what is kept of each reference, beyond its prompt; arms that keep the same share it.
        learned: FLOPs of what it learns once, beyond that.
        row_bytes: of its records.
        step: FLOPs of one forward pass of its descent, for a batch.
    """

    dataset: str
    arm: str
    answers: int
    draws: int
    ledger: Ledger
    kept: float = 0.0
    learned: float = 0.0
    row_bytes: float = 0.0
    step: float = 0.0


@dataclass(frozen=True)
class SetNeeds:
    """What a data set's references take once.

    Attributes:
        flops: of their prompts.
        seconds: that this machine takes to embed them, and to run the narrow model on them.
        disk_bytes: of the set, and of what is kept beside it.
    """

    flops: float
    seconds: float = 0.0
    disk_bytes: float = 0.0
