"""The commanded path: what was commanded adds up, from one anchor, and can be asked for at any instant."""

import numpy as np
import pytest

from specprune_ros import rotation
from specprune_ros.control.limits import Permitted
from specprune_ros.control.path import REMEMBERED_S, CommandedPath
from specprune_ros.control.profile import Moving
from specprune_ros.types import Displacement, EndEffector

PERIOD_NS = 50_000_000
START = EndEffector(10**9, np.array([0.4, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))


def motion(x=0.0, turn=0.0):
    return Permitted(
        Displacement(np.array([x, 0.0, 0.0]), np.array([0.0, 0.0, turn]), 1.0), Moving((x / 0.05, 0, 0)), Moving()
    )


def test_the_target_is_the_sum_of_all_motion():
    path = CommandedPath(PERIOD_NS)
    path.anchor(START)
    for i in range(10):
        path.advance(motion(0.01, 0.1), START.stamp_ns + i * PERIOD_NS)
    np.testing.assert_allclose(path.target.position_m, [0.5, 0.0, 0.3])
    np.testing.assert_allclose(rotation.difference(path.target.quaternion_xyzw, START.quaternion_xyzw), [0, 0, 1.0])
    path.rest(START.stamp_ns + 10 * PERIOD_NS)
    np.testing.assert_allclose(path.target.position_m, [0.5, 0.0, 0.3], err_msg="a stop moves no target")
    assert path.linear == Moving()


def test_without_an_anchor_there_is_no_target():
    path = CommandedPath(PERIOD_NS)
    path.advance(motion(0.01), 10**9)
    assert path.target is None and path.linear.velocity[0] == pytest.approx(0.2)
    path.anchor(START)
    path.forget()
    assert path.target is None


def test_what_was_not_sent_is_taken_back():
    path = CommandedPath(PERIOD_NS)
    path.anchor(START)
    path.advance(motion(0.01), START.stamp_ns)
    path.advance(motion(0.02), START.stamp_ns + PERIOD_NS)
    path.undo()
    np.testing.assert_allclose(path.target.position_m, [0.41, 0.0, 0.3])
    assert path.linear == Moving()
    np.testing.assert_allclose(path.since(START.stamp_ns), [0.01, 0.0, 0.0])
    path.undo()
    np.testing.assert_allclose(path.target.position_m, [0.41, 0.0, 0.3], err_msg="only once")


def test_between_poses_the_path_is_straight():
    path = CommandedPath(PERIOD_NS)
    path.anchor(START)
    begin = START.stamp_ns
    path.advance(motion(0.02, 0.2), begin)
    path.rest(begin + PERIOD_NS)
    shares = np.array([0.0, 0.25, 1.0, 3.0])
    positions, quaternions = path.track.at(begin + np.int64(shares * PERIOD_NS))
    np.testing.assert_allclose(positions[:, 0], 0.4 + 0.02 * np.minimum(1.0, shares))
    turned = [rotation.difference(q, START.quaternion_xyzw)[2] for q in quaternions]
    np.testing.assert_allclose(turned, 0.2 * np.minimum(1.0, shares), atol=1e-4)
    assert path.track.at(np.int64(begin - 10**9))[0][0] == 0.4
    np.testing.assert_allclose(path.since(begin + PERIOD_NS // 2), [0.01, 0.0, 0.0])


def test_the_memory_is_bounded():
    path = CommandedPath(PERIOD_NS)
    for i in range(1000):
        path.advance(motion(0.01), 10**9 + i * PERIOD_NS)
    assert REMEMBERED_S / 0.05 <= len(path.track) <= REMEMBERED_S / 0.05 + 3
    assert (np.diff(path.track.stamps_ns) > 0).all()
    np.testing.assert_allclose(path.track.positions[-1], [10.0, 0.0, 0.0])
