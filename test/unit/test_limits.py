"""From action to permitted motion: conventions against slow oracles, limits in order, and what must never get out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros import rotation
from specprune_ros.config import ActionScale, Limits
from specprune_ros.control import limits as module
from specprune_ros.control.limits import Situation, displacement, full_scale, outside
from specprune_ros.control.profile import Moving
from specprune_ros.types import BadInput, Displacement

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
CENTRE = np.array([0.5, 0.0, 0.3])
SCALE = ActionScale()
WIDE = Limits(0.2, 3.0, 3.0, 20.0, 1000.0, 10000.0, 1e6, 1e7, (-5.0, -5.0, -5.0), (5.0, 5.0, 5.0))
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(-2, 2)


AT_REST = Moving()


def situation(position=CENTRE, before=AT_REST, turn=IDENTITY, period=0.05):
    """before: the translation's motion in the period before."""
    return Situation(np.asarray(position, float), turn, before, Moving(), period)


def permitted(action, scale, limits, now):
    result = module.permitted(action, scale, limits, now)
    return result.displacement, result.reasons


def motion(x=0.0, y=0.0, z=0.0, turn=0.0):
    return Displacement(np.array([x, y, z]), np.array([0.0, 0.0, turn]), 1.0)


def matrix(axis, angle):
    c, s = math.cos(angle), math.sin(angle)
    return {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }[axis]


def matrix_of(rotvec):
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(rotvec))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(rotvec) / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def test_an_action_unit_is_what_the_scale_says():
    got = displacement(np.array([1.0, -0.5, 0.25, 0.1, -1.0, 0.0, 0.75]), SCALE, IDENTITY)
    np.testing.assert_allclose(got.translation_m, [0.05, -0.025, 0.0125])
    np.testing.assert_allclose(got.rotation_rad, [0.05, -0.5, 0.0])
    assert got.gripper == 0.75
    closing = displacement(np.array([0.0] * 6 + [0.75]), replace(SCALE, gripper="open_is_zero"), IDENTITY)
    assert closing.gripper == 0.25


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_roll_pitch_yaw_are_about_fixed_axes(rpy):
    action = np.array([0.0] * 3 + rpy + [1.0])
    got = matrix_of(displacement(action, replace(SCALE, rotation="rpy"), IDENTITY).rotation_rad)
    roll, pitch, yaw = (0.5 * value for value in rpy)
    expected = np.array(matrix("z", yaw)) @ matrix("y", pitch) @ matrix("x", roll)
    np.testing.assert_allclose(got, expected, atol=1e-9)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_motions_in_the_hands_frame_are_turned_into_the_base_frame(pose, values):
    turn = rotation.from_rotvec(pose)
    got = displacement(np.array([*values, 1.0]), replace(SCALE, frame="ee"), turn)
    np.testing.assert_allclose(got.translation_m, matrix_of(pose) @ (0.05 * np.array(values[:3])), atol=1e-9)
    np.testing.assert_allclose(got.rotation_rad, matrix_of(pose) @ (0.5 * np.array(values[3:])), atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "wanted", "expected", "text"),
    [
        ({"step_translation": 0.01}, motion(0.03, 0.04), motion(0.006, 0.008), "step: 0.050 -> 0.010 m"),
        ({"step_rotation": 0.1}, motion(turn=-0.4), motion(turn=-0.1), "step: 0.400 -> 0.100 rad"),
        ({"linear_speed": 0.1}, motion(0.0, 0.0, 0.05), motion(0.0, 0.0, 0.005), "speed: 1.000 -> 0.100 m/s"),
        ({"angular_speed": 0.5}, motion(turn=0.5), motion(turn=0.025), "speed: 10.000 -> 0.500 rad/s"),
        ({"linear_acceleration": 2.0}, motion(0.05), motion(0.005), "acceleration: 20.000 -> 2.000 m/s^2"),
        (
            {"angular_acceleration": 10.0},
            motion(turn=0.5),
            motion(turn=0.025),
            "acceleration: 200.000 -> 10.000 rad/s^2",
        ),
        ({"linear_jerk": 40.0}, motion(0.05), motion(0.005), "jerk: 400.000 -> 40.000 m/s^3"),
        ({"angular_jerk": 200.0}, motion(turn=0.5), motion(turn=0.025), "jerk: 4000.000 -> 200.000 rad/s^3"),
    ],
)
def test_each_limit_shortens_and_says_by_how_much(changes, wanted, expected, text):
    action = np.array([*(wanted.translation_m / 0.05), *(wanted.rotation_rad / 0.5), 1.0])
    got, reasons = permitted(action, SCALE, replace(WIDE, **changes), situation())
    np.testing.assert_allclose(got.translation_m, expected.translation_m, atol=1e-12)
    np.testing.assert_allclose(got.rotation_rad, expected.rotation_rad, atol=1e-12)
    assert list(reasons.values()) == [text]


def test_braking_is_limited_like_starting():
    limits = replace(WIDE, linear_acceleration=2.0)
    got, reasons = permitted(np.array([0.0] * 6 + [1.0]), SCALE, limits, situation(before=Moving((0.4, 0, 0))))
    np.testing.assert_allclose(got.translation_m, [0.015, 0, 0])
    assert reasons == {"acceleration": "acceleration: 8.000 -> 2.000 m/s^2"}


def test_a_hold_brakes_within_the_limits_and_then_says_nothing():
    limits, now, motions = replace(WIDE, linear_acceleration=2.0), situation(before=Moving((0.25, 0, 0))), []
    while (braked := module.braking(0.3, limits, now)) is not None:
        motions.append(float(braked.displacement.translation_m[0]))
        assert braked.displacement.gripper == 0.3
        now = replace(now, linear=braked.linear, angular=braked.angular)
    np.testing.assert_allclose(motions, [0.0075, 0.0025, 0.0, 0.0], atol=1e-12)  # at last the acceleration is gone too


BOX = replace(WIDE, workspace_min=(0.2, -0.5, 0.0), workspace_max=(0.8, 0.5, 0.8))


@pytest.mark.parametrize(
    ("position", "wanted", "expected"),
    [
        ((0.5, 0.0, 0.3), (0.05, 0.05, 0.05), (0.05, 0.05, 0.05)),  # inside
        ((0.79, 0.0, 0.3), (0.05, 0.02, 0.0), (0.01, 0.02, 0.0)),  # along the wall
        ((0.85, 0.0, 0.3), (0.05, 0.0, 0.0), (0.0, 0.0, 0.0)),  # outside, further out
        ((0.85, 0.0, 0.3), (-0.02, 0.0, 0.0), (-0.02, 0.0, 0.0)),  # outside, back in
        ((0.85, 0.0, -0.1), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),  # never pulled
    ],
)
def test_the_workspace_has_walls(position, wanted, expected):
    action = np.array([*(np.array(wanted) / 0.05), 0.0, 0.0, 0.0, 1.0])
    got, reasons = permitted(action, SCALE, BOX, situation(position))
    np.testing.assert_allclose(got.translation_m, expected, atol=2e-5)
    assert ("workspace" in reasons) == (tuple(wanted) != tuple(expected))


def test_a_wall_is_named_with_the_box():
    _, reasons = permitted(np.array([1.0] + [0.0] * 5 + [1.0]), SCALE, BOX, situation((0.79, 0.0, 0.3)))
    text = "workspace: the end effector is at x 0.790 m (box 0.2 .. 0.8 m) and would leave the box"
    assert reasons == {"workspace": text}
    assert outside(np.array([0.5, 0.6, -0.1]), BOX) == (
        "y 0.600 m is above limits.workspace_max (0.5 m), z -0.100 m is below limits.workspace_min (0 m)"
    )
    assert outside(CENTRE, BOX) is None


def test_the_order_is_the_contracts():
    assert module.LIMIT_NAMES == ("range", "step", "speed", "acceleration", "jerk", "workspace")
    action = np.array([3.0, 0, 0, 0, 0, 0, 2.0])
    tight = Limits(0.04, 0.5, 0.6, 0.5, 4.0, 10.0, 40.0, 200.0, (0.2, -0.5, 0.0), (0.505, 0.5, 0.8))
    got, reasons = permitted(action, SCALE, tight, situation())
    assert list(reasons) == list(module.LIMIT_NAMES)
    assert 0 < got.translation_m[0] <= 0.005 and not got.translation_m[1:].any()


def test_full_scale_is_what_the_limits_leave_of_the_scale():
    assert full_scale(SCALE, WIDE, 0.05) == (1.0, 1.0)
    np.testing.assert_allclose(full_scale(SCALE, Limits(), 0.05), (0.1, 0.05))
    np.testing.assert_allclose(full_scale(SCALE, replace(WIDE, step_translation=0.01), 0.05), (0.2, 1.0))


@given(
    st.lists(ANY_FLOAT, min_size=7, max_size=7), st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(0, 0.005)
)
def test_what_is_permitted_keeps_every_limit(values, position, before):
    limits, action = Limits(), np.array(values)
    if not np.isfinite(action).all():
        with pytest.raises(BadInput, match="action is not finite"):
            permitted(action, SCALE, limits, situation(position))
        return
    now = situation(position, before=Moving((before / 0.05, 0.0, 0.0)))
    got, reasons = permitted(action, SCALE, limits, now)
    assert np.linalg.norm(got.translation_m) <= limits.linear_speed * 0.05 + 1e-9
    assert np.linalg.norm(got.rotation_rad) <= limits.angular_speed * 0.05 + 1e-9
    assert 0 <= got.gripper <= 1
    reached = np.asarray(position) + got.translation_m
    for axis, low, high in zip(range(3), limits.workspace_min, limits.workspace_max, strict=True):
        assert (
            low - 1e-9 <= reached[axis] <= high + 1e-9
            or abs(reached[axis] - np.clip(position[axis], low, high))
            <= abs(position[axis] - np.clip(position[axis], low, high)) + 1e-9
        )
    unlimited = displacement(np.clip(action, [-1] * 6 + [0], 1), SCALE, IDENTITY)
    if not reasons:
        np.testing.assert_allclose(got.translation_m, unlimited.translation_m, atol=1e-12)


def test_what_is_not_finite_is_named():
    with pytest.raises(BadInput, match=r"not finite \(dy nan, gripper inf\); check the policy's weights and inputs"):
        permitted(np.array([0, math.nan, 0, 0, 0, 0, math.inf]), SCALE, WIDE, situation())
    with pytest.raises(BadInput, match=r"shape \(6,\), expected \(7,\)"):
        permitted(np.zeros(6), SCALE, WIDE, situation())
    _, reasons = permitted(np.array([0, 0, 1.5, 0, 0, 0, -0.2]), SCALE, WIDE, situation())
    assert reasons == {"range": "out of range: dz 1.500 -> 1, gripper -0.200 -> 0"}
