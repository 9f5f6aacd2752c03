"""What has been commanded: the motion now, the target it adds up to, and the way there during the last seconds."""

from __future__ import annotations

import numpy as np

from specprune_ros import rotation
from specprune_ros.control.limits import Permitted
from specprune_ros.control.profile import Moving
from specprune_ros.types import NANOSECONDS, EndEffector

REMEMBERED_S = 4.0
"""How much of a way is kept."""

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


class Track:
    """Poses over time, of the last REMEMBERED_S: what was commanded, or what was measured.

    stamps_ns: (n,) int64, rising; positions: (n, 3) [m]; quaternions: (n, 4), unit length. Views: read them at once.
    """

    def __init__(self) -> None:
        self._stamps_ns = np.zeros(64, np.int64)
        self._poses = np.zeros((64, 7))
        self._first = self._end = 0

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def stamps_ns(self) -> np.ndarray:
        return self._stamps_ns[self._first : self._end]

    @property
    def positions(self) -> np.ndarray:
        return self._poses[self._first : self._end, :3]

    @property
    def quaternions(self) -> np.ndarray:
        return self._poses[self._first : self._end, 3:]

    def append(self, stamp_ns: int, position: np.ndarray, quaternion: np.ndarray) -> None:
        """One more pose, later than all before; what is too old is forgotten."""
        if self._end == len(self._stamps_ns):
            self._make_room()
        self._stamps_ns[self._end] = stamp_ns
        self._poses[self._end, :3], self._poses[self._end, 3:] = position, quaternion
        self._end += 1
        oldest_ns = stamp_ns - round(REMEMBERED_S * NANOSECONDS)
        while len(self) > 2 and self._stamps_ns[self._first + 1] <= oldest_ns:
            self._first += 1

    def pop(self) -> None:
        """Take the last pose back."""
        self._end -= 1

    def at(self, stamps_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (..., 3) and quaternions (..., 4) at instants (...), in proportion of time; at its ends before and
        after them. Orientations are mixed linearly, which is exact enough for poses that follow each other closely."""
        later = np.clip(np.searchsorted(self.stamps_ns, stamps_ns), 1, max(1, len(self) - 1))
        later = np.minimum(later, len(self) - 1)
        earlier = np.maximum(later - 1, 0)
        span = np.maximum(self.stamps_ns[later] - self.stamps_ns[earlier], 1)
        share = np.clip((stamps_ns - self.stamps_ns[earlier]) / span, 0.0, 1.0)[..., None]
        before, after = self._poses[self._first + earlier], self._poses[self._first + later]
        mixed = before + share * (after - before)
        turns = mixed[..., 3:]
        return mixed[..., :3], turns / np.linalg.norm(turns, axis=-1, keepdims=True)

    def _make_room(self) -> None:
        kept = len(self)
        if kept > len(self._stamps_ns) // 2:
            self._stamps_ns = np.concatenate([self._stamps_ns, np.zeros_like(self._stamps_ns)])
            self._poses = np.concatenate([self._poses, np.zeros_like(self._poses)])
        self._stamps_ns[:kept] = self._stamps_ns[self._first : self._end].copy()
        self._poses[:kept] = self._poses[self._first : self._end].copy()
        self._first, self._end = 0, kept


class CommandedPath:
    """Adds up the commanded motion. `anchor` ties it to the measured pose, once, when the arm is armed."""

    def __init__(self, period_ns: int):
        self._period_ns = period_ns
        self.forget()

    def forget(self) -> None:
        """The arm is at rest, and nobody knows where."""
        self.linear = self.angular = Moving()
        self.target: EndEffector | None = None
        self._before: EndEffector | None = None
        self._sent = False
        self.track = Track()
        self.track.append(0, np.zeros(3), IDENTITY)

    def anchor(self, measured: EndEffector) -> None:
        """The arm is at rest where it was measured; what is commanded from now on starts there."""
        self.forget()
        self.target = measured
        self.track = Track()
        self.track.append(measured.stamp_ns, measured.position_m, measured.quaternion_xyzw)

    def advance(self, motion: Permitted, now_ns: int) -> None:
        """One period of motion begins now."""
        self._before, self._sent = self.target, True
        self.linear, self.angular = motion.linear, motion.angular
        moved, turned = motion.displacement.translation_m, rotation.from_rotvec(motion.displacement.rotation_rad)
        self._stay(now_ns)
        position, quaternion = self.track.positions[-1], self.track.quaternions[-1]
        quaternion = rotation.multiply(turned, quaternion)
        quaternion /= np.linalg.norm(quaternion)
        self.track.append(now_ns + self._period_ns, position + moved, quaternion)
        if self.target is not None:
            self.target = EndEffector(now_ns, position + moved, quaternion)

    def rest(self, now_ns: int) -> None:
        """No motion in the period that begins now."""
        self._sent = False
        self.linear = self.angular = Moving()
        self._stay(now_ns)

    def undo(self) -> None:
        """The last period's motion was not sent: the arm is at rest where it was before."""
        if self._sent:
            self.target, self._sent = self._before, False
            self.track.pop()
        self.linear = self.angular = Moving()

    def since(self, stamp_ns: int) -> np.ndarray:
        """(3,) translation commanded after `stamp_ns` [m], the present period included."""
        return self.track.positions[-1] - self.track.at(np.array(stamp_ns))[0]

    def _stay(self, now_ns: int) -> None:
        """Extends the path to `now_ns` by repeating the last pose."""
        if now_ns > self.track.stamps_ns[-1]:
            self.track.append(now_ns, self.track.positions[-1].copy(), self.track.quaternions[-1].copy())
