"""``python -m c3po_adaptive``: the command line."""

from .cli import app

app(prog_name="c3po")
