"""Which transformers the package accepts; the oldest passes what touches transformers, as the newest does."""

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


def accepted(project="pyproject.toml") -> tuple[str, str]:
    """The oldest release that the package accepts, and the first that it does not."""
    wanted = tomllib.loads((ROOT / project).read_text())["project"]["dependencies"]
    found = [re.fullmatch(r"transformers>=([\d.]+),<([\d.]+)", line) for line in wanted]
    ((oldest, beyond),) = (match.groups() for match in found if match)
    return oldest, beyond


def test_releases_that_are_accepted_were_tested_and_are_named():
    oldest, beyond = accepted()
    assert accepted("plugins/vllm/pyproject.toml") == (oldest, beyond)
    tested = [*map(Version, table()["releases"])]
    assert tested[0] == Version(oldest) and tested[-1] < Version(beyond) and str(tested[-1]) == table()["transformers"]
    newest = f"5.{Version(beyond).minor - 1}"
    assert f"[![transformers {oldest.removesuffix('.0')} to {newest}](" in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_same_tests_pass(tmp_path):
    """In an environment that has this one's packages, and the old transformers before them."""
    python, (oldest, _) = tmp_path / "env" / "bin" / "python", accepted()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "-q", f"transformers=={oldest}"], check=True)
    asked = [python, "-c", "import transformers; print(transformers.__version__)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == oldest
    done = subprocess.run([python, "-m", "pytest", "-q", *TESTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
