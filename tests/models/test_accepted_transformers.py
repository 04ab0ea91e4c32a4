"""The oldest and the newest transformers that the package accepts pass what touches transformers."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from c3po_adaptive.models.family_table import table

ROOT = Path(__file__).parents[2]
TESTS = ("tests/models/families", "tests/models/loading", "tests/routing", "tests/models/test_routed.py")


def accepted(project: str = "pyproject.toml") -> tuple[str, str]:
    """The bounds of a package's requirement: the oldest release, and the first that is too new."""
    wanted = tomllib.loads((ROOT / project).read_text())["project"]["dependencies"]
    found = [re.fullmatch(r"transformers>=([\d.]+),<([\d.]+)", line) for line in wanted]
    (bounds,) = (match.groups() for match in found if match)
    return bounds


def test_releases_that_are_accepted_were_tested_and_are_named():
    oldest, too_new = map(Version, accepted())
    assert accepted("plugins/vllm/pyproject.toml") == accepted()
    tested = [*map(Version, table()["releases"])]
    assert tested[0] == oldest and tested[-1] < too_new and Version(table()["transformers"]) in tested
    named = f"transformers {oldest.major}.{oldest.minor} to {too_new.major}.{too_new.minor - 1}"
    assert f"[![{named}](" in (ROOT / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_the_same_tests_pass(end, tmp_path):
    """In an environment that has this one's packages, and the other transformers before them."""
    oldest, too_new = accepted()
    wanted = f"transformers=={oldest}" if end == "oldest" else f"transformers<{too_new}"
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [python, "-m", "pip", "install", "-q", "--no-deps"]  # an index may lack kernels, which 5.25 asks for
    subprocess.run([*install, "--upgrade", "--ignore-installed", wanted], check=True)
    asked = [python, "-c", "import transformers; print(transformers.__version__)"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    assert version == oldest if end == "oldest" else version.rpartition(".")[0] < too_new
    run = [python, "-m", "pytest", "-q", "-n", "2", *TESTS]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"USE_HUB_KERNELS": "NO"})
    assert done.returncode == 0, done.stdout[-5000:]
