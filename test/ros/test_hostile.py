"""The demo from a shell in which everything is wrong, in a folder with a space and an umlaut, without HOME."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import HOSTILE
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros import shell_variables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shell_variables.own_prefix() is None, reason="ROS is not this virtual environment's"),
]


def test_the_demo_runs_whatever_the_shell_has_set(tmp_path):
    """Random weights pick nothing; both nodes start, meet, and end."""
    place = tmp_path / "Größe und Maß"
    foreign = place / "foreign"
    foreign.mkdir(parents=True)
    for module in ("rclpy", "numpy", "sensor_msgs"):
        (foreign / f"{module}.py").write_text("raise ImportError('the foreign one')")
    (foreign / "librcl.so").write_text("not a library")
    weights = write_tiny_checkpoint(place / "tiny")
    shell = os.environ | HOSTILE | {"PYTHONPATH": str(foreign), "LD_LIBRARY_PATH": str(foreign)}
    shell.pop("HOME", None)
    command = [Path(sys.prefix, "bin", "specprune"), "demo", "--episodes", "1", "--set", f"policy.checkpoint={weights}"]
    done = subprocess.run(command, cwd=place, env=shell, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((place / "report" / "demo.json").read_text())
    assert result["per_episode"][0]["instruction"].startswith("pick up the "), "the simulator was met and reset"
    assert "Traceback" not in done.stderr + (place / "report" / "logs" / "sim_node.log").read_text()
