"""Rotations as small float64 arrays.

Quaternions are (x, y, z, w) of unit length, multiplied as Hamilton did; a rotation vector is the axis times the angle
[rad].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Numbers = Sequence[float] | np.ndarray
"""Three of a vector or four of a quaternion."""

TOP_DOWN_XYZW = np.array([1.0, 0.0, 0.0, 0.0])
"""The hand points straight down, x forward: a half turn about the base x axis. Fingers open along the base y axis."""


def multiply(a_xyzw: Numbers, b_xyzw: Numbers) -> np.ndarray:
    """The rotation b followed by the rotation a, (4,)."""
    ax, ay, az, aw = (float(v) for v in a_xyzw)
    bx, by, bz, bw = (float(v) for v in b_xyzw)
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def conjugate(q_xyzw: Numbers) -> np.ndarray:
    """The inverse rotation of a unit quaternion, (4,)."""
    x, y, z, w = q_xyzw
    return np.array([-x, -y, -z, w])


def from_rotvec(rotvec_rad: Numbers) -> np.ndarray:
    """Unit quaternion (4,) of a rotation vector (3,)."""
    x, y, z = (float(v) for v in rotvec_rad)
    angle = math.sqrt(x * x + y * y + z * z)
    scale = 0.5 if angle < 1e-9 else math.sin(angle / 2) / angle
    return np.array([x * scale, y * scale, z * scale, math.cos(angle / 2)])


def to_rotvec(q_xyzw: Numbers) -> np.ndarray:
    """The shortest rotation vector (3,), angle in [0, pi]."""
    x, y, z, w = (float(v) for v in q_xyzw)
    if w < 0:
        x, y, z, w = -x, -y, -z, -w
    return _rotvec(x, y, z, w)


def to_rotvec_x_positive(q_xyzw: Numbers) -> np.ndarray:
    """The rotation vector (3,) whose x component is not negative, angle in [0, 2 pi).

    A hand that points down is a half turn about x, where the shortest rotation vector jumps between +pi and -pi. The
    sign of the quaternion is therefore fixed by x >= 0 instead of w >= 0, which is continuous for every pose less than
    a half turn away from top-down.
    """
    x, y, z, w = (float(v) for v in q_xyzw)
    if x < 0:
        x, y, z, w = -x, -y, -z, -w
    return _rotvec(x, y, z, w)


def difference(to_xyzw: Numbers, from_xyzw: Numbers) -> np.ndarray:
    """Shortest rotation vector (3,), in the common base frame, that turns ``from`` into ``to``."""
    return to_rotvec(multiply(to_xyzw, conjugate(from_xyzw)))


def _rotvec(x: float, y: float, z: float, w: float) -> np.ndarray:
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, w) / sine
    return np.array([x * scale, y * scale, z * scale])


def rotate(q_xyzw: Numbers, vector: Numbers) -> np.ndarray:
    """A vector (3,) turned by a unit quaternion: coordinates in the turned frame become those in the common frame."""
    x, y, z = vector
    return multiply(multiply(q_xyzw, (x, y, z, 0.0)), conjugate(q_xyzw))[:3]


def from_rpy(rpy_rad: Numbers) -> np.ndarray:
    """Unit quaternion (4,) of roll, pitch, yaw about fixed x, y, z axes, roll first (REP-103).

    The rotation matrix is R_z(yaw) R_y(pitch) R_x(roll).
    """
    roll, pitch, yaw = (from_rotvec(np.eye(3)[axis] * float(rpy_rad[axis])) for axis in range(3))
    return multiply(yaw, multiply(pitch, roll))


def limited(vector: np.ndarray, longest: float) -> np.ndarray:
    """The vector, shortened to ``longest`` where it is longer."""
    length = float(np.sqrt(vector @ vector))
    return vector if length <= longest else vector * (longest / length)
