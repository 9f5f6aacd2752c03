"""What the numbers of a policy's actions mean, and whether its dataset statistics agree. The rule stands here once.

An action unit is one thing everywhere behind `Policy.infer`: 1 is `action.scale_translation` metres (or
`action.scale_rotation` radians) in one control period. Policies differ in the numbers they were trained on:

- normalised: the numbers are action units already, +-1 being full scale (LIBERO, the bundled policy);
- metres: the numbers are metres and radians in one control period (Bridge, Fractal). They are divided by the scales,
  which then say how far a full-scale command goes; the limits on motion apply as always.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specprune_ros.config import ActionScale
from specprune_ros.model.errors import Unfit
from specprune_ros.model.statistics import Statistics

METRES = "metres"
METRE_LIKE = 0.3
"""Statistics whose largest translation is below this are taken for metres: normalised demonstrations come near 1
(LIBERO 0.94, DROID 0.78), those in metres stay far below (Bridge 0.04, Fractal 0.23)."""
FARTHEST_M = 0.5
"""No demonstration moves an end effector farther than this within one control period [m]."""


@dataclass(frozen=True)
class Meaning:
    """What a policy's actions mean under the parameters. units: "normalised" or "metres"; text: for logs and tables;
    doubt: what speaks against it although it is allowed, empty where nothing does."""

    units: str
    text: str
    doubt: str


def units_of(scale: ActionScale, declared: str | None) -> str:
    """The parameter `action.units`, else what the checkpoint declares, else "normalised"."""
    return scale.units if scale.units != "auto" else declared or "normalised"


def action_units(actions: np.ndarray, scale: ActionScale, declared: str | None) -> np.ndarray:
    """(T, 7) in the policy's own numbers -> (T, 7) in action units.

    Translation and rotation are not cut to [-1, 1]: `control.limits` does that, with a reason. The gripper is an
    opening and no motion; it saturates at closed and open here, because a regression overshoots these two values all
    the time.
    """
    actions = np.array(actions, np.float64)
    if units_of(scale, declared) == METRES:
        actions[:, :3] /= scale.scale_translation
        actions[:, 3:6] /= scale.scale_rotation
    actions[:, 6] = np.clip(actions[:, 6], 0.0, 1.0)
    return actions


def meaning(statistics: Statistics, scale: ActionScale, declared: str | None, rate_hz: float) -> Meaning:
    """What the actions mean; Unfit when the dataset statistics contradict it and nobody has said that it is so."""
    units, reach = units_of(scale, declared), statistics.reach
    if reach is None:
        return Meaning(units, _text(units, scale), "")
    reach_m = reach * (1.0 if units == METRES else scale.scale_translation)
    text = f"{_text(units, scale)}; {statistics.key} reaches {reach:.3g}, which is {1e3 * reach_m:.3g} mm"
    if reach_m > FARTHEST_M:
        raise Unfit(f"{statistics.key}: {_too_far(units, scale, reach, reach_m, rate_hz)}")
    doubt = _doubt(units, scale, reach, reach_m)
    if scale.units == "auto" and declared is None and _metre_like(units, scale, reach):
        raise Unfit(f"{statistics.key}: {doubt}; set action.units to 'metres' or, if they are not, to 'normalised'")
    return Meaning(units, text, doubt)


def _text(units: str, scale: ActionScale) -> str:
    what = "metres and radians" if units == METRES else "normalised"
    return f"{what}, full scale {scale.scale_translation:g} m and {scale.scale_rotation:g} rad in one control period"


def _metre_like(units: str, scale: ActionScale, reach: float) -> bool:
    """The numbers look like metres but are taken for shares of a full scale. A full scale farther than any motion takes
    them for metres as well, which is right then."""
    return units != METRES and reach < METRE_LIKE and scale.scale_translation < FARTHEST_M


def _doubt(units: str, scale: ActionScale, reach: float, reach_m: float) -> str:
    if _metre_like(units, scale, reach):
        return (
            f"actions reach only {reach:.3g}, as those in metres do (below {METRE_LIKE:g}); taken for shares of "
            f"action.scale_translation ({scale.scale_translation:g} m), the arm moves {1e3 * reach_m:.2g} mm where "
            f"{1e3 * reach:.3g} mm may be meant"
        )
    if reach_m > scale.scale_translation * (1.0 + METRE_LIKE):
        return (
            f"actions reach {reach_m:.3g} m in one control period, more than a full-scale command of "
            f"{scale.scale_translation:g} m (action.scale_translation): the range limit cuts the rest off"
        )
    return ""


def _too_far(units: str, scale: ActionScale, reach: float, reach_m: float, rate_hz: float) -> str:
    if units == METRES:
        taken = "as metres (action.units)"
        remedy = "normalised actions need action.units 'normalised'"
    else:
        taken = f"by action.scale_translation {scale.scale_translation:g}"
        remedy = f"set action.scale_translation to what 1 means, at most {FARTHEST_M / reach:.2g} m"
    return (
        f"actions reach {reach:.3g}, {taken} {reach_m:.3g} m in one control period or {reach_m * rate_hz:.3g} m/s at "
        f"control.rate {rate_hz:g}; at most {FARTHEST_M:g} m in a period is believed; {remedy}"
    )
