"""Steps along routes of a model that FSDP2 shards over two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

FAMILIES = ["qwen3_moe", "olmoe", "deepseek_v3", "mixtral", "gpt_oss", "qwen2_moe", "glm4_moe", "llama4_text"]
FAMILIES += ["dots1", "granitemoe"]


def test_gradients_are_those_of_a_plain_model(tmp_path):
    script = Path(__file__).with_name("sharded_step.py")
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    watched = os.environ | {"PYTHONFAULTHANDLER": "1"}
    command = [*launch, str(script), str(tmp_path), *FAMILIES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=watched)
    assert done.returncode == 0, done.stderr
    processes = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for found in processes:
        assert found.keys() == {*FAMILIES}
        for family, (off, size) in found.items():
            assert size > 1 and off < 1e-4 * size, family
    assert processes[0] != processes[1]
