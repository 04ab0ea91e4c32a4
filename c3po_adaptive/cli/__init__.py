"""``c3po``: the command line; a file for each group of commands."""

from __future__ import annotations

import os

# Threads that wait must not spin: beside another process they would take its cores. Read when a
# numerical library is first loaded, which no module here does before a command runs; who sets it, has it so.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from . import explain, models, plugins, refset, runs
from .shared import Commands

app = typer.Typer(
    cls=Commands,
    help="Re-mix the expert pathways of frozen Mixture-of-Experts language models at test time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (runs, explain, models):
    group.add_to(app)
app.add_typer(runs.study, name="study")
app.add_typer(refset.app, name="refset")
app.add_typer(plugins.app, name="plugins")
