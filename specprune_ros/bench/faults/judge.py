"""Judges a stream of commands from outside: what it adds up to, whether it keeps the limits, and when it came to rest.

Nothing here is shared with the code that is judged: speed, acceleration and jerk are differences of what was commanded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specprune_ros.config import Limits

SLACK = np.array([1e-6, 1e-4, 1e-2, 1.0])
"""Rounding of a message's numbers: [m or rad], and the same per second, squared and cubed."""


class Seen(NamedTuple):
    """One command. motion: (6,) translation [m] and rotation [rad] of one period; all zero: rest."""

    stamp_ns: int
    motion: np.ndarray
    message: object

    @property
    def moves(self) -> bool:
        return bool(self.motion.any())


class Judge:
    """Collects what is wrong with a stream of commands. Stops may be sudden: only motions are held against the
    limits."""

    def __init__(self, limits: Limits, period_s: float):
        self.limits, self.period_s = limits, period_s
        self.seen: list[Seen] = []
        self.arrivals_s: list[float] = []
        """When each of them arrived."""
        self.violations: list[str] = []
        self.forward = True
        """Stamps never go back."""
        self._forbidden_ns: int | None = 0
        """A motion with a later stamp is a violation; None while the arm may move."""
        self.start_anew()

    def start_anew(self) -> None:
        """Another process commands now, or the arm was armed again: it starts from rest."""
        self._before = [np.zeros(6)] * 2
        self._last_ns = 0
        self.fresh = True
        """Nothing has been commanded since."""

    def allow(self) -> None:
        """Motion is expected from now on."""
        if self._forbidden_ns is not None:
            self.start_anew()
        self._forbidden_ns = None

    def forbid(self, now_ns: int) -> None:
        """Motion that is stamped later is a violation."""
        self._forbidden_ns = now_ns

    def add(self, seen: Seen, arrived_s: float) -> None:
        """One more command, in the order of arrival."""
        if not np.isfinite(seen.motion).all():
            self.violation(f"not finite: {seen.message}")
            return
        self.fresh = False
        if self.forward and seen.stamp_ns < self._last_ns:
            self.violation("stamps go back")
        paused = seen.stamp_ns - self._last_ns > 2 * self.period_s * 1e9
        if paused:  # a pause in the stream is rest: what comes after it starts from there
            self._before = [np.zeros(6)] * 2
        if seen.moves:
            self._judge(seen)
        self._before = [seen.motion, self._before[0]]
        self._last_ns = seen.stamp_ns
        self.seen.append(seen)
        self.arrivals_s.append(arrived_s)

    def violation(self, text: str) -> None:
        self.violations.append(text)

    def _judge(self, seen: Seen) -> None:
        if self._forbidden_ns is not None and seen.stamp_ns > self._forbidden_ns:
            late_s = 1e-9 * (seen.stamp_ns - self._forbidden_ns)
            self.violation(f"motion {seen.motion} {late_s:.3f} s after it was forbidden")
        last, before = self._before
        limits, t = self.limits, self.period_s
        for part, bounds in (
            (
                slice(0, 3),
                (limits.step_translation, limits.linear_speed, limits.linear_acceleration, limits.linear_jerk),
            ),
            (
                slice(3, 6),
                (limits.step_rotation, limits.angular_speed, limits.angular_acceleration, limits.angular_jerk),
            ),
        ):
            now, then, long_ago = seen.motion[part], last[part], before[part]
            sizes = [
                np.linalg.norm(now),
                np.linalg.norm(now) / t,
                np.linalg.norm(now - then) / t**2,
                np.linalg.norm(now - 2 * then + long_ago) / t**3,
            ]
            for name, size, bound, slack in zip(
                ("step", "speed", "acceleration", "jerk"), sizes, bounds, SLACK, strict=True
            ):
                if size > bound + slack:
                    self.violation(f"{name} {size:.4f} above {bound:g}: {before} -> {last} -> {seen.motion}")
