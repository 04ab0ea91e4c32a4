"""The notebooks on the embedded model run from top to bottom, print what they show, and have their pictures inside."""

import nbformat
import pytest
from docs.blocks import check_output
from docs.test_replay_notebook import FOLDER, LARGEST, executed, shown

PICTURES = {"see_and_change": 3, "improve": 2}


@pytest.mark.parametrize("name", ["see_and_change", pytest.param("improve", marks=pytest.mark.slow)])
def test_it_runs_and_prints_what_it_shows(name, dense_weights, tmp_path):
    kept = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    printed, again = shown(kept)[0], shown(executed(kept, tmp_path))
    assert len(printed.splitlines()) > 5
    check_output(printed, again[0], f"{name}.ipynb")
    assert len(again[1]) == PICTURES[name]


@pytest.mark.parametrize("name", PICTURES)
def test_its_pictures_are_inside_and_small(name):
    pictures = shown(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4))[1]
    assert len(pictures) == PICTURES[name] and max(pictures) < LARGEST


def test_the_long_one_runs_on_fewer_questions(dense_weights, tmp_path):
    """But for the repair at its end, which the companion's own tests run."""
    notebook = nbformat.read(FOLDER / "improve.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "limit=48" in first.source and "limit=96" in first.source
    first.source = first.source.replace("limit=48", "limit=4").replace("limit=96", "limit=16")
    assert "import repair" in notebook.cells[-1].source + notebook.cells[-2].source
    notebook.cells = [cell for cell in notebook.cells if "import repair" not in cell.source]
    printed, pictures = shown(executed(notebook, tmp_path))
    assert printed.startswith("16 labeled questions; 4 to answer") and printed.count(" of 4 right") == 5
    assert len(pictures) == PICTURES["improve"]
