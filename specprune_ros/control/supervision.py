"""Does the arm do what it is told? Commanded and measured motion are compared in every control period while it is
armed.

Four findings, each of which disarms, with numbers in the text:

    does not follow            commanded motion does not show in the measured pose: a reflex, a user stop, no controller
    moves in another direction the pose is measured in another frame than commands are given in
    moves without being told   measured motion that no command explains: a collision, a hand, another controller
    is away from its target    with absolute targets: a load, friction, or a pose that is measured at another point

No threads and no clocks. An arm answers late, and nobody knows exactly how late: `supervision.delay` is what it may
take at most."""

from __future__ import annotations

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import Supervision
from specprune_ros.control.path import CommandedPath, Track
from specprune_ros.types import NANOSECONDS, EndEffector

FOLLOWS_SHARE = 0.1
"""An arm that has done less than this share of what it was told does not follow."""
WINDOWS_S = (0.3, 1.0, 3.0)
"""Over how long a motion that nobody commanded is added up: a push, a drift, and a slow one."""
LONG_WINDOW_S, SIDEWAYS_SHARE = 3.0, 0.1
"""From this window on, a share of the measured way may lead aside: no arm goes quite where it is told."""
AFTERWARDS_S = 0.3
"""How long after `delay` an arm may still be on its way to where it was told to go."""
INSTANTS, INSTANTS_LONG = 13, 25
"""Number of points at which the commanded path is sampled within a window."""

MOST_TIMES = 20
"""At most about this many start times are tested when checking whether the arm follows."""

CHECK = "check that the robot is not stopped (reflex, user stop, guiding mode) and that its controller runs"
PUSHED = f"{CHECK}, that nothing pushes it and nobody else commands it"
FRAMES = "check robot.base_frame, action.frame and the frame of the measured pose"
UNITS = {"translation": "m", "rotation": "rad"}


class Supervisor:
    """Compares one path of commands with the poses that are measured. Fed once per control period."""

    def __init__(self) -> None:
        self._measured = Track()
        self._rest: EndEffector | None = None
        """Where the arm was measured when it had come to rest; None while motion is commanded."""

    def begin(self, measured: EndEffector) -> None:
        """The arm was armed here."""
        self._measured, self._rest = Track(), None
        self._measured.append(measured.stamp_ns, measured.position_m, measured.quaternion_xyzw)

    def check(self, path: CommandedPath, pose: EndEffector, settings: Supervision, absolute: bool) -> str | None:
        """What is wrong with the newest measured pose, in words; None while all is well.

        absolute: the commands are target poses, from which the arm must not be far away.
        """
        measured = self._measured
        if not settings.enabled or not len(measured) or pose.stamp_ns <= measured.stamps_ns[-1]:
            return None
        measured.append(pose.stamp_ns, pose.position_m, pose.quaternion_xyzw)
        return (
            _not_following(path.track, measured, settings)
            or _unexplained(path.track, measured, settings)
            or self._left_rest(path.track, pose, settings)
            or (_off_target(path.track, measured, settings) if absolute else None)
        )

    def _left_rest(self, told: Track, pose: EndEffector, settings: Supervision) -> str | None:
        """Motion of an arm that was told to rest, however slow."""
        since_ns = pose.stamp_ns - round((settings.delay + AFTERWARDS_S) * NANOSECONDS)
        if not _constant(told, since_ns):
            self._rest = None
            return None
        if self._rest is None:
            self._rest = pose
        moved = {
            "translation": pose.position_m - self._rest.position_m,
            "rotation": rotation.difference(pose.quaternion_xyzw, self._rest.quaternion_xyzw),
        }
        allowed = _allowed_drift(settings)
        for part, unit in UNITS.items():
            if size(moved[part]) > allowed[part]:
                time_s = (pose.stamp_ns - self._rest.stamp_ns) / NANOSECONDS
                return (
                    f"the end effector moves without being told: it was told to rest and went {size(moved[part]):.3f} "
                    f"{unit} within {time_s:.2f} s (supervision.drift_{part} {allowed[part]:g} {unit}); {PUSHED}"
                )
        return None


def _allowed_drift(settings: Supervision) -> dict[str, float]:
    """Motion that no command need explain: [m] and [rad]."""
    return {"translation": settings.drift_translation, "rotation": settings.drift_rotation}


def _constant(told: Track, since_ns: int) -> bool:
    """No motion was commanded since then."""
    first = max(0, int(np.searchsorted(told.stamps_ns, since_ns)) - 1)
    ways = np.hstack([told.positions[first:], told.quaternions[first:]])
    return bool(np.ptp(ways, axis=0).max() < 1e-9)


def _not_following(told: Track, measured: Track, settings: Supervision) -> str | None:
    """Judged over the shortest time in which enough was commanded, however late up to `delay` the arm may answer."""
    delay_ns, now_ns = round(settings.delay * NANOSECONDS), measured.stamps_ns[-1]
    late_ns = delay_ns + np.array([1, 2, 3]) * round(AFTERWARDS_S / 3 * NANOSECONDS)
    delays_ns = np.array([delay_ns, delay_ns // 2, 0, *late_ns])
    before = np.flatnonzero(measured.stamps_ns < now_ns - delay_ns)[::-1]  # the shortest time first
    before = before[:: max(1, len(before) // MOST_TIMES)]
    if not before.size:
        return None
    since_ns = measured.stamps_ns[before]
    then, now = told.at(since_ns[:, None] - delays_ns), told.at(now_ns - delays_ns)
    steps = {"translation": now[0] - then[0], "rotation": turns(now[1], then[1])}  # (n, delays, 3)
    for part, enough in (("translation", settings.follow_translation), ("rotation", settings.follow_rotation)):
        sizes = np.linalg.norm(steps[part], axis=-1)
        judged = np.flatnonzero(sizes[:, :3].min(1) >= enough)
        if not judged.size:
            continue
        first = judged[0]
        moved = _moved(part, measured, int(before[first]))
        candidates = steps[part][first][sizes[first] >= enough / 2]
        if ((candidates @ moved) < FOLLOWS_SHARE * (candidates * candidates).sum(1)).all():
            return _lagging(part, steps[part][first, 0], moved, (now_ns - since_ns[first]) / NANOSECONDS)
    return None


def _unexplained(told: Track, measured: Track, settings: Supervision) -> str | None:
    """Motion that is no part of the way that was commanded lately."""
    now_ns = measured.stamps_ns[-1]
    for window_s in WINDOWS_S:
        # The newest pose that is older than the window: after an outage that is the last one before it.
        before = max(0, int(np.searchsorted(measured.stamps_ns, now_ns - round(window_s * NANOSECONDS), "right")) - 1)
        moves = {part: _moved(part, measured, before) for part in UNITS}
        allowed = _allowed_drift(settings)
        if all(size(moves[part]) <= allowed[part] for part in UNITS):
            continue
        begin_ns = measured.stamps_ns[before] - round((settings.delay + AFTERWARDS_S) * NANOSECONDS)
        is_long = window_s >= LONG_WINDOW_S
        instants = INSTANTS_LONG if is_long else INSTANTS
        positions, quaternions = told.at(np.linspace(begin_ns, now_ns, instants).astype(np.int64))
        first, second = np.triu_indices(instants)  # from every instant to every later one, and no motion
        steps = {
            "translation": positions[second] - positions[first],
            "rotation": turns(quaternions[second], quaternions[first]),
        }
        for part, unit in UNITS.items():
            rest = distance_to_segments(moves[part], steps[part])
            if rest > allowed[part] + (SIDEWAYS_SHARE * size(moves[part]) if is_long else 0.0):
                time_s = (now_ns - measured.stamps_ns[before]) / NANOSECONDS
                return (
                    f"the end effector moves without being told: {rest:.3f} {unit} of its "
                    f"{size(moves[part]):.3f} {unit} within {time_s:.2f} s were not commanded "
                    f"(supervision.drift_{part} {allowed[part]:g} {unit}); {PUSHED}"
                )
    return None


def _off_target(told: Track, measured: Track, settings: Supervision) -> str | None:
    """Away from the nearest of the targets that the arm may be on its way to."""
    since_ns = measured.stamps_ns[-1] - round((settings.delay + AFTERWARDS_S) * NANOSECONDS)
    stamps_ns = np.append(told.stamps_ns[told.stamps_ns > since_ns], since_ns)
    positions, quaternions = told.at(stamps_ns)
    away = {
        "translation": float(np.linalg.norm(positions - measured.positions[-1], axis=1).min()),
        "rotation": float(np.linalg.norm(turns(measured.quaternions[-1], quaternions), axis=1).min()),
    }
    for part, allowed in (("translation", settings.error_translation), ("rotation", settings.error_rotation)):
        if away[part] > allowed:
            unit = UNITS[part]
            return (
                f"the end effector is {away[part]:.3f} {unit} away from its target "
                f"(supervision.error_{part} {allowed:g} {unit}); check load, friction, stiffness and that pose and "
                "targets mean the same point and frame"
            )
    return None


def _lagging(part: str, told: np.ndarray, moved: np.ndarray, time_s: float) -> str:
    length, unit = size(told), UNITS[part]
    progress = float(moved @ told) / length
    if size(moved) >= 0.5 * length:
        return (
            f"the end effector moves in another direction than commanded: {progress:.3f} {unit} along a commanded "
            f"{part} of {length:.3f} {unit}, {size(moved):.3f} {unit} in all, within {time_s:.2f} s; {FRAMES}"
        )
    return (
        f"the end effector does not follow: {progress:.3f} {unit} of a commanded {part} of {length:.3f} {unit} within "
        f"{time_s:.2f} s (at least {FOLLOWS_SHARE:.0%} expected, supervision.follow_{part}); {CHECK}"
    )


def _moved(part: str, measured: Track, since: int) -> np.ndarray:
    """(3,) from the sample with index `since` to the newest one."""
    if part == "translation":
        return measured.positions[-1] - measured.positions[since]
    return turns(measured.quaternions[-1], measured.quaternions[since])


def turns(to_xyzw: np.ndarray, from_xyzw: np.ndarray) -> np.ndarray:
    """`rotation.difference` of many pairs: (..., 4) and (..., 4) to (..., 3) [rad], in the common base frame."""
    (ax, ay, az, aw), (bx, by, bz, bw) = np.moveaxis(from_xyzw, -1, 0), np.moveaxis(to_xyzw, -1, 0)
    w = aw * bw + ax * bx + ay * by + az * bz
    x = aw * bx - bw * ax - by * az + bz * ay
    y = aw * by - bw * ay - bz * ax + bx * az
    z = aw * bz - bw * az - bx * ay + by * ax
    sine = np.sqrt(x * x + y * y + z * z)
    angle = np.copysign(2.0, w) * np.arctan2(sine, np.abs(w)) / np.maximum(sine, 1e-12)
    return np.stack((x * angle, y * angle, z * angle), axis=-1)


def distance_to_segments(point: np.ndarray, ends: np.ndarray) -> float:
    """From a point (3,) to the nearest of the segments from the origin to `ends` (n, 3)."""
    squares = np.maximum((ends * ends).sum(1), 1e-18)
    share = np.clip(ends @ point / squares, 0.0, 1.0)
    return float(np.linalg.norm(point - share[:, None] * ends, axis=1).min())


def size(vector: np.ndarray) -> float:
    """Length of a vector (3,), in the vector's unit."""
    return float(np.sqrt(vector @ vector))
