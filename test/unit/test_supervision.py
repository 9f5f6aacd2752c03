"""Commanded against measured motion: what an ordinary arm does passes, what an arm must not do is found in time, with a
reason."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros import rotation
from specprune_ros.config import Supervision
from specprune_ros.control import supervision as module
from specprune_ros.control.limits import Permitted
from specprune_ros.control.path import CommandedPath
from specprune_ros.control.profile import Moving
from specprune_ros.control.supervision import Supervisor
from specprune_ros.types import Displacement, EndEffector

PERIOD_S = 0.05
PERIOD_NS = 50_000_000
START = np.array([0.4, 0.0, 0.3])
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
SETTINGS = Supervision()


class Arm:
    """A commanded path and an arm that answers it: with a dead time and a first-order lag, unless something is
    wrong."""

    def __init__(self, dead_s=0.05, lag_s=0.05, absolute=False, settings=SETTINGS, sag=(0.0, 0.0, 0.0)):
        self.path, self.supervisor = CommandedPath(PERIOD_NS), Supervisor()
        self.settings, self.absolute = settings, absolute
        self.dead, self.share = round(dead_s / PERIOD_S), PERIOD_S / (PERIOD_S + lag_s)
        self.now = 10**9
        self.sag = np.array(sag, float)
        self.position, self.turn = START + self.sag, DOWN
        self.path.anchor(self.pose())
        self.supervisor.begin(self.pose())
        self.targets = [(self.path.target.position_m, DOWN)] * (self.dead + 1)
        self.frozen = False
        self.push = np.zeros(3)
        self.map = np.eye(3)
        """what the arm makes of a commanded motion"""

    def pose(self):
        return EndEffector(self.now, self.position.copy(), self.turn)

    def tick(self, velocity=(0.0, 0.0, 0.0), spin=0.0):
        """One control period; returns what supervision says at its end."""
        moved, turned = np.array(velocity) * PERIOD_S, np.array([0.0, 0.0, spin * PERIOD_S])
        motion = Permitted(Displacement(moved, turned, 1.0), Moving(), Moving())
        self.path.advance(motion, self.now) if moved.any() or turned.any() else self.path.rest(self.now)
        self.targets.append((self.path.target.position_m, self.path.target.quaternion_xyzw))
        self.now += PERIOD_NS
        if not self.frozen:
            place, turn = self.targets[-1 - self.dead]
            place = START + self.map @ (place - START) + self.sag
            self.position = self.position + self.share * (place - self.position)
            rest = rotation.difference(turn, self.turn)
            self.turn = rotation.multiply(rotation.from_rotvec(self.share * rest), self.turn)
        self.position = self.position + self.push * PERIOD_S
        return self.supervisor.check(self.path, self.pose(), self.settings, self.absolute)

    def run(self, periods, **motion):
        """The first finding and how long it took [s], or None."""
        for period in range(1, periods + 1):
            if text := self.tick(**motion):
                return text, period * PERIOD_S
        return None


@pytest.mark.slow
def test_an_ordinary_arm_passes():
    rng = np.random.default_rng(0)
    for dead_s, lag_s in ((0.0, 0.0), (0.05, 0.05), (0.1, 0.02), (0.0, 0.15)):
        arm, velocity, spin = Arm(dead_s, lag_s), np.zeros(3), 0.0
        for step in range(600):
            if step % 8 == 0:  # a new chunk, stops in between
                velocity = rng.normal(size=3) * 0.05 * (rng.random() > 0.2)
                velocity *= min(1.0, 0.1 / (np.linalg.norm(velocity) or 1.0))
                spin = rng.uniform(-0.5, 0.5) * (rng.random() > 0.3)
            assert arm.tick(velocity, spin) is None, (dead_s, lag_s, step)


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.5, 0.5), st.integers(1, 12)), max_size=12))
def test_an_ordinary_arm_passes_whatever_it_is_told(moves):
    arm = Arm(0.05, 0.05)
    for velocity, spin, periods in moves:
        assert arm.run(periods, velocity=(velocity, 0.0, 0.0), spin=spin) is None


def test_a_frozen_arm_is_found_within_0_3_s():
    arm = Arm()
    assert arm.run(30, velocity=(0.1, 0.0, 0.0)) is None
    arm.frozen = True
    text, time_s = arm.run(20, velocity=(0.1, 0.0, 0.0))
    assert time_s <= 0.3 and text.startswith("the end effector does not follow: 0.00")
    assert "of a commanded translation of 0.01" in text and "supervision.follow_translation" in text
    assert "reflex, user stop" in text


def test_an_arm_that_never_starts_is_found_within_0_3_s():
    arm = Arm()
    arm.frozen = True
    text, time_s = arm.run(20, velocity=(0.0, -0.1, 0.0))
    assert time_s <= 0.3 and "does not follow" in text


def test_a_wrist_that_does_not_turn_is_found_within_0_35_s():
    arm = Arm()
    arm.frozen = True
    text, time_s = arm.run(20, spin=0.5)
    assert time_s <= 0.35 and "commanded rotation of 0.1" in text and "rad" in text


def test_a_slow_motion_is_judged_when_it_is_long_enough():
    arm = Arm()
    arm.frozen = True
    _, time_s = arm.run(60, velocity=(0.02, 0.0, 0.0))
    assert 0.5 <= time_s <= 0.75, "0.01 m at 0.02 m/s, and the delay"


def test_a_wrong_frame_is_named():
    arm = Arm()
    arm.map = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a quarter turn about z
    text, time_s = arm.run(20, velocity=(0.1, 0.0, 0.0))
    assert time_s <= 0.4
    assert "moves in another direction than commanded" in text and "check robot.base_frame" in text


@pytest.mark.parametrize("push", [(0.1, 0.0, 0.0), (0.0, 0.0, -0.15), (0.0, 0.3, 0.0)])
def test_an_arm_that_moves_by_itself_is_found_within_0_3_s(push):
    arm = Arm()
    assert arm.run(20) is None
    arm.frozen, arm.push = True, np.array(push)
    text, time_s = arm.run(20)
    assert time_s <= 0.3 and "moves without being told" in text and "supervision.drift_translation" in text


def test_a_slow_drift_is_found_as_well():
    arm = Arm()
    arm.frozen, arm.push = True, np.array([0.0, 0.0, -0.03])
    text, time_s = arm.run(60)
    assert time_s <= 1.1 and "moves without being told" in text


@pytest.mark.parametrize("speed_mps", [0.003, 0.02])
def test_an_arm_that_was_told_to_rest_is_found_however_slowly_it_goes(speed_mps):
    arm = Arm()
    assert arm.run(20, velocity=(0.05, 0.0, 0.0)) is None
    arm.frozen, arm.push = True, np.array([0.0, speed_mps, 0.0])
    text, time_s = arm.run(400)
    assert "moves without being told" in text and time_s <= 0.5 + 0.026 / speed_mps


def test_a_slow_turn_of_a_resting_arm_is_found():
    arm = Arm()
    arm.frozen = True
    for period in range(200):  # noqa: B007
        arm.turn = rotation.multiply(rotation.from_rotvec((0.0, 0.0, 0.005)), arm.turn)
        if text := arm.tick():
            break
    assert "it was told to rest and went 0.15" in text and "rad" in text and period < 45


def test_a_slow_drift_beside_commanded_motion_is_found():
    arm = Arm()
    for period in range(200):
        arm.sag = np.array([0.0, 0.0006 * period, 0.0])  # 0.012 m/s
        if text := arm.tick((0.02 * (-1) ** (period // 20), 0.0, 0.0)):
            break
    assert text and "were not commanded" in text


@pytest.mark.parametrize("silent", [8, 25, 45])
def test_what_the_arm_did_while_its_pose_was_silent_counts(silent):
    arm = Arm()
    assert arm.run(20, velocity=(0.05, 0.0, 0.0)) is None
    assert arm.run(20) is None
    arm.frozen = True
    for _ in range(silent):
        arm.path.rest(arm.now)
        arm.now += PERIOD_NS
    arm.position = arm.position + [0.0, 0.06, 0.0]
    assert "0.060 m of its 0.060 m" in arm.tick()


def test_a_pause_of_the_pose_while_the_arm_does_what_it_is_told_is_no_finding():
    arm = Arm(0.05, 0.05)
    assert arm.run(20, velocity=(0.05, 0.0, 0.0)) is None
    check, arm.supervisor.check = arm.supervisor.check, lambda *given: None
    assert arm.run(9, velocity=(0.05, 0.0, 0.0)) is None
    assert arm.run(12) is None
    arm.supervisor.check = check
    assert arm.run(30) is None
    assert arm.run(30, velocity=(-0.05, 0.0, 0.0)) is None


def test_a_collision_while_moving_is_found():
    arm = Arm()
    assert arm.run(30, velocity=(0.1, 0.0, 0.0)) is None
    arm.push = np.array([-0.3, 0.3, 0.0])
    text, time_s = arm.run(20, velocity=(0.1, 0.0, 0.0))
    assert time_s <= 0.3 and ("without being told" in text or "direction" in text)


def test_a_turn_that_nobody_commanded_is_found():
    arm = Arm()
    for period in range(10):  # noqa: B007
        arm.turn = rotation.multiply(rotation.from_rotvec((0.0, 0.0, 0.03)), arm.turn)
        arm.frozen = True
        if text := arm.tick():
            break
    assert period <= 6 and "supervision.drift_rotation" in text


def test_a_sag_of_two_centimetres_is_an_error_and_no_fault():
    arm = Arm(absolute=True)
    arm.sag = np.array([0.0, 0.0, -0.02])  # the load comes on when the controller takes over
    for _ in range(8):
        assert arm.run(10, velocity=(0.05, 0.0, 0.0)) is None
        assert arm.run(14) is None
    assert arm.path.target.position_m[2] == pytest.approx(START[2]), "the target stays where it was"


def test_an_arm_away_from_its_target_is_found_only_with_absolute_targets():
    slack = replace(SETTINGS, drift_translation=1.0)
    for absolute in (True, False):
        arm = Arm(absolute=absolute, settings=slack)
        arm.sag = np.array([0.0, 0.0, -0.08])
        found = arm.run(20)
        assert bool(found) == absolute
    arm = Arm(absolute=True, settings=slack)
    arm.sag = np.array([0.0, 0.0, -0.08])
    text, time_s = arm.run(20)
    assert time_s <= 0.3 and "m away from its target (supervision.error_translation 0.05 m)" in text


def test_a_pose_measured_at_another_point_is_found_at_the_first_target():
    """A pose source 10 cm off the controller's frame: the arm jumps when the first target arrives."""
    arm = Arm(absolute=True)
    arm.sag = np.array([0.1, 0.0, 0.0])
    text, time_s = arm.run(20, velocity=(0.02, 0.0, 0.0))
    assert time_s <= 0.3


def test_switched_off_it_says_nothing():
    arm = Arm(settings=replace(SETTINGS, enabled=False))
    arm.frozen = True
    assert arm.run(100, velocity=(0.1, 0.0, 0.0)) is None


def test_repeated_poses_are_no_news():
    arm = Arm()
    arm.tick()
    pose = arm.pose()
    for _ in range(50):
        assert arm.supervisor.check(arm.path, pose, SETTINGS, False) is None


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.lists(st.floats(-1, 1), min_size=9, max_size=9))
def test_the_distance_to_segments_is_the_smallest_of_many_points(point, ends):
    """Against a slow search along every segment."""
    point, ends = np.array(point), np.array(ends).reshape(3, 3)
    shares = np.linspace(0, 1, 2001)[:, None]
    slow = min(float(np.linalg.norm(point - shares * end, axis=1).min()) for end in ends)
    assert module.distance_to_segments(point, ends) == pytest.approx(slow, abs=1e-3)


def test_turns_equal_the_differences_of_quaternions():
    quaternions = np.array([rotation.from_rotvec(v) for v in np.random.default_rng(1).normal(size=(40, 3)) * 2])
    got = module.turns(quaternions[1:], quaternions[:-1])
    expected = [rotation.difference(b, a) for a, b in zip(quaternions, quaternions[1:], strict=False)]
    np.testing.assert_allclose(got, expected, atol=1e-9)
