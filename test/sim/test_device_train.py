"""The script that trains both policies on a GPU machine, rehearsed on the CPU."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from specprune_ros.config import Config
from specprune_ros.infer.load import load_policy

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "device_train.sh"
LARGEST_BYTES = 16 * 2**20


def test_the_rehearsal_leaves_two_policies_in_files_that_come_back(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    settings = {
        "OUT": out,
        "WORK": work,
        "SCALE": "tiny",
        "SUITES": "pick",
        "WORKERS": 2,
        "BUDGET_S": 100,
        "PYTHON": sys.executable,
    }
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = list(out.iterdir())
    assert len(files) < 8 and all(file.is_file() and file.stat().st_size <= LARGEST_BYTES for file in files)
    for policy in ("robust", "plain"):
        with tarfile.open(out / f"{policy}.tar") as archive:
            archive.extractall(tmp_path / "policy", filter="data")
        loaded = load_policy(Config().updated({"policy.checkpoint": str(tmp_path / "policy" / policy)}))
        assert (loaded.view_count, loaded.chunk_steps) == (2, 8)
    said = (out / "log.txt").read_text()
    assert said.count("status 0") == 1 and "Traceback" not in said
    assert "robust full" in (out / "losses.jsonl").read_text()
