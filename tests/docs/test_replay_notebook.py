"""The notebook of replay in training runs from top to bottom, prints what it shows, and has its picture inside."""

import base64
import json
from pathlib import Path

import nbformat
from docs.blocks import check_output
from nbclient import NotebookClient
from test_trace_import import REAL

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
LARGEST = 60_000  # bytes of a picture


def shown(notebook):
    """What each cell prints, and how large its pictures are."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(out["text"] for out in outputs if out.get("name") == "stdout")
    pictures = [
        len(base64.b64decode(out["data"]["image/png"])) for out in outputs if "image/png" in out.get("data", {})
    ]
    return printed, pictures


def executed(notebook, folder):
    """It, run anew in a folder."""
    again = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(again, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return again


def test_it_runs_and_prints_what_it_shows():
    kept = nbformat.read(FOLDER / "replay_in_training.ipynb", as_version=4)
    printed, pictures = shown(kept)
    assert "log-likelihoods are vLLM's, within 1e-4: True" in printed and "each router: [True, True]" in printed
    assert len(pictures) == 1 and pictures[0] < LARGEST
    again = shown(executed(kept, FOLDER))
    check_output(printed, again[0], "replay_in_training.ipynb")
    assert len(again[1]) == 1


def test_its_answer_is_the_one_that_vllm_gave():
    beside = json.loads((FOLDER / "vllm_answer.json").read_text())
    assert beside["answer"] == REAL["answers"]["/v1/completions"]
    assert all(beside[key] == REAL[key] for key in ("family", "settings", "log_likelihoods"))
