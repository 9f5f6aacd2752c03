"""End-effector motion: against known trajectories, at any state rate, and the reference offset it asks for."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import ActionScale, ReferenceFrame
from specprune_ros.observe.motion import MotionEstimator, angle_between, longest_offset, reference_offset, speed
from specprune_ros.types import EndEffector, Motion

PERIOD = 50_000_000
METRES, RADIANS = 0.05, 0.5
TIMEOUT_S = 0.3


def estimator():
    return MotionEstimator(METRES, RADIANS, PERIOD)


def about_z(angle):
    return np.array([0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2)])


def pose(stamp_ns, position=(0, 0, 0), angle=0.0):
    return EndEffector(stamp_ns, np.asarray(position, float), about_z(angle))


def moving(stamp_ns, velocity, spin):
    """Constant velocity [action units per period] and spin."""
    periods = stamp_ns / PERIOD
    return pose(stamp_ns, np.asarray(velocity) * METRES * periods, spin * RADIANS * periods)


@given(
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(-1, 1),
    st.sampled_from((7.0, 20.0, 30.0, 100.0, 1000.0)),
    st.integers(0, 12),
)
def test_constant_motion_is_measured_exactly_at_any_rate(velocity, spin, rate_hz, since_periods):
    motion = estimator()
    for i in range(int(rate_hz * 0.6)):
        motion.push(moving(round(i * 1e9 / rate_hz), velocity, spin), TIMEOUT_S)
    for measured in (motion.latest(), motion.mean_since(since_periods * PERIOD)):
        assert measured.linear == pytest.approx(math.hypot(*velocity), abs=1e-9)
        assert measured.angular == pytest.approx(abs(spin), abs=1e-6)
        assert measured.dz == pytest.approx(velocity[2], abs=1e-9)


@given(st.lists(st.tuples(*[st.floats(-0.1, 0.1)] * 4), min_size=2, max_size=30), st.data())
def test_mean_since_is_the_mean_of_the_steps(track, data):
    motion = estimator()
    poses = [pose(i * PERIOD, p[:3], p[3]) for i, p in enumerate(track)]
    for each in poses:
        motion.push(each, TIMEOUT_S)
    start = data.draw(st.integers(0, len(poses) - 2))
    steps = list(zip(poses[start:-1], poses[start + 1 :], strict=True))
    linear = np.mean([np.linalg.norm(b.position_m - a.position_m) / METRES for a, b in steps])
    angular = np.mean([abs(q[3] - p[3]) / RADIANS for p, q in zip(track[start:-1], track[start + 1 :], strict=True)])
    dz = np.mean([(b.position_m[2] - a.position_m[2]) / METRES for a, b in steps])
    measured = motion.mean_since(start * PERIOD)
    assert (measured.linear, measured.angular, measured.dz) == pytest.approx((linear, angular, dz), abs=1e-6)


def test_latest_is_about_one_period():
    motion = estimator()
    for i in range(10):
        motion.push(moving(i * PERIOD, (1, 0, 0), 0), TIMEOUT_S)
    motion.push(pose(10 * PERIOD, (9 * METRES, 0, 0)), TIMEOUT_S)
    assert motion.latest().linear == pytest.approx(0.0, abs=1e-12)
    assert motion.mean_since(0).linear == pytest.approx(0.9)


def test_noise_of_a_fast_state_does_not_add_up():
    rng = np.random.default_rng(0)
    motion = estimator()
    for i in range(1000):
        motion.push(pose(i * 1_000_000, rng.normal(0, 1e-4, 3)), TIMEOUT_S)
    assert motion.mean_since(0).linear < 0.01


def test_jitter_of_a_state_at_the_control_rate_loses_no_movement():
    motion = estimator()
    for i in range(21):
        motion.push(pose(i * PERIOD + (PERIOD // 50 if i % 2 else 0), (METRES * (i % 2), 0, 0)), TIMEOUT_S)
    assert motion.mean_since(0).linear == pytest.approx(1.0)


def test_unknown_until_half_a_period_is_seen():
    motion = estimator()
    assert motion.latest() is None and motion.mean_since(0) is None
    motion.push(pose(0), TIMEOUT_S)
    assert motion.latest() is None and motion.mean_since(0) is None
    motion.push(pose(PERIOD // 4), TIMEOUT_S)
    assert motion.latest() is None
    motion.push(pose(PERIOD // 2), TIMEOUT_S)
    assert motion.latest().linear == 0.0


def test_since_a_stamp_that_is_newer_or_forgotten():
    motion = estimator()
    for i in range(400):
        motion.push(moving(i * PERIOD, (0, 0, -0.5), 0), TIMEOUT_S)
    assert motion.mean_since(10**18) == motion.latest()
    assert motion.mean_since(-1).dz == pytest.approx(-0.5)


def test_duplicates_and_old_stamps_are_ignored():
    motion = estimator()
    for i in range(3):
        motion.push(moving(i * PERIOD, (0.5, 0, 0), 0), TIMEOUT_S)
    before = motion.latest()
    assert motion.push(pose(2 * PERIOD, (9, 9, 9)), TIMEOUT_S) is None
    assert motion.push(pose(2 * PERIOD - 1, (9, 9, 9)), TIMEOUT_S) is None
    assert motion.latest() == before


@pytest.mark.parametrize("stamp_ns", (0, PERIOD, 20 * PERIOD))
def test_clock_jump_starts_over(stamp_ns):
    motion = estimator()
    for i in range(3):
        motion.push(moving(i * PERIOD, (0.5, 0, 0), 0), TIMEOUT_S)
    assert motion.push(pose(stamp_ns, (9, 9, 9)), TIMEOUT_S) is not None
    assert motion.latest() is None
    motion.push(pose(stamp_ns + PERIOD, (9, 9, 9)), TIMEOUT_S)
    assert motion.latest().linear == 0.0


@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from((-1, 1)))
def test_angle_between_ignores_the_quaternions_sign(a, b, sign):
    expected = abs((b - a + math.pi) % (2 * math.pi) - math.pi)
    assert angle_between(about_z(a), sign * about_z(b)) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_angle_between_against_rotation_matrices(values):
    a, b = np.array(values[:4]) + [0, 0, 0, 2], np.array(values[4:]) + [0, 0, 0, 2]
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    trace = np.trace(matrix(a).T @ matrix(b))
    assert math.cos(angle_between(a, b)) == pytest.approx((trace - 1) / 2, abs=1e-9)


def matrix(q):
    x, y, z, w = q
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew


def test_reference_offset_of_the_paper():
    paper = ReferenceFrame()
    assert [reference_offset(v, paper, 99) for v in (0.0, 0.5, 1.0, 1.5)] == [11, 10, 10, 9]
    assert longest_offset(paper) == 11
    first_version = ReferenceFrame(base=22 / 3, slope=-16 / 3 / 6)
    assert reference_offset(0.0, first_version, 99) == 11
    assert longest_offset(ReferenceFrame(slope=2.0)) == math.floor(7 + 2 * math.sqrt(3)) + 4


@given(st.floats(0, 100), st.floats(-100, 100), st.integers(0, 100), st.floats(0, 10), st.integers(1, 50))
def test_reference_offset_stays_within_the_history(base, slope, offset, speed, capacity):
    reference = ReferenceFrame(base, slope, offset)
    assert 1 <= reference_offset(speed, reference, capacity) <= capacity
    if slope <= 0:
        assert reference_offset(speed, reference, 1 << 30) <= longest_offset(reference)


def test_speed_is_in_metres_radians_and_seconds():
    scale = ActionScale(scale_translation=0.05, scale_rotation=0.5)
    full = speed(Motion(1.0, 1.0, -0.5), scale, 20.0)
    assert full == pytest.approx((1.0, 10.0, -0.5))  # LIBERO's full scale: 1 m/s and 10 rad/s
    assert speed(Motion(1.0, 1.0, -0.5), scale, 10.0) == pytest.approx((0.5, 5.0, -0.25))


def test_measured_speed_does_not_depend_on_scale_and_rate():
    """0.3 m/s, a third of it upwards, and 0.8 rad/s, whatever an action unit is."""
    for metres, radians, rate_hz in ((0.05, 0.5, 20.0), (0.01, 0.2, 20.0), (0.05, 0.5, 10.0)):
        motion = MotionEstimator(metres, radians, round(1e9 / rate_hz))
        for i in range(60):
            s = i / 60
            motion.push(pose(round(s * 1e9), (0.3 * s * math.sqrt(8 / 9), 0.0, 0.1 * s), 0.8 * s), TIMEOUT_S)
        scale = ActionScale(scale_translation=metres, scale_rotation=radians)
        assert speed(motion.latest(), scale, rate_hz) == pytest.approx((0.3, 0.8, 0.1), rel=1e-6)
