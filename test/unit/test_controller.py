"""The action-aware controller: the rules of docs/explanation/method.md, and hysteresis."""

import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import Controller
from specprune_ros.prune.controller import next_mode
from specprune_ros.types import Mode, Motion

PAPER = Controller()
MOTIONS = st.builds(Motion, st.floats(0, 2), st.floats(0, 2), st.floats(-2, 2))


@pytest.mark.parametrize(
    "mode, motion, expected",
    [
        (Mode.COARSE, Motion(0.39, 0.19, 0.0), Mode.FINE),
        (Mode.COARSE, Motion(0.4, 0.19, 0.0), Mode.COARSE),
        (Mode.COARSE, Motion(0.39, 0.2, 0.0), Mode.COARSE),
        (Mode.COARSE, Motion(0.1, 0.1, 0.01), Mode.COARSE),
        (Mode.COARSE, Motion(0.1, 0.1, -0.1), Mode.FINE),
        (Mode.FINE, Motion(0.4, 0.3, 0.2), Mode.FINE),
        (Mode.FINE, Motion(0.41, 0.0, 0.0), Mode.COARSE),
        (Mode.FINE, Motion(0.0, 0.31, 0.0), Mode.COARSE),
        (Mode.FINE, Motion(0.21, 0.0, 0.21), Mode.COARSE),
        (Mode.DENSE, Motion(0.0, 0.0, 0.0), Mode.FINE),
        (Mode.DENSE, Motion(1.0, 0.0, 0.0), Mode.COARSE),
    ],
)
def test_thresholds_of_the_paper(mode, motion, expected):
    assert next_mode(mode, motion, PAPER) is expected


@given(st.sampled_from(Mode), MOTIONS)
def test_against_the_formula(mode, motion):
    enters = motion.linear < 0.4 and motion.angular < 0.2 and motion.dz <= 0
    leaves = motion.linear > 0.4 or motion.angular > 0.3 or motion.dz > 0.2
    fine = not leaves if mode is Mode.FINE else enters
    assert next_mode(mode, motion, PAPER) is (Mode.FINE if fine else Mode.COARSE)


@given(st.sampled_from(Mode), MOTIONS)
def test_steady_motion_never_flickers(mode, motion):
    first = next_mode(mode, motion, PAPER)
    assert next_mode(first, motion, PAPER) is first


@given(st.floats(0.0, 0.4), st.floats(0.2, 0.3), st.floats(0.01, 0.2))
def test_inside_the_band_the_mode_stays(linear, angular, dz):
    for mode in (Mode.COARSE, Mode.FINE):
        assert next_mode(mode, Motion(linear, angular, dz), PAPER) is mode


@given(st.sampled_from(Mode))
def test_unknown_motion_is_fine(mode):
    assert next_mode(mode, None, PAPER) is Mode.FINE


@given(st.sampled_from(Mode), MOTIONS)
def test_switched_off_is_fine(mode, motion):
    assert next_mode(mode, motion, Controller(enabled=False)) is Mode.FINE
