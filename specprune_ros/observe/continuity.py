"""A measured pose that the arm cannot have reached is not believed: what moves by it would jump as well."""

from __future__ import annotations

import math

from specprune_ros.observe.history import clock_jumped_back, longest_gap_ns
from specprune_ros.observe.motion import angle_between
from specprune_ros.types import BadInput, EndEffector

FASTEST_MPS, FASTEST_RADPS = 3.0, 25.0
"""No arm that is commanded here moves faster: an FR3's limit is 3 m/s, a full-scale command of a LIBERO policy 1.7 m/s and 17 rad/s."""
SLACK_M, SLACK_RAD = 0.02, 0.1
"""Jitter of stamps is no jump."""
CALM_S = 0.2
"""Without a jump for so long, an arm that is back where it was is believed again; two publishers that disagree never are."""
SETTLED_S = 3.0
"""An arm that is elsewhere for so long is there: its frame was changed. Longer than safety.hold_timeout, so that it was disarmed."""


class Continuity:
    """Judges poses one after the other."""

    def __init__(self, period_ns: int):
        self._period_ns, self._gap_ns = period_ns, longest_gap_ns(period_ns)
        self.reset()

    def reset(self) -> None:
        """The next pose may be anywhere."""
        self._believed: EndEffector | None = None
        self._last: EndEffector | None = None
        self._jumped_ns, self._jump = -round(SETTLED_S * 1e9), ""

    def check(self, pose: EndEffector) -> None:
        """BadInput for a pose out of reach, until the arm is back for CALM_S, or was steadily elsewhere for SETTLED_S.

        The longer the pause between two poses, the farther an arm gets; when the stamps went back, it may be anywhere.
        """
        last, believed = self._last, self._believed
        if last is None or clock_jumped_back(last.stamp_ns, pose.stamp_ns, self._period_ns):
            self.reset()
            self._believed = self._last = pose
            return
        if pose.stamp_ns <= last.stamp_ns:  # repeated or reordered
            return
        self._last = pose
        if jump := _out_of_reach(last, pose, pose.stamp_ns - last.stamp_ns):
            self._jumped_ns, self._jump = pose.stamp_ns, jump
        calm_s = (pose.stamp_ns - self._jumped_ns) * 1e-9
        elsewhere = _out_of_reach(believed, pose, min(pose.stamp_ns - believed.stamp_ns, self._gap_ns))
        if calm_s < (SETTLED_S if elsewhere else CALM_S):
            raise BadInput(
                f"the end effector {self._jump}, which no arm can; check the robot driver and the frame of its pose"
            )
        self._believed = pose


def _out_of_reach(before: EndEffector, pose: EndEffector, elapsed_ns: int) -> str | None:
    """How far a pose is from an earlier one, if that is too far for the time."""
    seconds = elapsed_ns * 1e-9
    moved = math.dist(before.position_m, pose.position_m)
    if moved > FASTEST_MPS * seconds + SLACK_M:
        return f"moved by {moved:.3f} m within {seconds:.3f} s"
    turned = angle_between(before.quaternion_xyzw, pose.quaternion_xyzw)
    if turned > FASTEST_RADPS * seconds + SLACK_RAD:
        return f"turned by {turned:.2f} rad within {seconds:.3f} s"
    return None
