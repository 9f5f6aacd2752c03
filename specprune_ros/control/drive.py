"""What leaves the control loop: steps of chunks become limited commands, a hold becomes a brake, and an armed arm is
watched."""

from __future__ import annotations

import numpy as np

from specprune_ros.config import Config
from specprune_ros.control.limits import LIMIT_NAMES, Situation, braking, outside, permitted
from specprune_ros.control.path import CommandedPath
from specprune_ros.control.supervision import Supervisor
from specprune_ros.observe.continuity import ANYBODY, Reach
from specprune_ros.observe.motion import Speed
from specprune_ros.types import NANOSECONDS, ChunkStep, Command, EndEffector

STILL_MPS, STILL_RADPS = 0.05, 0.25
"""An arm that moves faster is not armed: its path would begin in the middle of somebody else's motion."""
REACH_FACTOR = 1.5
"""How much faster than commanded an arm may be measured, as it overshoots."""

NOWHERE = EndEffector(0, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
"""Stands for an unknown pose where only the way to rest is asked for, which needs no place."""


class Drive:
    """The commanded motion of one arm. `permit` and `brake` are called once per control period, one of the two."""

    def __init__(self, period_ns: int):
        self._period_ns = period_ns
        self._path = CommandedPath(period_ns)
        self._supervisor = Supervisor()
        self._gripper = 1.0
        self._commanded_ns: int | None = None
        self.armed = False
        self.limit_reasons: tuple[str, ...] = ()
        """Why the last command is not what the policy wanted."""
        self.limits_hit = dict.fromkeys(LIMIT_NAMES, 0)
        """Commands that each limit changed."""

    def engage(self, measured: EndEffector) -> None:
        """The arm was just armed: its path begins where it is measured, this once."""
        self._path.anchor(measured)
        self._supervisor.begin(measured)
        self.armed = True

    def release(self) -> None:
        """The arm was disarmed: others may move it."""
        self._path.forget()
        self.armed = False

    def permit(self, step: ChunkStep, measured: EndEffector, config: Config, now_ns: int) -> Command:
        """The command for a step of a chunk; BadInput when its numbers cannot be used."""
        self._notice_pause(now_ns)
        motion = permitted(step.action, config.action, config.limits, self._situation(measured, config))
        self.limit_reasons = tuple(motion.reasons.values())
        for name in motion.reasons:
            self.limits_hit[name] += 1
        self._gripper = motion.displacement.gripper
        self._path.advance(motion, now_ns)
        return Command(motion.displacement, step.chunk_id, step.step, step.chunk_age, self._path.target)

    def brake(self, measured: EndEffector | None, config: Config, now_ns: int) -> Command | None:
        """The command for the next period on the way to rest; None at rest."""
        self.limit_reasons = ()
        self._notice_pause(now_ns)
        motion = braking(self._gripper, config.limits, self._situation(measured or NOWHERE, config))
        if motion is None:
            self._path.rest(now_ns)
            return None
        self._path.advance(motion, now_ns)
        return Command(motion.displacement, 0, 0, 0.0, self._path.target)

    def undo(self) -> None:
        """The last command did not leave: the arm is at rest, and the next one starts from there."""
        self._path.undo()

    def disagreement(self, measured: EndEffector, config: Config) -> str | None:
        """Why an armed arm must be disarmed, judged by its newest measured pose; None while it does what it is told."""
        if not self.armed:
            return None
        absolute, settings = config.output.interface == "target_pose", config.supervision
        if found := self._supervisor.check(self._path, measured, settings, absolute):
            return found
        margin_m = settings.drift_translation
        if settings.enabled and (place := outside(measured.position_m, config.limits, margin_m)):
            return (
                f"the end effector is outside the workspace by more than supervision.drift_translation ({margin_m:g} "
                f"m): {place}; move it inside, and check what pulls or pushes it"
            )
        return None

    def reach(self, config: Config) -> Reach:
        """How fast the arm can be now: an armed one only as fast as it is told."""
        if not self.armed:
            return ANYBODY
        limits = config.limits
        because = f"{REACH_FACTOR:g} times limits.linear_speed and limits.angular_speed"
        return Reach(REACH_FACTOR * limits.linear_speed, REACH_FACTOR * limits.angular_speed, because)

    def _notice_pause(self, now_ns: int) -> None:
        """A command is for one period. When the next one comes more than a period late, the arm has come to rest."""
        if self._commanded_ns is not None and now_ns - self._commanded_ns > 2 * self._period_ns:
            self._path.rest(now_ns)
        self._commanded_ns = now_ns

    def _situation(self, measured: EndEffector, config: Config) -> Situation:
        path = self._path
        if config.output.interface == "target_pose" and path.target is not None:
            start_m = path.target.position_m
        else:  # where the arm will be when it has done what it was told so far
            delay_ns = round(config.supervision.delay * NANOSECONDS)
            start_m = measured.position_m + path.since(measured.stamp_ns - delay_ns)
        return Situation(start_m, measured.quaternion_xyzw, path.linear, path.angular, self._period_ns / NANOSECONDS)


def unfit_for_arming(measured: EndEffector, speed: Speed | None, config: Config) -> list[str]:
    """What speaks against arming in how the arm stands and moves; speed: measured, None while it is unknown."""
    found = []
    if place := outside(measured.position_m, config.limits):
        found.append(f"the end effector is outside the workspace: {place}; move it inside, or change the box")
    if speed and (speed.linear > STILL_MPS or speed.angular > STILL_RADPS):
        found.append(
            f"the end effector moves at {speed.linear:.3f} m/s and {speed.angular:.3f} rad/s (limits for arming "
            f"{STILL_MPS:g} m/s and {STILL_RADPS:g} rad/s); stop whatever moves it"
        )
    return found
