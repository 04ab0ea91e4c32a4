"""What a comparison reads of the audit that it names, which another package writes."""

from __future__ import annotations

from typing import Literal

from ...errors import DataError
from ...report.page import finished_summary
from ...storage.json_files import SCHEMA, Ours, Values
from .comparison_config import ComparisonConfig


class Audit(Ours):
    """the summary of an audit: what stands beside results on the same model

    Attributes:
        sentence: what it says.
        model: its name.
        dataset: name of the questions.
        base: of the model as it is, by how many questions.
        hashes: of what was read; of ``model`` the fingerprint.
    """

    class Base(Ours):
        """of the model as it is"""

        n: int

    kind: Literal["audit"] = "audit"
    schema_version: int = SCHEMA
    sentence: str
    model: str
    dataset: str
    base: Base
    hashes: dict[str, str]

    @property
    def of_model(self) -> str:
        """Fingerprint of the model; "" where it says none."""
        return self.hashes.get("model", "")

    @property
    def line(self) -> str:
        """The sentence, and on what it rests."""
        return f"Audit of {self.model} on {self.dataset} ({self.base.n} questions): {self.sentence}"


def audited(config: ComparisonConfig, inputs: Values | None = None) -> str | None:
    """What the audit that a configuration names says, if it names one.

    Raises:
        DataError: there is none, or with the inputs of a run, it is of another model.
    """
    if config.audit is None:
        return None
    found = finished_summary(config.audit, Audit, "audit")
    if inputs and inputs.get("model") not in (None, found.of_model):
        raise DataError(
            f"Expected an audit of the run's model, got {config.audit}, which is of another; "
            "audit this one, with the same dtype and revision, or leave audit out."
        )
    return found.line
