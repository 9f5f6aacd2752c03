"""What several tests of the simulator share: actions, states compared, rotations written out independently."""

import math

import numpy as np
from hypothesis import strategies as st

OPEN, CLOSE = 1.0, 0.0


def vectors(longest):
    return st.tuples(*[st.floats(-longest, longest)] * 3).map(np.array)


def action(*, at=(), value=0.0, gripper=OPEN):
    """(7,) with ``value`` at the indices ``at``."""
    result = np.zeros(7)
    result[list(at)], result[6] = value, gripper
    return result


def numbers(state):
    """Every number in a SimState, as one vector."""
    return np.concatenate(
        [
            [state.time_s],
            state.ee_position_m,
            state.ee_quaternion_xyzw,
            state.joint_positions_rad,
            state.joint_velocities,
            state.finger_positions_m,
            [state.pressed],
            *(thing.position_m for thing in state.things.values()),
        ]
    )


def assert_same(a, b):
    assert (tuple(a.things), a.goals) == (tuple(b.things), b.goals)
    np.testing.assert_array_equal(numbers(a), numbers(b))


def angle(a_xyzw, b_xyzw):
    """The angle [rad] between two orientations; accurate for small ones."""
    sign = math.copysign(1, a_xyzw @ b_xyzw)
    return 4 * math.asin(min(1.0, np.linalg.norm(a_xyzw - sign * b_xyzw) / 2))


def rodrigues(rotvec):
    """Rotation matrix (3, 3) of a rotation vector, by Rodrigues' formula."""
    theta = np.linalg.norm(rotvec)
    if theta == 0:
        return np.eye(3)
    x, y, z = rotvec / theta
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(theta) * cross + (1 - math.cos(theta)) * cross @ cross


def rotate(q_xyzw, vector):
    """q v q* for a pure quaternion v, written out with dot and cross products."""
    u, w = q_xyzw[:3], q_xyzw[3]
    return 2 * (u @ vector) * u + (w * w - u @ u) * vector + 2 * w * np.cross(u, vector)


def matrix(q_xyzw):
    """Rotation matrix (3, 3) of a unit quaternion: its columns are the turned axes."""
    return np.column_stack([rotate(q_xyzw, axis) for axis in np.eye(3)])
