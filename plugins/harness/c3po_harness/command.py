"""``c3po export``: a run in another tool's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive import SettingError
from c3po_adaptive.cli import PATH, Texts, clear_errors, say

EXPORTS = ("lm-eval",)


def export(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option("--out", **PATH, help="Folder to write to; each arm has one of its own in it.")],
    format: Annotated[
        str,
        typer.Option(help=f"{EXPORTS[0]}: samples_TASK_DATE.jsonl and results_DATE.json, as that harness logs them."),
    ] = EXPORTS[0],
    questions: Texts = None,
) -> None:
    """Write a run's records in another tool's format."""
    with clear_errors():
        if format not in EXPORTS:
            raise SettingError(f"Expected --format among {', '.join(EXPORTS)}, got {format!r}.")
        from .export import export_samples

        for folder in export_samples(run_dir, out, questions or []):
            say(folder)
