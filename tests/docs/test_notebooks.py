"""The notebooks on the embedded model run from top to bottom, print what they show, and have their pictures inside."""

import json

import nbformat
import pytest
from docs.blocks import check_output
from docs.test_replay_notebook import FOLDER, LARGEST, shown
from nbclient import NotebookClient

PICTURES = {"see_and_change": 3, "improve": 2}


@pytest.mark.parametrize("name", PICTURES)
def test_it_runs_and_prints_what_it_shows(name, dense_weights, tmp_path):
    kept = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    printed, pictures = shown(kept)
    assert len(printed.splitlines()) > 5
    assert len(pictures) == PICTURES[name] and max(pictures) < LARGEST
    again = nbformat.from_dict(json.loads(json.dumps(kept)))
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(again, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    check_output(printed, shown(again)[0], f"{name}.ipynb")
    assert len(shown(again)[1]) == PICTURES[name]
