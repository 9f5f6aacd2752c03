"""A measured pose that the arm cannot have reached is not believed: everything that is computed from it would jump as
well."""

from __future__ import annotations

import math
from typing import NamedTuple

from specprune_ros.observe.gaps import clock_jumped_back
from specprune_ros.observe.motion import angle_between
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector

SLACK_M, SLACK_RAD = 0.03, 0.15
"""Jitter of stamps and noise of a measurement, at most; smaller jumps are for supervision to find
(control/supervision.py)."""
CALM_S = 0.2
"""So long must the arm be back where it can be before it is believed again; two publishers that disagree never are."""
SETTLED_S = 1.0
"""While nothing is commanded, an arm that is steadily elsewhere for so long is there: it was moved, or its frame was
changed."""


class Reach(NamedTuple):
    """How fast the arm can be, and by which rule, for people to read."""

    mps: float
    radps: float
    because: str


ANYBODY = Reach(3.0, 25.0, "no arm moves faster")
"""While the arm is not commanded from here nobody knows who moves it; an FR3's own limit is 3 m/s."""


class Continuity:
    """Judges poses one after the other."""

    def __init__(self, period_ns: int):
        self._period_ns = period_ns
        self.reset()

    def reset(self) -> None:
        """The next pose may be anywhere."""
        self._believed: EndEffector | None = None
        self._last: EndEffector | None = None
        self._refused_ns: int | None = None
        self._elsewhere = False
        self._jumped_ns = 0
        self._jump = ""

    def elsewhere_s(self) -> float:
        """For how long the arm has been measured where it cannot be [s]; 0 once it is back."""
        if self._refused_ns is None or self._last is None or not self._elsewhere:
            return 0.0
        return (self._last.stamp_ns - self._refused_ns) / NANOSECONDS

    @property
    def jump(self) -> str:
        """What the last refused pose did, in words."""
        return self._jump

    def check(self, pose: EndEffector, reach: Reach, settle: bool) -> None:
        """BadInput for a pose out of `reach` of the last believed one, until the arm is back for CALM_S.

        settle: an arm that is steadily elsewhere for SETTLED_S is believed; not while it is armed, when the node
        disarms instead. When the stamps went back, it may be anywhere."""
        last, believed = self._last, self._believed
        if last is None or believed is None or clock_jumped_back(last.stamp_ns, pose.stamp_ns, self._period_ns):
            self.reset()
            self._believed = self._last = pose
            return
        if pose.stamp_ns <= last.stamp_ns:  # repeated or reordered: no news, good or bad
            if self._refused_ns is not None:
                raise BadInput(self._jump)
            return
        self._last = pose
        if jump := _out_of_reach(last, pose, reach, pose.stamp_ns - last.stamp_ns):
            self._jumped_ns, self._jump = pose.stamp_ns, jump
        # The allowed distance is computed up to the moment of the jump: waiting longer must not make it acceptable.
        elapsed_ns = (self._refused_ns or pose.stamp_ns) - believed.stamp_ns
        elsewhere = _out_of_reach(believed, pose, reach, elapsed_ns)
        self._elsewhere = elsewhere is not None
        if elsewhere and self._refused_ns is None:
            self._refused_ns, self._jumped_ns, self._jump = pose.stamp_ns, pose.stamp_ns, elsewhere
        calm_s = (pose.stamp_ns - self._jumped_ns) / NANOSECONDS
        if elsewhere and not (settle and calm_s >= SETTLED_S):
            raise BadInput(self._jump)
        if self._refused_ns is not None and calm_s < CALM_S:
            raise BadInput(self._jump)
        self._believed, self._refused_ns = pose, None


def _out_of_reach(before: EndEffector, pose: EndEffector, reach: Reach, elapsed_ns: int) -> str | None:
    """How far a pose is from an earlier one, if that is too far for the time."""
    seconds = elapsed_ns / NANOSECONDS
    remedy = "check the robot driver and the frame of its pose"
    moved, farthest = math.dist(before.position_m, pose.position_m), reach.mps * seconds + SLACK_M
    if moved > farthest:
        return (
            f"the end effector moved by {moved:.3f} m within {seconds:.3f} s, where {farthest:.3f} m are possible "
            f"({reach.mps:g} m/s: {reach.because}); {remedy}"
        )
    turned = angle_between(before.quaternion_xyzw, pose.quaternion_xyzw)
    farthest = reach.radps * seconds + SLACK_RAD
    if turned > farthest:
        return (
            f"the end effector turned by {turned:.2f} rad within {seconds:.3f} s, where {farthest:.2f} rad are "
            f"possible ({reach.radps:g} rad/s: {reach.because}); {remedy}"
        )
    return None
