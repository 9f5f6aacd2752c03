"""From what the policy wants to what may be commanded: conventions, then limits in a fixed order, each with a reason.

finite -> range and scale -> step -> speed -> acceleration -> workspace (ros.md, Safety contract). A limit shortens a motion and
keeps its direction, except at the workspace's walls, along which the arm may slide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import ActionScale, Limits
from specprune_ros.types import ACTION_DIMS, BadInput, Displacement

_NAMES = ("dx", "dy", "dz", "rotation x", "rotation y", "rotation z", "gripper")
_LOW = np.array([-1.0] * 6 + [0.0])
_HIGH = np.ones(ACTION_DIMS)
_SLACK = 1e-9
"""Rounding is no reason."""


@dataclass(frozen=True)
class Situation:
    """What limits look at besides the motion. position_m: (3,) measured, base frame [m]; quaternion_xyzw: (4,) measured; before: what was
    commanded in the last period, no motion after a hold; period_s: of control [s]."""

    position_m: np.ndarray
    quaternion_xyzw: np.ndarray
    before: Displacement
    period_s: float


REST = Displacement(np.zeros(3), np.zeros(3), 1.0)
"""No motion."""

Limit = Callable[[Displacement, Situation, Limits], tuple[Displacement, str | None]]


def finite(action: np.ndarray) -> np.ndarray:
    """Nothing can be saved of a NaN: BadInput."""
    if action.shape != (ACTION_DIMS,):
        raise BadInput(f"action has shape {action.shape}, expected ({ACTION_DIMS},); check the policy's action head")
    if not np.isfinite(action).all():
        bad = ", ".join(f"{name} {value}" for name, value in zip(_NAMES, action, strict=True) if not np.isfinite(value))
        raise BadInput(f"action is not finite ({bad}); check the policy's weights and inputs")
    return action


def in_range(action: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Translation and rotation within -1..1 action units, gripper within 0..1."""
    outside = (action < _LOW) | (action > _HIGH)
    if not outside.any():
        return action, None
    clipped = np.clip(action, _LOW, _HIGH)
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


def step(wanted: Displacement, situation: Situation, limits: Limits) -> tuple[Displacement, str | None]:
    """No longer than one control period's step may be."""
    return _shortened(wanted, limits.step_translation, limits.step_rotation, "step", 1.0, ("m", "rad"))


def speed(wanted: Displacement, situation: Situation, limits: Limits) -> tuple[Displacement, str | None]:
    """No faster than the arm may be."""
    period_s = situation.period_s
    longest = limits.linear_speed * period_s, limits.angular_speed * period_s
    return _shortened(wanted, *longest, "speed", period_s, ("m/s", "rad/s"))


def acceleration(wanted: Displacement, situation: Situation, limits: Limits) -> tuple[Displacement, str | None]:
    """No sudden change against the period before; stopping is a change as well."""
    before, period_s = situation.before, situation.period_s
    change = replace(
        wanted,
        translation_m=wanted.translation_m - before.translation_m,
        rotation_rad=wanted.rotation_rad - before.rotation_rad,
    )
    largest = limits.linear_acceleration * period_s**2, limits.angular_acceleration * period_s**2
    change, reason = _shortened(change, *largest, "acceleration", period_s**2, ("m/s^2", "rad/s^2"))
    if reason is None:
        return wanted, None
    moved, turned = before.translation_m + change.translation_m, before.rotation_rad + change.rotation_rad
    return replace(wanted, translation_m=moved, rotation_rad=turned), reason


def workspace(wanted: Displacement, situation: Situation, limits: Limits) -> tuple[Displacement, str | None]:
    """Not out of the box, and from outside of it only back in; the arm is never pulled."""
    low = np.minimum(0.0, np.asarray(limits.workspace_min) - situation.position_m)
    high = np.maximum(0.0, np.asarray(limits.workspace_max) - situation.position_m)
    moved = np.clip(wanted.translation_m, low, high)
    walls = np.flatnonzero(np.abs(moved - wanted.translation_m) > _SLACK)
    if not walls.size:
        return wanted, None
    at = ", ".join(f"{'xyz'[i]} {situation.position_m[i]:.3f} m" for i in walls)
    return replace(wanted, translation_m=moved), f"workspace: the end effector is at {at} and would leave the box"


LIMITS: tuple[Limit, ...] = (step, speed, acceleration, workspace)


def permitted(
    action: np.ndarray, scale: ActionScale, limits: Limits, situation: Situation
) -> tuple[Displacement, dict[str, str]]:
    """What may be commanded of an action (7,), and by name the reason of every limit that changed it; BadInput for a NaN."""
    action, reason = in_range(finite(action))
    reasons = {} if reason is None else {"range": reason}
    motion = displacement(action, scale, situation.quaternion_xyzw)
    for limit in LIMITS:
        motion, reason = limit(motion, situation, limits)
        if reason is not None:
            reasons[limit.__name__] = reason
    return motion, reasons


LIMIT_NAMES = ("range", *(limit.__name__ for limit in LIMITS))


def _shortened(wanted, longest_m, longest_rad, name, per, units) -> tuple[Displacement, str | None]:
    """Both parts no longer than allowed; the reason gives them divided by `per`, in `units`."""
    parts, reasons = [], []
    for vector, longest, unit in zip(
        (wanted.translation_m, wanted.rotation_rad), (longest_m, longest_rad), units, strict=True
    ):
        length = float(np.linalg.norm(vector))
        if length <= longest + _SLACK:
            parts.append(vector)
        else:
            parts.append(vector * (longest / length))
            reasons.append(f"{length / per:.3f} -> {longest / per:.3f} {unit}")
    if not reasons:
        return wanted, None
    return Displacement(*parts, wanted.gripper), f"{name}: " + ", ".join(reasons)
