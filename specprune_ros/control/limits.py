"""Limits on what may be commanded: functions action -> (action, reason or None), applied in order.

Speed, acceleration and workspace limits join the tuple here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specprune_ros.types import ACTION_DIMS, BadInput

Limit = Callable[[np.ndarray], tuple[np.ndarray, str | None]]

_NAMES = ("dx", "dy", "dz", "rotation x", "rotation y", "rotation z", "gripper")
_LOW = np.array([-1.0] * 6 + [0.0])
_HIGH = np.ones(ACTION_DIMS)


def finite(action: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Nothing can be saved of a NaN: BadInput."""
    if action.shape != (ACTION_DIMS,):
        raise BadInput(f"action has shape {action.shape}, expected ({ACTION_DIMS},); check the policy's action head")
    if not np.isfinite(action).all():
        bad = ", ".join(f"{name} {value}" for name, value in zip(_NAMES, action, strict=True) if not np.isfinite(value))
        raise BadInput(f"action is not finite ({bad}); check the policy's weights and inputs")
    return action, None


def in_range(action: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Translation and rotation within -1..1 action units, gripper within 0..1."""
    outside = (action < _LOW) | (action > _HIGH)
    if not outside.any():
        return action, None
    clipped = np.clip(action, _LOW, _HIGH)
    changes = (f"{_NAMES[i]} {action[i]:.3f} -> {clipped[i]:.0f}" for i in np.flatnonzero(outside))
    return clipped, "out of range: " + ", ".join(changes)


LIMITS: tuple[Limit, ...] = (finite, in_range)


def check_action(action: np.ndarray, limits: tuple[Limit, ...] = LIMITS) -> tuple[np.ndarray, tuple[str, ...]]:
    """The action (7,) after all limits in order, and what each of them had to change."""
    reasons: tuple[str, ...] = ()
    for limit in limits:
        action, reason = limit(action)
        if reason is not None:
            reasons += (reason,)
    return action, reasons
