"""The oldest transformers that the package accepts passes what touches transformers, as the newest does."""

import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ("tests/models/families", "tests/models/loading", "tests/routing", "tests/models/test_routed.py")


def oldest() -> str:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found = [re.fullmatch(r"transformers>=([\d.]+)", line) for line in wanted]
    (version,) = (match.group(1) for match in found if match)
    return version


@pytest.mark.slow
def test_the_same_tests_pass(tmp_path):
    """In an environment that has this one's packages, and the old transformers before them."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "-q", f"transformers=={oldest()}"], check=True)
    asked = [python, "-c", "import transformers; print(transformers.__version__)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == oldest()
    done = subprocess.run([python, "-m", "pytest", "-q", *TESTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
