"""Speed, acceleration, jerk and room: never violated, whatever is wanted, and every motion can be stopped within
them."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.control.profile import Bounds, Moving, Room, brake, braked, steered

LOW, HIGH = np.array([0.2, -0.5, 0.0]), np.array([0.8, 0.5, 0.8])
FIRST_DAY = Bounds(speed=0.1, acceleration=2.0, jerk=40.0, period_s=0.05)


def room_at(position):
    return Room(tuple(np.minimum(0.0, LOW - position)), tuple(np.maximum(0.0, HIGH - position)))


class Judge:
    """An independent account of a motion: differences of positions alone."""

    def __init__(self, bounds, position):
        self.bounds, self.positions = bounds, [np.array(position)] * 3

    def move(self, velocity):
        period = self.bounds.period_s
        self.positions.append(self.positions[-1] + np.array(velocity) * period)
        p = self.positions[-4:]
        v = np.diff(p, axis=0) / period
        a = np.diff(v, axis=0) / period
        j = np.diff(a, axis=0) / period
        for values, limit in ((v, self.bounds.speed), (a, self.bounds.acceleration), (j, self.bounds.jerk)):
            assert np.linalg.norm(values[-1]) <= limit * (1 + 1e-6) + 1e-6, (values[-1], limit)
        assert (self.positions[-1] >= LOW - 1e-6).all() and (self.positions[-1] <= HIGH + 1e-6).all()


def wishes(rng, bounds, count):
    """Wanted velocities that change at the seams of chunks, often wildly."""
    wanted = np.zeros(3)
    for _ in range(count):
        if rng.random() < 0.3:
            wanted = rng.normal(size=3) * bounds.speed * 10 ** rng.uniform(-1, 1)
        yield tuple(wanted)


@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_seams_without_a_violation(seed):
    """1,000 chunk seams per seed, limits of all sizes, walls included; every position is judged by differences."""
    rng, seams = np.random.default_rng(seed), 0
    while seams < 1000:
        bounds = Bounds(
            speed=10 ** rng.uniform(-2, 0.5),
            acceleration=10 ** rng.uniform(-1, 1.5),
            jerk=10 ** rng.uniform(0.5, 3),
            period_s=float(rng.choice([0.02, 0.05, 0.1])),
        )
        judge, moving = Judge(bounds, (0.5, 0.0, 0.3)), Moving()
        for wanted in wishes(rng, bounds, 60):
            moving = steered(wanted, moving, bounds, room_at(judge.positions[-1])).moving
            judge.move(moving.velocity)
            seams += 1
        for braking in brake(moving, bounds):
            judge.move(braking.velocity)
            moving = braking
        assert moving.at_rest


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0, 1))
def test_the_brake_ends_at_rest(direction, share):
    """From any motion that the limits allow, also with an acceleration of its own."""
    bounds = Bounds(speed=0.5, acceleration=1.0, jerk=5.0, period_s=0.05)
    size = math.hypot(*direction) or 1.0
    velocity = tuple(share * 0.4 * x / size for x in direction)
    moving = Moving(velocity, (0.2, 0.0, -0.2))
    ways = list(brake(moving, bounds))
    assert not ways or ways[-1] == Moving()
    assert len(ways) < 60


def test_first_day_limits_stop_within_two_periods():
    assert [tuple(moving.velocity) for moving in brake(Moving((0.1, 0.0, 0.0)), FIRST_DAY)] == [(0.0, 0.0, 0.0)] * 2


def test_what_is_allowed_is_taken_as_it_is():
    got = steered((0.05, 0.0, 0.0), Moving((0.04, 0.0, 0.0)), FIRST_DAY, Room((-1, -1, -1), (1, 1, 1)))
    assert got.moving.velocity == (0.05, 0.0, 0.0)
    assert (got.speed, got.acceleration, got.jerk, got.walls) == (None, None, None, ())


def test_each_limit_says_what_it_changed():
    got = steered((0.3, 0.0, 0.0), Moving(), Bounds(0.1, 1.0, 10.0, 0.05))
    assert got.speed == (pytest.approx(0.3), 0.1)
    assert got.acceleration == (pytest.approx(2.0), 1.0)
    assert got.jerk == (pytest.approx(20.0), 10.0)


def test_the_arm_slides_along_a_wall():
    bounds, position, moving = Bounds(0.1, 2.0, 40.0, 0.05), np.array([0.79, 0.0, 0.3]), Moving()
    for _ in range(20):
        got = steered((0.1, 0.05, 0.0), moving, bounds, room_at(position))
        moving, position = got.moving, position + np.array(got.moving.velocity) * 0.05
    assert position[0] == pytest.approx(0.8, abs=1e-3) and position[1] > 0.03 and got.walls == (0,)


def test_outside_the_room_there_is_a_way_back_only():
    position = np.array([0.9, 0.0, 0.3])
    assert steered((0.1, 0.0, 0.0), Moving(), FIRST_DAY, room_at(position)).moving.velocity[0] == 0.0
    assert steered((-0.1, 0.0, 0.0), Moving(), FIRST_DAY, room_at(position)).moving.velocity[0] == -0.1


def test_a_limit_that_was_lowered_on_the_way_is_reached_by_braking():
    moving, lower = Moving((0.1, 0.0, 0.0)), Bounds(0.02, 0.5, 10.0, 0.05)
    speeds = []
    for _ in range(20):
        after = steered((0.1, 0.0, 0.0), moving, lower).moving
        assert abs(after.acceleration[0]) <= 0.5 + 1e-9
        moving = after
        speeds.append(moving.velocity[0])
    assert speeds[-1] <= 0.02 + 1e-9


def test_the_brake_follows_its_formula():
    """a* = -v/|v| R^-1(|v| / T): one step against the sum written out."""
    bounds, speed = Bounds(10.0, 100.0, 20.0, 0.05), 0.3
    step, total, first = bounds.jerk * bounds.period_s, 0.0, None
    for candidate in np.linspace(0.0, 20.0, 400_001):
        total = sum(max(0.0, candidate - k * step) for k in range(40))
        if total >= speed / bounds.period_s:
            first = candidate
            break
    got = braked(Moving((speed, 0.0, 0.0), (-first, 0.0, 0.0)), bounds)
    assert got.acceleration[0] == pytest.approx(-first, abs=1e-3)
