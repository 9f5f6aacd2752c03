"""Measured end-effector motion in action units, and the reference frame it asks for (docs/explanation/method.md)."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from specprune_ros.config import ActionScale, ReferenceFrame
from specprune_ros.observe.gaps import interruption
from specprune_ros.types import EndEffector, Motion

MEMORY_PERIODS = 256
"""How far back `mean_since` can look; longer than any chunk lives."""

FULL_SPEED = math.sqrt(3.0)
"""Norm of a translation command with all three axes at full scale [action units]."""


class _Sample(NamedTuple):
    """One instant: the path travelled until then [m, rad] and the height [m]."""

    stamp_ns: int
    path_m: float
    path_rad: float
    height_m: float


class Speed(NamedTuple):
    """A `Motion` in physical units."""

    linear: float
    """[m/s]"""
    angular: float
    """[rad/s]"""
    vertical: float
    """[m/s], up positive"""


def speed(motion: Motion, scale: ActionScale, rate_hz: float) -> Speed:
    """What `motion` is in metres, radians and seconds at this control rate."""
    metres, radians = scale.scale_translation * rate_hz, scale.scale_rotation * rate_hz
    return Speed(motion.linear * metres, motion.angular * radians, motion.dz * metres)


class MotionEstimator:
    """Mean movement per control period from measured poses that may come at any rate.

    The path is measured between samples about one period apart, so that the noise of a 1 kHz state does not add up.
    """

    def __init__(self, scale_translation: float, scale_rotation: float, period_ns: int):
        """scale_translation [m] and scale_rotation [rad]: one action unit per control period."""
        self._scale_m = scale_translation
        self._scale_rad = scale_rotation
        self._period_ns = period_ns
        self._samples: deque[_Sample] = deque(maxlen=MEMORY_PERIODS)
        self.reset()

    def reset(self) -> None:
        """Forget all poses: the motion is unknown until enough new ones came."""
        self._samples.clear()
        self._sampled_pose: EndEffector | None = None
        self._now: _Sample | None = None

    def push(self, pose: EndEffector, timeout_s: float) -> str | None:
        """Add a pose; why the estimator started over, when it did (`observe.gaps`).

        The pose was checked (`observe.inputs`). Repeated and slightly older stamps are ignored. timeout_s:
        control.observation_timeout.
        """
        before_ns = None if self._now is None else self._now.stamp_ns
        broken = interruption(before_ns, pose.stamp_ns, self._period_ns, timeout_s)
        if broken:
            self.reset()
        if self._now is None:
            self._start(pose)
        elif pose.stamp_ns > self._now.stamp_ns:
            self._advance(pose)
        return broken

    def latest(self) -> Motion | None:
        """Movement over about the last period; None while unknown."""
        now = self._now
        if now is None:
            return None
        newest_allowed_ns = now.stamp_ns - self._period_ns // 2
        for sample in reversed(self._samples):
            if sample.stamp_ns <= newest_allowed_ns:
                return self._between(sample, now)
        return None

    def mean_since(self, stamp_ns: int) -> Motion | None:
        """Mean movement per period since `stamp_ns`, as far back as is remembered; None while unknown."""
        start = None
        for sample in reversed(self._samples):
            start = sample
            if sample.stamp_ns <= stamp_ns:
                break
        now = self._now
        if start is None or now is None or now.stamp_ns - start.stamp_ns < self._period_ns // 2:
            return self.latest()
        return self._between(start, now)

    def _start(self, pose: EndEffector) -> None:
        self._keep(_Sample(pose.stamp_ns, 0.0, 0.0, float(pose.position_m[2])), pose)

    def _advance(self, pose: EndEffector) -> None:
        last, origin = self._samples[-1], self._sampled_pose
        assert origin is not None
        self._now = _Sample(
            pose.stamp_ns,
            last.path_m + math.dist(pose.position_m, origin.position_m),
            last.path_rad + angle_between(origin.quaternion_xyzw, pose.quaternion_xyzw),
            float(pose.position_m[2]),
        )
        # A tenth of a period of slack: a state at the control rate is sampled every time, in spite of jitter.
        if pose.stamp_ns - last.stamp_ns >= self._period_ns - self._period_ns // 10:
            self._keep(self._now, pose)

    def _keep(self, sample: _Sample, pose: EndEffector) -> None:
        self._samples.append(sample)
        self._sampled_pose = pose
        self._now = sample

    def _between(self, start: _Sample, end: _Sample) -> Motion:
        periods = (end.stamp_ns - start.stamp_ns) / self._period_ns
        metres, radians = periods * self._scale_m, periods * self._scale_rad
        return Motion(
            linear=(end.path_m - start.path_m) / metres,
            angular=(end.path_rad - start.path_rad) / radians,
            dz=(end.height_m - start.height_m) / metres,
        )


def angle_between(from_xyzw: np.ndarray, to_xyzw: np.ndarray) -> float:
    """Angle [rad, 0..pi] of the rotation from one orientation to another; q and -q are the same orientation."""
    ax, ay, az, aw = map(float, from_xyzw)
    bx, by, bz, bw = map(float, to_xyzw)
    # conjugate(a) * b, the rotation from a to b.
    w = aw * bw + ax * bx + ay * by + az * bz
    x = aw * bx - ax * bw - ay * bz + az * by
    y = aw * by + ax * bz - ay * bw - az * bx
    z = aw * bz - ax * by + ay * bx - az * bw
    return 2.0 * math.atan2(math.hypot(x, y, z), abs(w))


def reference_offset(linear: float, reference: ReferenceFrame, capacity: int) -> int:
    """T = floor(b + k v) + offset [periods], within 1..capacity; v in action units per period."""
    periods = math.floor(reference.base + reference.slope * linear) + reference.offset
    return max(1, min(capacity, periods))


def longest_offset(reference: ReferenceFrame) -> int:
    """The farthest reference frame that any speed up to full scale asks for: what the history must hold [periods]."""
    unlimited = 1 << 30
    return max(reference_offset(speed, reference, unlimited) for speed in (0.0, FULL_SPEED))
