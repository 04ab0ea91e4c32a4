"""The notebook of attribution runs from top to bottom, and shows what it says."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from study.configs import load_config

STUDY = Path(__file__).parents[2] / "studies" / "attribution"


@pytest.mark.slow
def test_runs():
    notebook = nbformat.read(STUDY / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(out["text"] for cell in notebook.cells for out in cell.get("outputs", ()) if "text" in out)
    assert printed.count("passes ") == 4
    assert "options, before → after:" in printed
    assert any("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ()))


def test_its_configuration_is_short():
    lines = (STUDY / "config.yaml").read_text().splitlines()
    assert len(lines) <= 10
    assert len(load_config(STUDY / "config.yaml").scores) == 3
