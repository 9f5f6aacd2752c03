"""Action-aware controller: coarse or fine pruning from the measured end-effector motion (docs/explanation/method.md,
Action-aware controller)."""

from __future__ import annotations

from specprune_ros.config import Controller
from specprune_ros.types import Mode, Motion


def next_mode(mode: Mode, motion: Motion | None, controller: Controller) -> Mode:
    """The mode after `mode`, given the motion of the last control period.

    Fine keeps more tokens, so it is also the answer while the motion is unknown and when the controller is off.
    Leaving fine needs more motion than entering it (hysteresis), so that noise does not make the mode flicker.
    """
    if motion is None or not controller.enabled:
        return Mode.FINE
    if mode is Mode.FINE:
        return Mode.COARSE if _leaves_fine(motion, controller) else Mode.FINE
    return Mode.FINE if _enters_fine(motion, controller) else Mode.COARSE


def _enters_fine(motion: Motion, controller: Controller) -> bool:
    """Slow, hardly turning, and not moving up: about to touch something."""
    slow = motion.linear < controller.enter_linear and motion.angular < controller.enter_angular
    return slow and motion.dz <= 0.0


def _leaves_fine(motion: Motion, controller: Controller) -> bool:
    fast = motion.linear > controller.exit_linear or motion.angular > controller.exit_angular
    return fast or motion.dz > controller.exit_dz
