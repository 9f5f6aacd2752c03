"""The tutorial, run as it is written: its commands start the nodes, in slowed time, and its program turns the knob."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from domains import own_domain

pytest.importorskip("rclpy")
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from ros_helpers import PATIENCE_S

from specprune_ros.infer.load import BUNDLED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs/tutorial/first_pick.md"
LOADING_S = 3 * PATIENCE_S
"""The bundled policy is loaded and warmed up, on a machine that may be busy with other things."""

needs_nodes = pytest.mark.skipif(
    not (Path(sys.prefix) / "lib/specprune_ros/sim_node").exists(), reason="the nodes are not installed in this prefix"
)


def commands():
    """The lines of the tutorial's shell blocks, with the environment that the tests run in."""
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.replace(".venv/", f"{sys.prefix}/") for line in lines]


def command(part):
    """The one line that contains this."""
    (line,) = [line for line in commands() if part in line]
    return line.split()


class Terminal:
    """A command that runs, and what it printed."""

    def __init__(self, words, log, environment):
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def text(self):
        return self._log.read_text()

    def until(self, part, seconds):
        until = time.monotonic() + seconds
        while part not in self.text():
            assert self.process.poll() is None and time.monotonic() < until, f"no {part!r} in:\n{self.text()}"
            time.sleep(0.2)


@pytest.fixture
def terminals(tmp_path):
    """start(words): a command in a terminal of its own, on a ROS domain of this test."""
    environment = os.environ | {"ROS_DOMAIN_ID": str(own_domain()), "PYTHONUNBUFFERED": "1"}
    opened = []

    def start(words):
        opened.append(Terminal(words, tmp_path / f"terminal{len(opened)}.log", environment))
        return opened[-1]

    yield start
    for terminal in opened:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


@needs_nodes
@pytest.mark.skipif(not (BUNDLED / "config.json").is_file(), reason=f"no bundled weights in {BUNDLED}")
def test_the_tutorial_runs_as_written(terminals):
    simulator = terminals(command("realtime_factor"))
    simulator.until("seed 0: pick up the", LOADING_S)
    policy = terminals(command("use_sim_time"))
    policy.until("policy bundled is ready", LOADING_S)
    policy.until("armed: armed", PATIENCE_S)
    knob = terminals(command("turn_the_knob.py"))
    assert knob.process.wait(LOADING_S) == 0, knob.text()
    said = knob.text()
    assert re.search(r"^episode of seed 7: pick up the \w+ cube$", said, re.MULTILINE)
    kept = [int(count) for count in re.findall(r"(?:fine|coarse) +0\.90: (\d+) of 512", said)]
    assert kept, said
    assert max(kept) < 100, "harder than the paper's setting"
    assert ":= 0.9 -> accepted" in said
    assert ":= 1.9 -> refused: " in said
    assert "out of range" in said
    assert re.search(r"^the task ended with: (success|timeout)$", said, re.MULTILINE)
    for terminal in (policy, simulator):
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE_S) == 0, terminal.text()
