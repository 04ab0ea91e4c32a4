"""The core stands alone: its commands do their work where no companion is installed."""

import os
import subprocess
import sys
from pathlib import Path


def test_commands_of_the_core_work_without_any_companion(tmp_path):
    script = Path(__file__).with_name("without_companions.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "C3PO_CACHE": str(tmp_path / "cache")}
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=tmp_path / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
