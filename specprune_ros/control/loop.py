"""The control loop: observations in, inference requests and commands out. No threads and no clocks.

Once per control period its owner does

    if a result is there:   loop.accept(result, now)   (or loop.failed(error))
    command = loop.tick(now)                            -> publish it, or the reason for holding
    request = loop.request(now)                         -> hand it to the policy, if there is one

Invariants: at most one inference is outstanding; what was inferred before a reset never moves the arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specprune_ros.config import Config, check_views
from specprune_ros.control.counters import Counters
from specprune_ros.control.drive import Drive, unfit_for_arming
from specprune_ros.control.executor import ChunkExecutor
from specprune_ros.control.limits import share_of_full_scale
from specprune_ros.observe.continuity import CALM_S, Continuity
from specprune_ros.observe.gaps import clock_jumped_back
from specprune_ros.observe.history import FrameHistory, Images
from specprune_ros.observe.inputs import STATE, Inputs, state_origin
from specprune_ros.observe.motion import MotionEstimator, longest_offset, reference_offset, speed
from specprune_ros.prune.controller import next_mode
from specprune_ros.types import (
    NANOSECONDS,
    BadInput,
    ChunkStep,
    Command,
    EndEffector,
    Hold,
    InferenceRequest,
    InferenceResult,
    Mode,
    Motion,
    Observation,
    PolicyMemory,
)


@dataclass
class _Outstanding:
    chunk_id: int
    asked_ns: int
    obsolete: bool = False


class ControlLoop:
    """The readable heart of control; the ROS node and the offline evaluation drive the same one."""

    def __init__(
        self, config: Config, view_count: int, chunk_steps: int, proprio_dims: int = 8, counters: Counters | None = None
    ):
        """view_count, chunk_steps, proprio_dims: as the policy says (proprio_dims 0: no proprio token); counters: those
        of an earlier loop of the same node, to be counted on."""
        topics = config.topics
        check_views(topics, view_count)
        self._period_ns = round(NANOSECONDS / config.control.rate)
        self._chunk_steps = chunk_steps
        self._inputs = Inputs(topics.images, state_origin(config), proprio_dims, self._period_ns)
        scale = config.action
        self._motion = MotionEstimator(scale.scale_translation, scale.scale_rotation, self._period_ns)
        self._continuity = Continuity(self._period_ns)
        self._history = FrameHistory(longest_offset(config.pruning.reference), self._period_ns)
        self._executor = ChunkExecutor(self._period_ns)
        self._outstanding: _Outstanding | None = None
        self.config = config
        self.counters = counters or Counters()
        self.instruction = config.instruction.strip()
        self.drive = Drive(self._period_ns)
        self.mode = Mode.FINE
        self._tick_ns: int | None = None
        self.last_reset = ""
        """Why plan, memory or measured motion were dropped the last time, for people to read."""
        self._forget_all()

    # Observations: callbacks only store.

    def set_image(self, view: int, stamp_ns: int, image: np.ndarray) -> None:
        """Newest image (H, W, 3) uint8 RGB of a view (index from 0), taken at stamp_ns [ns]. BadInput when it cannot be
        used; then the arm is held until a good one comes."""
        try:
            image = self._inputs.checked_image(view, image)
        except BadInput as error:
            if 0 <= view < self._inputs.view_count:
                self.refuse_image(view, error)
            raise
        if reason := self._inputs.jumped_back(view, stamp_ns):
            self.reset(reason)
        self._inputs.set_image(view, stamp_ns, image)
        frame_ns = self._inputs.frame_ns
        if frame_ns is None:
            return
        if reason := self._history.push(frame_ns, self._inputs.images, self.config.control.observation_timeout):
            self._reset_derived(f"images: {reason}")

    def set_frame(self, stamp_ns: int, images: Images) -> None:
        """All views at once, each as for `set_image`; BadInput when there are not as many as the policy has views."""
        if len(images) != self._inputs.view_count:
            raise BadInput(f"frame has {len(images)} images, the policy has {self._inputs.view_count} views")
        for view, image in enumerate(images):
            self.set_image(view, stamp_ns, image)

    def set_state(self, state: EndEffector, proprio: np.ndarray | None) -> None:
        """Newest measured pose (base frame, [m]) and proprio (P,), or None. BadInput when they cannot be used; then the
        arm is held until good ones come."""
        try:
            state, proprio = self._inputs.checked_state(state, proprio)
            self._continuity.check(state, self.drive.reach(self.config), settle=not self.drive.armed)
        except BadInput as error:
            self.refuse_state(error)
            raise
        if reason := self._inputs.jumped_back(STATE, state.stamp_ns):
            self.reset(reason)
        if reason := self._motion.push(state, self.config.control.observation_timeout):
            self.last_reset = f"robot state, measured motion only: {reason}"
        self._inputs.set_state(state, proprio)

    def refuse_image(self, view: int, error: BadInput) -> None:
        """For an image that could not even be converted: hold and say so, until a good one comes."""
        self.counters.bad_inputs += 1
        self._inputs.refuse(view, error)

    def refuse_state(self, error: BadInput) -> None:
        """As `refuse_image`, for the state."""
        self.counters.bad_inputs += 1
        self._inputs.refuse(STATE, error)

    def set_instruction(self, text: str) -> None:
        """A new task: what was planned and remembered for the old one is dropped at once."""
        text = text.strip()
        if text != self.instruction:
            self.instruction = text
            self._note_reset(f"a new instruction: {text!r}")
            self.drop_plan()

    def update_config(self, config: Config) -> None:
        """Swap in a new configuration (parameters that are not live keep their effect). Which instruction is in force
        is not its business: see `control.instruction`."""
        self.config = config
        self._history.resize(longest_offset(config.pruning.reference))

    # Arming: from here on the commanded path counts from the measured pose, and the arm is watched.

    def obstacles(self, now_ns: int) -> list[str]:
        """What speaks against arming now, of all that this loop knows."""
        if reason := self.blocked(now_ns):
            return [reason]
        motion, measured = self.motion, self.measured
        assert measured is not None  # or it would be blocked
        fast = None if motion is None else speed(motion, self.config.action, self.config.control.rate)
        return unfit_for_arming(measured, fast, self.config)

    def drop_plan(self) -> None:
        """What was planned and remembered before now must not move the arm: plan afresh. An inference under way becomes
        obsolete but still occupies the policy."""
        self._memory: PolicyMemory | None = None
        self._executor.clear()
        self._inferred_ns: int | None = None
        self._replan = False
        self._error: str | None = None
        if self._outstanding is not None:
            self._outstanding.obsolete = True

    def engage(self) -> None:
        """The arm was just armed, since there were no `obstacles`. What was planned before must not move it, and its
        path begins where it is."""
        measured = self.measured
        assert measured is not None
        self.drop_plan()
        self.drive.engage(measured)

    def disagreement(self, now_ns: int) -> str | None:
        """Why an armed arm must be disarmed; None while its measured motion is what was commanded."""
        measured = self.measured
        if not self.drive.armed or measured is None:  # after a reset there is no pose, and the arm is held for that
            return None
        if self._continuity.elsewhere_s() >= CALM_S:
            return f"the pose has not been possible for {self._continuity.elsewhere_s():.2f} s: {self._continuity.jump}"
        if now_ns - measured.stamp_ns > self.config.control.observation_timeout * NANOSECONDS:
            return None  # it is held for that, and so old a pose does not show what the arm does now
        return self.drive.disagreement(measured, self.config)

    def reset(self, reason: str = "a new beginning was asked for") -> None:
        """A new beginning (new episode, clock jump): only configuration, instruction and counters stay."""
        self._note_reset(reason)
        self._forget_all()

    @property
    def inputs(self) -> Inputs:
        """What is known of the streams; who receives them adds how they get here (`Inputs.deliveries`)."""
        return self._inputs

    @property
    def measured(self) -> EndEffector | None:
        """The newest measured pose."""
        return self._inputs.state

    @property
    def motion(self) -> Motion | None:
        """Measured movement over about the last period; None while unknown."""
        return self._motion.latest()

    @property
    def error(self) -> str | None:
        """Why the newest inference was of no use; None after a good one and after a reset."""
        return self._error

    # Inference: one request at a time.

    def blocked(self, now_ns: int) -> str | None:
        """Why neither inference nor motion is possible now; None when nothing is in the way."""
        if not self.instruction:
            topic = self.config.topics.instruction
            return f"no instruction; publish one on {topic} or set the parameter `instruction`"
        return self._inputs.problem(now_ns, self.config.control.observation_timeout)

    def request(self, now_ns: int) -> InferenceRequest | None:
        """The next inference, if one is wanted and possible now."""
        if self._outstanding is not None or not self._wanted(now_ns) or self.blocked(now_ns):
            return None
        observation = self._observation()
        linear = observation.motion.linear if observation.motion else 0.0
        offset = reference_offset(linear, self.config.pruning.reference, self._history.capacity_periods)
        reference_images, frame_offset = self._history.reference(observation.stamp_ns, offset) or (None, 0)
        self.counters.requests += 1
        request = InferenceRequest(
            chunk_id=self.counters.requests,
            observation=observation,
            reference_images=reference_images,
            frame_offset=frame_offset,
            mode=self.mode,
            memory=self._memory,
            pruning=self.config.pruning,
            misses_before=self.counters.deadline_misses,
        )
        self._outstanding = _Outstanding(request.chunk_id, now_ns)
        self._inferred_ns = observation.stamp_ns
        self._replan = False
        return request

    def accept(self, result: InferenceResult, now_ns: int) -> bool:
        """Take over a result; False when it is obsolete or unusable and was put aside."""
        asked, chunk = self._outstanding, result.chunk
        if asked is None or chunk.chunk_id != asked.chunk_id:
            self.counters.ignored += 1
            return False
        if asked.obsolete or chunk.instruction != self.instruction:
            self._outstanding = None
            self.counters.ignored += 1
            return False
        try:
            self._check_length(chunk.actions)
            self.counters.dropped_steps += self._executor.accept(chunk, now_ns)
        except BadInput as error:
            self.failed(error)
            return False
        self._outstanding = None
        self._error = None
        self._memory = result.memory
        self.counters.accepted += 1
        return True

    def failed(self, error: Exception) -> None:
        """The outstanding inference raised: the old chunk goes on until it runs out, the next frame is tried again."""
        self.counters.failures += 1
        if self._outstanding is not None and not self._outstanding.obsolete:
            self._error = f"inference {self._outstanding.chunk_id} failed: {error}"
        self._outstanding = None

    # Commands: once per control period.

    def tick(self, now_ns: int) -> Command | Hold:
        """The command for the period that starts now, or why there is none."""
        self.counters.ticks += 1
        before_ns = self._tick_ns
        if before_ns is not None and clock_jumped_back(before_ns, now_ns, self._period_ns):
            self.reset(f"the clock went back by {(before_ns - now_ns) / NANOSECONDS:.2f} s")
        self._tick_ns = now_ns
        reason = self.blocked(now_ns)
        if reason:
            return self._hold(reason, now_ns)
        self._update_mode()
        step = self._executor.command(now_ns, self.config.control)
        return self._limited(step, now_ns) if isinstance(step, ChunkStep) else self._out_of_steps(step.reason, now_ns)

    def _limited(self, step: ChunkStep, now_ns: int) -> Command | Hold:
        measured = self.measured
        assert measured is not None  # or the loop would be blocked
        try:
            command = self.drive.permit(step, measured, self.config, now_ns)
        except BadInput as error:
            return self._hold(str(error), now_ns)
        self.counters.commands += 1
        self.counters.limited += bool(self.drive.limit_reasons)
        return command

    def _out_of_steps(self, reason: str, now_ns: int) -> Hold:
        asked = self._outstanding
        if asked is not None:
            if self._executor.has_chunk:
                self.counters.deadline_misses += 1
            reason += f"; inference {asked.chunk_id} has been running for {(now_ns - asked.asked_ns) * 1e-9:.2f} s"
        return self._hold(f"{self._error}; {reason}" if self._error else reason, now_ns)

    def _hold(self, reason: str, now_ns: int) -> Hold:
        """No motion is wanted: what is left of the last one is braked within the limits."""
        self.counters.holds += 1
        return Hold(reason, self.drive.brake(self._inputs.state, self.config, now_ns))

    def _update_mode(self) -> None:
        motion, config = self._motion.latest(), self.config
        controller, period_s = config.pruning.controller, self._period_ns / NANOSECONDS
        share = motion and share_of_full_scale(motion, config.action, config.limits, period_s)
        before, self.mode = self.mode, next_mode(self.mode, share, controller)
        entered_fine = before is Mode.COARSE and self.mode is Mode.FINE and motion is not None
        if entered_fine and controller.enabled and controller.replan_on_fine and self._executor.has_chunk:
            self._executor.drop()
            # An inference that is under way is still used, so that the arm need not wait for two; the fine one follows.
            self._replan = True
            self.counters.replans += 1

    def _wanted(self, now_ns: int) -> bool:
        """A frame that was not inferred yet, and a chunk that runs out or must be replaced."""
        frame = self._history.newest
        if frame is None or (self._inferred_ns is not None and frame[0] <= self._inferred_ns):
            return False
        control = self.config.control
        return self._replan or self._executor.remaining_steps(now_ns, control) <= control.lead_steps

    def _observation(self) -> Observation:
        """The newest frame and state, with the motion since the last inference."""
        newest = self._history.newest
        assert newest is not None  # as `_wanted` has found
        stamp_ns, images = newest
        motion = self._motion.latest() if self._inferred_ns is None else self._motion.mean_since(self._inferred_ns)
        return Observation(stamp_ns, images, self._inputs.proprio, self.instruction, motion)

    def _check_length(self, actions: np.ndarray) -> None:
        if actions.shape[:1] != (self._chunk_steps,):
            raise BadInput(f"action chunk has shape {actions.shape}, the policy promised {self._chunk_steps} steps")

    # Resets, from small to large.

    def _note_reset(self, reason: str) -> None:
        self.counters.resets += 1
        self.last_reset = reason

    def _reset_derived(self, reason: str) -> None:
        """A gap in the frames: everything that was derived from earlier measurements."""
        self._note_reset(reason)
        self._motion.reset()
        self.mode = Mode.FINE
        self.drop_plan()

    def _forget_all(self) -> None:
        self._inputs.clear()
        self._history.reset()
        self._continuity.reset()
        self._motion.reset()
        self.mode = Mode.FINE
        self._tick_ns = None
        self.drop_plan()
