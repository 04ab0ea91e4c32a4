"""The audit that a comparison names."""

from __future__ import annotations

from ...analysis.verdict import Audited
from ...errors import DataError
from ...records.audit import Audit
from ...report.page import finished_summary
from ...storage.json_values import Values
from .comparison_config import ComparisonConfig


def audited(config: ComparisonConfig, inputs: Values | None = None) -> Audited | None:
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
    return Audited(found.line, found.of_model)
