"""Joint positions from publishers that each know a part of the robot, and the proprio vector of the policy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specprune_ros.rotation import to_rotvec_x_positive
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector
from specprune_ros.types import PROPRIO_DIMS as PROPRIO_DIMS  # what `proprio` fills

CLAIM_S = 2.0
"""How long it is remembered which joints a publisher has named [s]."""


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
        stamps, positions = [], []
        for name in names:
            known = self._known[name]
            if isinstance(known, BadInput):
                raise known
            if not math.isfinite(known[1]):
                raise BadInput(
                    f"{self._source}: the position of {name} is {known[1]}, not finite; check the robot driver"
                )
            stamps.append(known[0])
            positions.append(known[1])
        apart_s = (max(stamps) - min(stamps)) / NANOSECONDS
        if apart_s > timeout_s:
            oldest = names[stamps.index(min(stamps))]
            raise BadInput(
                f"{self._source}: {oldest} is {apart_s:.2f} s older than the other joints; check that its driver "
                "publishes"
            )
        return min(stamps), np.array(positions)


class JointClaims:
    """Which publishers of one topic name the same joint. Several may each know a part of the robot; two that name the
    same joint would be believed in turn."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, ...], _Part] = {}

    def note(self, names: Sequence[str], sequence: int | None, now_s: float) -> None:
        """A message with these joints. sequence: its publisher's count, None where the middleware does not tell."""
        part = self._parts.setdefault(tuple(names), _Part())
        backwards = sequence is not None and part.sequence is not None and sequence <= part.sequence
        part.went_back_s = [at_s for at_s in part.went_back_s if now_s - at_s < CLAIM_S] + [now_s] * backwards
        part.sequence, part.seen_s = sequence, now_s

    def disputed(self, publishers: int, now_s: float) -> str | None:
        """Says so when one of so many publishers names a joint that another one names as well."""
        fresh = {names: part for names, part in self._parts.items() if now_s - part.seen_s < CLAIM_S}
        if publishers < 2 or not fresh:
            return None
        for names, part in fresh.items():
            if len(part.went_back_s) >= 2:  # once is a publisher that was started again
                return f"more than one of them publishes {', '.join(names)}"
        counts = Counter(name for names in fresh for name in set(names))
        if twice := [name for name, count in counts.items() if count > 1]:
            return f"more than one of them publishes {', '.join(twice)}"
        uncounted = all(part.sequence is None for part in fresh.values())
        if uncounted and len(fresh) < publishers:
            return f"all that comes is {'; '.join(', '.join(names) for names in fresh)}"
        return None


@dataclass
class _Part:
    sequence: int | None = None
    seen_s: float = 0.0
    went_back_s: list[float] = field(default_factory=list)
    """When the message count did not rise. If that happens again and again, two publishers count their messages."""


def proprio(measured: EndEffector, fingers_m: Sequence[float]) -> np.ndarray:
    """(8,) float32: position [m], rotation vector [rad], left finger and minus right finger [m], as the policy was
    trained."""
    left, right = fingers_m
    turned = to_rotvec_x_positive(measured.quaternion_xyzw)
    return np.concatenate([measured.position_m, turned, [left, -right]]).astype(np.float32)
