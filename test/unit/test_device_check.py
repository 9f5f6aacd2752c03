"""The one command for a machine with a GPU, rehearsed on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "device_check.sh"
LARGEST_BYTES = 2**20

pytestmark = pytest.mark.slow


def rehearsed(out, **settings):
    environment = os.environ | {"OUT": str(out), "SCALE": "tiny", "PYTHON": sys.executable} | settings
    return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True)


def test_the_rehearsal_leaves_every_file_and_says_what_ran(tmp_path):
    done = rehearsed(tmp_path / "out", BUDGET_S="400")
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"probes.json", "tests.xml", "bench-openvla-7b.json", "profile.json", "log.txt"}
    assert all(path.stat().st_size <= LARGEST_BYTES for path in files.values())
    said = files["log.txt"].read_text()
    assert said.count("status 0") == 4 and "Traceback" not in said
    probes = json.loads(files["probes.json"].read_text())
    assert probes["device"] == "cpu" and not any(
        "failed" in probes[name] for name in ("attention", "engine", "staircase")
    )
    assert probes["engine"]["kept_the_same_tokens"] and probes["engine"]["ran"] == "eager"
    assert all(probe["error"] < 1e-5 for probe in probes["attention"].values())
    assert all(us > 0 for times in probes["staircase"].values() for us in times.values())
    bench = json.loads(files["bench-openvla-7b.json"].read_text())
    assert not bench["gpu_measurement"]
    assert {engine for row in bench["rows"] if "skipped" not in row for engine in row["ran"]} == {"eager", "stock"}
    assert any(
        "scaled_dot_product" in kernel["name"] for kernel in json.loads(files["profile.json"].read_text())["kernels"]
    )


def test_without_time_every_part_says_so_and_the_command_fails(tmp_path):
    done = rehearsed(tmp_path / "out", BUDGET_S="5")
    assert done.returncode == 1
    assert (tmp_path / "out" / "log.txt").read_text().count("no time left") == 4
