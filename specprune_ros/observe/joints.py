"""Joint positions from publishers that each know a part of the robot, and the proprio vector of the policy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from specprune_ros.rotation import to_rotvec_x_positive
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector
from specprune_ros.types import PROPRIO_DIMS as PROPRIO_DIMS  # what `proprio` fills


class JointBook:
    """What is known of every joint: its newest position [rad or m] and when that was measured, or why it is unknown."""

    def __init__(self, source: str):
        """source: where joint states come from, for error texts."""
        self._source = source
        self._known: dict[str, tuple[int, float] | BadInput] = {}

    def update(self, names: Sequence[str], positions: Sequence[float], stamp_ns: int) -> None:
        """Take over a message that names some of the joints; one without positions says nothing about them."""
        if not len(positions):
            return
        if len(positions) != len(names):
            self.refuse(names, BadInput(f"{self._source}: {len(names)} joint names but {len(positions)} positions"))
            return
        self._known.update((name, (stamp_ns, float(at))) for name, at in zip(names, positions, strict=True))

    def refuse(self, names: Sequence[str], error: BadInput) -> None:
        """The newest message about these joints was bad: they are unknown until a good one comes."""
        self._known.update(dict.fromkeys(names, error))

    def positions(self, names: Sequence[str], timeout_s: float) -> tuple[int, np.ndarray]:
        """The oldest stamp [ns] and the (len(names),) float64 positions of these joints.

        BadInput when one is unknown or not finite, or when they were measured more than `timeout_s` apart.
        """
        missing = [name for name in names if name not in self._known]
        if missing:
            heard = ", ".join(self._known) or "none"
            raise BadInput(f"{self._source}: no position of joint {', '.join(missing)}; heard so far: {heard}")
        found = [self._known[name] for name in names]
        for name, known in zip(names, found, strict=True):
            if isinstance(known, BadInput):
                raise known
            if not math.isfinite(known[1]):
                raise BadInput(
                    f"{self._source}: the position of {name} is {known[1]}, not finite; check the robot driver"
                )
        stamps = [stamp_ns for stamp_ns, _ in found]
        apart_s = (max(stamps) - min(stamps)) / NANOSECONDS
        if apart_s > timeout_s:
            oldest = names[stamps.index(min(stamps))]
            raise BadInput(
                f"{self._source}: {oldest} is {apart_s:.2f} s older than the other joints; check that its driver publishes"
            )
        return min(stamps), np.array([position for _, position in found])


def proprio(measured: EndEffector, fingers_m: Sequence[float]) -> np.ndarray:
    """(8,) float32: position [m], rotation vector [rad], left finger and minus right finger [m], as the policy was trained."""
    left, right = fingers_m
    turned = to_rotvec_x_positive(measured.quaternion_xyzw)
    return np.concatenate([measured.position_m, turned, [left, -right]]).astype(np.float32)
