"""What a run reads of the ``summary.json`` of an audit, which another package writes."""

from __future__ import annotations

from typing import Literal

from ..storage.json_files import SCHEMA, Ours


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
