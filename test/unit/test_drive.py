"""What leaves an armed loop as target poses, on arms that are never measured where they were told to be."""

import numpy as np
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import Config, Limits
from specprune_ros.control.drive import Drive
from specprune_ros.types import ChunkStep, EndEffector

CONFIG = Config().updated({"output.interface": "target_pose"})
PERIOD_NS = 50_000_000
TURN = np.array([1.0, 0.0, 0.0, 0.0])
LIMITS = CONFIG.limits


def targets_of(drive, start_m, offset_m, actions, holds):
    """The target after every period; the arm stands `offset_m` beside it. holds: periods in which nothing is wanted."""
    found, at = [], np.array(start_m, float)
    for period, action in enumerate(actions):
        now_ns = (period + 1) * PERIOD_NS
        measured = EndEffector(now_ns, at + offset_m, TURN)
        if period in holds:
            command = drive.brake(measured, CONFIG, now_ns)
        else:
            command = drive.permit(ChunkStep(action, 1, period, 0.0), measured, CONFIG, now_ns)
        if command is not None:
            at = command.target.position_m
        found.append(at)
    return np.array(found)


offsets = st.tuples(*[st.floats(-0.1, 0.1)] * 3).map(np.array)
seeds = st.integers(0, 2**32 - 1)


@given(offsets, seeds, st.sets(st.integers(0, 119)))
def test_no_error_between_target_and_measurement_carries_the_target_out_of_the_box_or_beyond_the_speed(
    offset_m, seed, holds
):
    """Fault 1: a steady error was added to the target at every hold, and with a pose source 10 cm off the target ran
    away at five times the limit."""
    drive, start_m = Drive(PERIOD_NS), (0.5, 0.1, 0.3)
    drive.engage(EndEffector(0, np.array(start_m), TURN))
    towards = np.random.default_rng(seed).uniform(-1, 1, (3, 7))
    actions = np.repeat(towards, 40, axis=0)
    found = targets_of(drive, start_m, offset_m, actions, holds)
    assert (found >= np.array(LIMITS.workspace_min) - 1e-9).all()
    assert (found <= np.array(LIMITS.workspace_max) + 1e-9).all()
    steps = np.linalg.norm(np.diff(found, axis=0, prepend=[start_m]), axis=1)
    assert steps.max() <= LIMITS.linear_speed * 0.05 + 1e-9


def test_the_error_does_not_move_the_target_at_all():
    actions = np.tile([0.3, -0.2, 0.1, 0.0, 0.0, 0.0, 1.0], (60, 1))
    paths = []
    for offset_m in (np.zeros(3), np.array([0.0, 0.0, -0.02])):
        drive = Drive(PERIOD_NS)
        drive.engage(EndEffector(0, np.array([0.5, 0.1, 0.3]), TURN))
        paths.append(targets_of(drive, (0.5, 0.1, 0.3), offset_m, actions, holds=set(range(20, 30))))
    np.testing.assert_allclose(*paths, atol=1e-12)
    assert np.linalg.norm(paths[0][-1] - paths[0][0]) > 0.1


def test_these_are_the_limits_of_a_first_day():
    assert Limits() == LIMITS
