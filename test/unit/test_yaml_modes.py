"""Coarse and fine motion both occur with every shipped YAML: thresholds are judged against what the arm may do now."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from specprune_ros.config import Config, flattened
from specprune_ros.control.loop import ControlLoop
from specprune_ros.types import ActionChunk, Command, EndEffector, InferenceResult, Mode, PolicyMemory

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in (ROOT / "config").glob("*.yaml"))
IMAGE = np.zeros((4, 4, 3), np.uint8)


def parameters(path):
    return dict(flattened(yaml.safe_load(path.read_text())["/**"]["ros__parameters"]))


def modes_of(config, periods=200):
    """A policy that approaches at full scale and then creeps down, on an arm that does exactly what it is told."""
    loop = ControlLoop(config, view_count=len(config.topics.images), chunk_steps=8)
    loop.set_instruction("pick up the red cube")
    period_ns = round(1e9 / config.control.rate)
    position, now, seen = np.array([0.5, 0.0, 0.4]), 10**9, []
    for period in range(periods):
        now += period_ns
        loop.set_frame(now, (IMAGE,) * len(config.topics.images))
        loop.set_state(EndEffector(now, position, np.array([1.0, 0, 0, 0])), np.zeros(8, np.float32))
        out = loop.tick(now)
        command = out if isinstance(out, Command) else out.braking
        if command:
            position = position + command.displacement.translation_m
        if request := loop.request(now):
            seen.append(request.mode)
            fast = period % 40 < 20
            action = np.array(
                [0.5 * (-1) ** (period // 40), 0.2, 0.1, 0, 0, 0, 1] if fast else [0, 0, -0.001, 0, 0, 0, 1]
            )
            chunk = ActionChunk(request.chunk_id, now, np.tile(action, (8, 1)), request.mode, loop.instruction)
            loop.accept(InferenceResult(request, chunk, None, PolicyMemory(None, loop.instruction, now)), now)
    return seen


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_both_modes_occur_with_every_shipped_file(path):
    seen = modes_of(Config.from_mapping(parameters(path)))
    assert seen.count(Mode.COARSE) >= 5 and seen.count(Mode.FINE) >= 5, seen


@pytest.mark.parametrize("speed", [0.02, 0.05, 0.1, 0.5, 2.0])
def test_both_modes_occur_at_every_speed_limit(speed):
    """Fault 18: with the limits of a first day leaving fine mode needed four times what the arm may do."""
    limits = {"limits.linear_speed": speed, "limits.linear_acceleration": 5.0, "limits.linear_jerk": 500.0}
    seen = modes_of(Config.from_mapping(parameters(ROOT / "config" / "franka.yaml") | limits))
    assert seen.count(Mode.COARSE) >= 5 and seen.count(Mode.FINE) >= 5, seen
