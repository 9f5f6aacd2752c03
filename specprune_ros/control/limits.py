"""From what the policy wants to what may be commanded: conventions, then limits in a fixed order, each with a reason.

finite -> range and scale -> step -> speed -> acceleration -> jerk -> workspace (docs/explanation/safety.md). A limit
shortens a motion and keeps its direction, except at the workspace's walls, along which the arm may slide. The last four
are one calculation, because a motion is allowed only if the arm can stop from there within the same limits and inside
the box: see `control/profile.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import ActionScale, Limits
from specprune_ros.control.profile import Bounds, Moving, Room, Steered, Vector, braked, steered
from specprune_ros.types import ACTION_DIMS, ACTION_HIGH, ACTION_LOW, BadInput, Displacement, Motion

LIMIT_NAMES = ("range", "step", "speed", "acceleration", "jerk", "workspace")
"""In the order in which they are applied."""

REST = Displacement(np.zeros(3), np.zeros(3), 1.0)
"""No motion."""

_NAMES = ("dx", "dy", "dz", "rotation x", "rotation y", "rotation z", "gripper")
_SLACK = 1e-9
"""A difference below this is a rounding error and no reason to report a limit."""


@dataclass(frozen=True)
class Situation:
    """What limits look at besides the wanted motion.

    start_m: (3,) where the period begins, base frame [m]: the last target, or what the measured pose will be when the
    commands that are under way have been carried out; quaternion_xyzw: (4,) measured; linear, angular: the last
    commanded motion, [m/s] and [rad/s]; period_s: one control period [s]."""

    start_m: np.ndarray
    quaternion_xyzw: np.ndarray
    linear: Moving
    angular: Moving
    period_s: float


@dataclass(frozen=True)
class Permitted:
    """What may be commanded in one period, the motion it leaves the arm with, and by name the reason of every limit
    that changed it."""

    displacement: Displacement
    linear: Moving
    angular: Moving
    reasons: dict[str, str] = field(default_factory=dict)


def finite(action: np.ndarray) -> np.ndarray:
    """The action (7,); BadInput when it has another shape or a value that is not finite, of which nothing can be
    used. Whole chunks were checked when they came (`executor.check_chunk`): this is the last look before the arm."""
    if action.shape != (ACTION_DIMS,):
        raise BadInput(f"action has shape {action.shape}, expected ({ACTION_DIMS},); check the policy's action head")
    if not np.isfinite(action).all():
        bad = ", ".join(f"{name} {value}" for name, value in zip(_NAMES, action, strict=True) if not np.isfinite(value))
        raise BadInput(f"action is not finite ({bad}); check the policy's weights and inputs")
    return action


def in_range(action: np.ndarray) -> tuple[np.ndarray, str | None]:
    """The action (7,) with translation and rotation within -1..1 action units and gripper within 0..1, and which values
    were clipped, in words; None when none was."""
    outside = (action < ACTION_LOW) | (action > ACTION_HIGH)
    if not outside.any():
        return action, None
    clipped = np.clip(action, ACTION_LOW, ACTION_HIGH)
    changes = (f"{_NAMES[i]} {action[i]:.3f} -> {clipped[i]:.0f}" for i in np.flatnonzero(outside))
    return clipped, "out of range: " + ", ".join(changes)


def displacement(action: np.ndarray, scale: ActionScale, quaternion_xyzw: np.ndarray) -> Displacement:
    """An action (7,) in action units as a motion in the base frame, by the policy's conventions.

    quaternion_xyzw: measured orientation, which the end effector's frame is given by.
    """
    moved, turned = action[:3] * scale.scale_translation, action[3:6] * scale.scale_rotation
    if scale.rotation == "rpy":
        turned = rotation.to_rotvec(rotation.from_rpy(turned))
    if scale.frame == "ee":
        moved, turned = rotation.rotate(quaternion_xyzw, moved), rotation.rotate(quaternion_xyzw, turned)
    gripper = float(action[6]) if scale.gripper == "open_is_one" else 1.0 - float(action[6])
    return Displacement(moved, turned, gripper)


def permitted(action: np.ndarray, scale: ActionScale, limits: Limits, situation: Situation) -> Permitted:
    """What may be commanded of an action (7,), in action units; BadInput for another shape or a value that is not
    finite."""
    action, out_of_range = in_range(finite(action))
    wanted = displacement(action, scale, situation.quaternion_xyzw)
    linear_bounds, angular_bounds = _bounds(limits, situation.period_s)
    moved, moved_by = _capped(wanted.translation_m, limits.step_translation, limits.linear_speed, situation.period_s)
    turned, turned_by = _capped(wanted.rotation_rad, limits.step_rotation, limits.angular_speed, situation.period_s)
    linear = steered(moved, situation.linear, linear_bounds, _room(limits, situation.start_m))
    angular = steered(turned, situation.angular, angular_bounds)
    reasons = {
        "range": out_of_range,
        "step": _reason("step", moved_by.get("step"), turned_by.get("step"), "m", "rad"),
        "speed": _reason("speed", moved_by.get("speed"), turned_by.get("speed"), "m/s", "rad/s"),
        "acceleration": _reason("acceleration", linear.acceleration, angular.acceleration, "m/s^2", "rad/s^2"),
        "jerk": _reason("jerk", linear.jerk, angular.jerk, "m/s^3", "rad/s^3"),
        "workspace": _wall_reason(linear, situation.start_m, limits),
    }
    given = {name: reason for name, reason in reasons.items() if reason is not None}
    return _permitted(linear.moving, angular.moving, wanted.gripper, situation.period_s, given)


def braking(gripper: float, limits: Limits, situation: Situation) -> Permitted | None:
    """The next period on the way to rest; None when the arm is at rest already."""
    if situation.linear.at_rest and situation.angular.at_rest:
        return None
    linear_bounds, angular_bounds = _bounds(limits, situation.period_s)
    linear, angular = braked(situation.linear, linear_bounds), braked(situation.angular, angular_bounds)
    return _permitted(linear, angular, gripper, situation.period_s, {})


def outside(position_m: np.ndarray, limits: Limits, margin_m: float = _SLACK) -> str | None:
    """Where a position (3,) [m] is outside the workspace by more than a margin, in words; None inside."""
    found = [
        f"{axis} {at:.3f} m is {'below' if at < low else 'above'} limits.workspace_{'min' if at < low else 'max'} "
        f"({low if at < low else high:g} m)"
        for axis, at, low, high in zip("xyz", position_m, limits.workspace_min, limits.workspace_max, strict=True)
        if not low - margin_m <= at <= high + margin_m
    ]
    return ", ".join(found) or None


def full_scale(scale: ActionScale, limits: Limits, period_s: float) -> tuple[float, float]:
    """The fastest translation and rotation that the arm may do now, in action units per control period.

    At most 1.0, a full-scale command, and less where limits are below it: what is coarse motion for a slow arm is
    judged by this."""
    metres = min(limits.step_translation, limits.linear_speed * period_s)
    radians = min(limits.step_rotation, limits.angular_speed * period_s)
    return min(1.0, metres / scale.scale_translation), min(1.0, radians / scale.scale_rotation)


def share_of_full_scale(motion: Motion, scale: ActionScale, limits: Limits, period_s: float) -> Motion:
    """Motion as a share of the fastest that the arm may do now: what is coarse is judged by that
    (docs/explanation/method.md, controller)."""
    linear, angular = full_scale(scale, limits, period_s)
    if not (linear and angular):  # an arm that may not move is never coarse
        return Motion(0.0, 0.0, 0.0)
    return Motion(motion.linear / linear, motion.angular / angular, motion.dz / linear)


def _bounds(limits: Limits, period_s: float) -> tuple[Bounds, Bounds]:
    linear = min(limits.linear_speed, limits.step_translation / period_s)
    angular = min(limits.angular_speed, limits.step_rotation / period_s)
    return (
        Bounds(linear, limits.linear_acceleration, limits.linear_jerk, period_s),
        Bounds(angular, limits.angular_acceleration, limits.angular_jerk, period_s),
    )


def _capped(
    wanted: np.ndarray, step: float, speed: float, period_s: float
) -> tuple[Vector, dict[str, tuple[float, float]]]:
    """The velocity of one part, no faster than step and speed allow, and what shortened it, from -> to."""
    size, changes = float(np.linalg.norm(wanted)), {}
    allowed = size
    if allowed > step + _SLACK:
        changes["step"] = (allowed, step)
        allowed = step
    if allowed > speed * period_s + _SLACK:
        changes["speed"] = (allowed / period_s, speed)
        allowed = speed * period_s
    x, y, z = wanted * (allowed / size / period_s) if size else wanted
    return (float(x), float(y), float(z)), changes


def _room(limits: Limits, start_m: np.ndarray) -> Room:
    """To the walls; from outside of them, back in but no farther out."""
    low = (min(0.0, wall - at) for wall, at in zip(limits.workspace_min, start_m.tolist(), strict=True))
    high = (max(0.0, wall - at) for wall, at in zip(limits.workspace_max, start_m.tolist(), strict=True))
    return Room(tuple(low), tuple(high))


def _permitted(linear: Moving, angular: Moving, gripper: float, period_s: float, reasons: dict[str, str]) -> Permitted:
    moved, turned = np.array(linear.velocity) * period_s, np.array(angular.velocity) * period_s
    return Permitted(Displacement(moved, turned, gripper), linear, angular, reasons)


def _reason(
    name: str, linear: tuple[float, float] | None, angular: tuple[float, float] | None, metres: str, radians: str
) -> str | None:
    parts = [
        f"{change[0]:.3f} -> {change[1]:.3f} {unit}"
        for change, unit in ((linear, metres), (angular, radians))
        if change
    ]
    return f"{name}: {', '.join(parts)}" if parts else None


def _wall_reason(linear: Steered, start_m: np.ndarray, limits: Limits) -> str | None:
    if not linear.walls:
        return None
    walls = (
        f"{'xyz'[i]} {start_m[i]:.3f} m (box {limits.workspace_min[i]:g} .. {limits.workspace_max[i]:g} m)"
        for i in linear.walls
    )
    return f"workspace: the end effector is at {', '.join(walls)} and would leave the box"
