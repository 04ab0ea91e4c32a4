"""The core's tests pass in a copy of the repository that has no companions: no folder, no entry point, no import.

All of them take as long as the suite: ``-m slow -k "alone and routing"`` runs those of one folder.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("c3po_adaptive", "docs", "studies", "tests", "conftest.py", "pyproject.toml")
WITH_COMPANIONS = {"docs", "studies", "together"}
"""Folders of tests of what the core does with companions, and several of them with each other."""
PARTS = sorted({path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")})
HIDE = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The copy, and what hides companions that are installed: a module of Python's own start, and other metadata."""
    place = tmp_path_factory.mktemp("alone")
    for name in COPIED:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, place / name)
    companions = {path.name for path in ROOT.glob("plugins/*/c3po_*")}
    site = place / "site"
    info = site / f"c3po_adaptive-{version('c3po_adaptive')}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: c3po_adaptive\nVersion: {version('c3po_adaptive')}\n")
    (site / "sitecustomize.py").write_text(HIDE.format(names=companions))
    return place


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in PARTS if part not in WITH_COMPANIONS])
def test_the_core_alone(copy, part):
    command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", f"tests/{part}"]
    found = os.pathsep.join(map(str, (copy / "site", copy)))
    done = subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": found}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
