"""Speed, acceleration and jerk of a motion, limited in discrete time so that a stop within the same limits is always
possible.

One control period lasts T. With the velocity v_k of period k,

    a_k = (v_k - v_{k-1}) / T        acceleration
    j_k = (a_k - a_{k-1}) / T        jerk

and all of |v_k| <= V, |a_k| <= A, |j_k| <= J must hold, for vectors by their length. It is not enough to cut each of
the three: a motion that still accelerates when it reaches V needs a negative jerk that it may not have. So every step
is taken only if the *brake* that follows from there keeps all limits as well, and stays within the room that there is.
The brake is a fixed rule:

    R(s) = s + (s - J T) + (s - 2 J T) + ...   while the terms are positive
    a*   = -v/|v| R^-1(|v| / T), shortened to A
    a_1  = a + (a* - a), the change shortened to J T

R(s) T is what the velocity changes by while an acceleration s is taken back as fast as the jerk allows, so the rule
ends with v = 0 and a = 0 in the same period. By induction the first step of the brake is always allowed, which makes it
the way out of every situation. Plain Python numbers: this runs in every control period, and small NumPy arrays would
cost five times as much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

Vector = tuple[float, float, float]

ZERO: Vector = (0.0, 0.0, 0.0)
SLACK = 1e-9
"""Rounding errors stay below this [m/s, m/s^2, m and the same in rad]; it is no violation of a limit."""
LONGEST_BRAKE = 1000
"""Periods after which a brake is given up as endless: limits that small cannot be meant."""
HALVINGS = 12
"""The search for the largest allowed part of a change stops at steps of 1/4096."""


@dataclass(frozen=True)
class Bounds:
    """The limits of one part of a motion: speed [m/s or rad/s], acceleration [../s^2], jerk [../s^3], period [s]."""

    speed: float
    acceleration: float
    jerk: float
    period_s: float

    @property
    def change(self) -> float:
        """Largest change of the acceleration from one period to the next."""
        return self.jerk * self.period_s


@dataclass(frozen=True)
class Moving:
    """What was commanded in the last period: its velocity and its acceleration."""

    velocity: Vector = ZERO
    acceleration: Vector = ZERO

    @property
    def at_rest(self) -> bool:
        """Whether velocity and acceleration are zero but for rounding errors (SLACK)."""
        return length(self.velocity) < SLACK and length(self.acceleration) < SLACK


@dataclass(frozen=True)
class Room:
    """How far the motion may go from where it is now, along each axis: low <= 0 <= high [m]."""

    low: Vector
    high: Vector

    def leaving(self, at: Vector) -> tuple[int, ...]:
        """The axes along which the point `at`, relative to where the motion is now, lies outside."""
        return tuple(i for i in range(3) if not self.low[i] - SLACK <= at[i] <= self.high[i] + SLACK)


@dataclass(frozen=True)
class Steered:
    """The motion of one period, and what changed it: from -> to per limit, in the limit's own unit.

    walls: axes along which the room was too small.
    """

    moving: Moving
    speed: tuple[float, float] | None = None
    acceleration: tuple[float, float] | None = None
    jerk: tuple[float, float] | None = None
    walls: tuple[int, ...] = ()


def steered(wanted: Vector, now: Moving, bounds: Bounds, room: Room | None = None) -> Steered:
    """The velocity nearest to `wanted` that may follow on `now`: within the limits, and with a brake that stays within
    them.

    Where the room ends, the part of the motion towards the wall is shortened and the rest goes on along the wall.
    """
    free = _cut(wanted, now, bounds)
    broken = _trouble(free.moving, bounds, room)
    if broken is None:
        return free
    walls: list[int] = []
    best = free
    while isinstance(broken, int) and broken not in walls:
        walls.append(broken)
        wanted = _turned_from_wall(wanted, broken, now, bounds, room)
        best = _cut(wanted, now, bounds)
        broken = _trouble(best.moving, bounds, room)
    moving = best.moving if broken is None else _nearest(best.moving, now, bounds, room)
    jerk = free.jerk
    if broken is not None and not walls and jerk is None:
        needed = length(_minus(free.moving.acceleration, now.acceleration)) / bounds.period_s
        jerk = (needed, length(_minus(moving.acceleration, now.acceleration)) / bounds.period_s)
    return Steered(moving, free.speed, free.acceleration, jerk, tuple(walls))


def braked(now: Moving, bounds: Bounds) -> Moving:
    """The next period of the brake."""
    speed = length(now.velocity)
    if speed < SLACK:
        target = ZERO
    else:
        needed = min(_first_of_ramp(speed / bounds.period_s, bounds.change), bounds.acceleration)
        target = _times(now.velocity, -needed / speed)
    change = shortened(_minus(target, now.acceleration), bounds.change)
    acceleration = _plus(now.acceleration, change)
    velocity = _plus(now.velocity, _times(acceleration, bounds.period_s))
    if length(velocity) < SLACK:
        velocity = ZERO
    after = Moving(velocity, acceleration)
    return Moving() if after.at_rest else after


def brake(now: Moving, bounds: Bounds) -> Iterator[Moving]:
    """All periods of the brake, the last of which is at rest."""
    for _ in range(LONGEST_BRAKE):
        if now.at_rest:
            return
        now = braked(now, bounds)
        yield now


def length(vector: Vector) -> float:
    """Length of a vector, in the vector's unit."""
    return math.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])


def shortened(vector: Vector, longest: float) -> Vector:
    """The vector, in its direction, no longer than `longest`."""
    size = length(vector)
    return vector if size <= longest else _times(vector, longest / size)


def _first_of_ramp(change: float, step: float) -> float:
    """R^-1: the acceleration whose linear ramp down to zero by `step` a period sums up to `change`."""
    terms = max(1, math.ceil((math.sqrt(1.0 + 8.0 * change / step) - 1.0) / 2.0 - SLACK))
    return (change + step * terms * (terms - 1) / 2.0) / terms


def _cut(wanted: Vector, now: Moving, bounds: Bounds) -> Steered:
    """The three limits one after the other, without a look ahead."""
    velocity = shortened(wanted, bounds.speed)
    needed = _times(_minus(velocity, now.velocity), 1.0 / bounds.period_s)
    acceleration = shortened(needed, bounds.acceleration)
    change = _minus(acceleration, now.acceleration)
    allowed = shortened(change, bounds.change)
    if allowed is not change:
        acceleration = _plus(now.acceleration, allowed)
        velocity = _plus(now.velocity, _times(acceleration, bounds.period_s))
    elif acceleration is not needed:
        velocity = _plus(now.velocity, _times(acceleration, bounds.period_s))
    return Steered(
        Moving(velocity, acceleration),
        speed=_pair(length(wanted), bounds.speed),
        acceleration=_pair(length(needed), bounds.acceleration),
        jerk=_pair(length(change) / bounds.period_s, bounds.jerk),
    )


def _pair(value: float, bound: float) -> tuple[float, float] | None:
    return (value, bound) if value > bound * (1.0 + SLACK) + SLACK else None


def _trouble(start: Moving, bounds: Bounds, room: Room | None) -> int | str | None:
    """What goes wrong if the motion is `start` in this period and brakes afterwards: an axis of the room, "speed", or
    nothing."""
    at = ZERO
    moving = start
    for _ in range(LONGEST_BRAKE):
        if length(moving.velocity) > bounds.speed + SLACK:
            return "speed"
        if room is not None:
            at = _plus(at, _times(moving.velocity, bounds.period_s))
            if outside := room.leaving(at):
                return outside[0]
        if moving.at_rest:
            return None
        moving = braked(moving, bounds)
    return "speed"


def _turned_from_wall(wanted: Vector, axis: int, now: Moving, bounds: Bounds, room: Room | None) -> Vector:
    """`wanted` with as much of its part along `axis` as the wall there allows."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2.0
        if _trouble(_cut(_scaled(wanted, axis, share), now, bounds).moving, bounds, room) == axis:
            high = share
        else:
            low = share
    return _scaled(wanted, axis, low)


def _nearest(start: Moving, now: Moving, bounds: Bounds, room: Room | None) -> Moving:
    """Between the brake and `start`, the farthest towards `start` from which the brake keeps all limits."""
    safe = braked(now, bounds)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2.0
        if _trouble(_between(safe, start, share), bounds, room) is None:
            low = share
        else:
            high = share
    return _between(safe, start, low)


def _between(a: Moving, b: Moving, share: float) -> Moving:
    """Velocity and acceleration belong together linearly, so that a mixture of two motions is a motion."""
    return Moving(
        _plus(a.velocity, _times(_minus(b.velocity, a.velocity), share)),
        _plus(a.acceleration, _times(_minus(b.acceleration, a.acceleration), share)),
    )


def _scaled(vector: Vector, axis: int, share: float) -> Vector:
    x, y, z = (value * share if i == axis else value for i, value in enumerate(vector))
    return (x, y, z)


def _plus(a: Vector, b: Vector) -> Vector:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def _minus(a: Vector, b: Vector) -> Vector:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _times(a: Vector, factor: float) -> Vector:
    return (a[0] * factor, a[1] * factor, a[2] * factor)
