"""What MoveIt Servo's status says about our twists, and for how long it counts.

Servo publishes its newest verdict in every one of its periods, and judges anew only when it gets another command: the
last verdict is repeated for ever. So a verdict counts as ours only when it comes a few of Servo's periods after our
first twist; and one that stopped us stands, after disarming as well, until Servo says something else or the arm is
somewhere else. Without that, an arm that arms itself would be armed, halted and disarmed again and again.

No ROS and no clock: `now_s` is an argument."""

from __future__ import annotations

import numpy as np

from specprune_ros import rotation
from specprune_ros.types import EndEffector

AWAY = "move the arm away from there before arming again"
HALTED = {
    2: ("halted at a singularity", AWAY),
    5: ("halted before a collision", AWAY),
    -1: ("found the command invalid", "check that it knows the frame of the twists (robot.base_frame) and takes "
         "speed_units, then restart it"),
}  # fmt: skip
"""moveit_msgs/msg/ServoStatus codes at which nothing may be sent, and what helps; others slow the arm down."""

JUDGED_AFTER_S = 0.3
"""Time [s] after our first twist until Servo's verdict on it has arrived: a few of Servo's periods."""
SILENT_S = 1.0
"""Servo has something to say in each of its periods (0.034 s by default), unless it is paused or hangs."""
SETTLED_S = 1.0
"""Time [s] in which a halted arm comes to rest. The place where it was halted is its position after that."""
AWAY_M, AWAY_RAD = 0.01, 0.05
"""A halted arm that has moved or turned by more than this has left the place where Servo halted it."""


class Halts:
    """Remembers why Servo stopped, and where."""

    def __init__(self) -> None:
        self._heard_s: float | None = None
        self._sent_s: float | None = None
        self._halt: int | None = None
        self._halted_s = 0.0
        self._place: EndEffector | None = None

    def heard(self, code: int, now_s: float) -> None:
        """A status came."""
        self._heard_s = now_s
        if code not in HALTED:
            self._halt = None
        elif self._sent_s is not None and now_s - self._sent_s > JUDGED_AFTER_S:
            self._halted_s = now_s if self._halt is None else self._halted_s
            self._halt = code

    def sent(self, now_s: float) -> None:
        """A twist went out."""
        self._sent_s = now_s if self._sent_s is None else self._sent_s

    def release(self) -> None:
        """Disarmed: what Servo says from now on is about others' commands, until a twist is sent again."""
        self._sent_s = None

    def forget(self) -> None:
        """Servo has ended, so its earlier verdicts no longer count."""
        self._heard_s = self._halt = None

    def obstacle(self, measured: EndEffector | None, now_s: float) -> str | None:
        """What speaks against sending twists now. measured: where the arm is; None while that is unknown."""
        if self._halt is not None:
            settling = self._sent_s is not None or now_s - self._halted_s < SETTLED_S
            if settling:
                self._place = measured
            elif _apart(self._place, measured):
                self._halt = None
        if self._halt is not None:
            what, remedy = HALTED[self._halt]
            return f"{what} (status {self._halt}); {remedy}"
        if self._sent_s is None:
            return None
        silent_s = now_s - max(self._sent_s, self._heard_s or self._sent_s)
        if silent_s > SILENT_S:
            return (
                f"has not said its status for {silent_s:.1f} s (bound {SILENT_S:g} s); is it paused (pause_servo) or "
                "hanging?"
            )
        return None


def _apart(a: EndEffector | None, b: EndEffector | None) -> bool:
    """Whether the arm has moved between two measured poses."""
    if a is None or b is None:
        return False
    turned = np.linalg.norm(rotation.difference(b.quaternion_xyzw, a.quaternion_xyzw))
    return bool(np.linalg.norm(b.position_m - a.position_m) > AWAY_M or turned > AWAY_RAD)
