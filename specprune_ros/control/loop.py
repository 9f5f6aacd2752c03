"""The control loop: observations in, inference requests and commands out. No threads and no clocks.

Once per control period its owner does

    if a result is there:   loop.accept(result, now)   (or loop.failed(error))
    command = loop.tick(now)                            -> publish it, or the reason for holding
    request = loop.request(now)                         -> hand it to the policy, if there is one

Invariants: at most one inference is outstanding; what was inferred before a reset never moves the arm.
"""

from __future__ import annotations

import numpy as np

from specprune_ros.config import Config, check_views
from specprune_ros.control.asked import Asked
from specprune_ros.control.clocks import ClockWatch
from specprune_ros.control.counters import Counters
from specprune_ros.control.drive import Drive, unfit_for_arming
from specprune_ros.control.executor import ChunkExecutor
from specprune_ros.control.limits import share_of_full_scale
from specprune_ros.control.senses import Break, Scope, Senses
from specprune_ros.observe.gaps import clock_jumped_back
from specprune_ros.observe.history import Images
from specprune_ros.observe.inputs import STATE, Inputs
from specprune_ros.observe.motion import longest_offset, reference_offset, speed
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
)


class ControlLoop:
    """The readable heart of control; the ROS node and the offline evaluation drive the same one."""

    def __init__(
        self, config: Config, view_count: int, chunk_steps: int, proprio_dims: int = 8, counters: Counters | None = None
    ):
        """view_count, chunk_steps, proprio_dims: as the policy says (proprio_dims 0: no proprio token); counters: those
        of an earlier loop of the same node, to be counted on."""
        check_views(config.topics, view_count)
        self._period_ns = round(NANOSECONDS / config.control.rate)
        self._senses = Senses(config, proprio_dims, self._period_ns)
        self._clocks = ClockWatch(self._period_ns)
        self._executor = ChunkExecutor(self._period_ns)
        self._asked = Asked(chunk_steps)
        self.config = config
        self.counters = counters or Counters()
        self.instruction = config.instruction.strip()
        self.drive = Drive(self._period_ns)
        self.mode = Mode.FINE
        self._tick_ns: int | None = None
        self._rewound = ""
        """How a clock went back while the arm was armed; empty when none did since."""
        self._anew = ""
        """Why everything began anew, until a chunk has come."""
        self.last_reset = ""
        """Why plan, memory or measured motion were dropped the last time, for people to read."""
        self._forget_all()

    # Observations: callbacks only store.

    def set_image(self, view: int, stamp_ns: int, image: np.ndarray) -> None:
        """Newest image of a view (index from 0), (H, W, 3) uint8 RGB. BadInput when it cannot be used, which holds the
        arm until a good one comes."""
        try:
            broken = self._senses.set_image(view, stamp_ns, image, self.config.control.observation_timeout)
        except BadInput as error:
            if 0 <= view < self.inputs.view_count:
                self.refuse_image(view, error)
            raise
        self._mend(broken)

    def set_frame(self, stamp_ns: int, images: Images) -> None:
        """All views at once, (H, W, 3) uint8 RGB each, taken at the same time. BadInput as in `set_image`, and when
        there are too few or too many."""
        if len(images) != self.inputs.view_count:
            raise BadInput(f"frame has {len(images)} images, the policy has {self.inputs.view_count} views")
        for view, image in enumerate(images):
            self.set_image(view, stamp_ns, image)

    def set_state(self, state: EndEffector, proprio: np.ndarray | None) -> None:
        """Newest measured state; proprio: (8,) float32, or as long as the policy wants it. BadInput when it cannot be
        used, which holds the arm until a good one comes."""
        reach, settle = self.drive.reach(self.config), not self.drive.armed
        try:
            broken = self._senses.set_state(state, proprio, reach, settle, self.config.control.observation_timeout)
        except BadInput as error:
            self.refuse_state(error)
            raise
        self._watch_clock("the stamps of the robot state", state.stamp_ns)
        self._mend(broken)

    def refuse_image(self, view: int, error: BadInput) -> None:
        """For an image that could not even be converted: hold and say so, until a good one comes."""
        self.counters.bad_inputs += 1
        self.inputs.refuse(view, error)

    def refuse_state(self, error: BadInput) -> None:
        """As `refuse_image`, for the state."""
        self.counters.bad_inputs += 1
        self.inputs.refuse(STATE, error)

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
        self._senses.history.resize(longest_offset(config.pruning.reference))

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
        self._asked.forget()
        self._executor.clear()
        self._replan = False

    def engage(self) -> None:
        """The arm was just armed, since there were no `obstacles`. What was planned before must not move it, and its
        path begins where it is."""
        measured = self.measured
        assert measured is not None
        self._rewound = ""
        self.drop_plan()
        self.drive.engage(measured)

    def disagreement(self, now_ns: int) -> str | None:
        """Why an armed arm must be disarmed; None while its measured motion is what was commanded."""
        if not self.drive.armed:
            return None
        if self._rewound:
            return f"{self._rewound}: what the arm does now cannot be compared with what it was told; check the clocks"
        measured = self.measured
        if measured is None:  # the arm is held for that
            return None
        if elsewhere := self._senses.elsewhere():
            return elsewhere
        if now_ns - measured.stamp_ns > self.config.control.observation_timeout * NANOSECONDS:
            return None  # it is held for that, and so old a pose does not show what the arm does now
        return self.drive.disagreement(measured, self.config)

    def reset(self, reason: str = "a new beginning was asked for") -> None:
        """A new beginning: only configuration, instruction and counters stay."""
        self._note_reset(reason)
        self._forget_all()

    @property
    def inputs(self) -> Inputs:
        """What is known of the streams; who receives them adds how they get here (`Inputs.deliveries`)."""
        return self._senses.inputs

    @property
    def measured(self) -> EndEffector | None:
        """The newest measured pose."""
        return self.inputs.state

    @property
    def motion(self) -> Motion | None:
        """Measured movement over about the last period; None while unknown."""
        return self._senses.motion.latest()

    @property
    def error(self) -> str | None:
        """Why the newest inference was of no use; None after a good one and after a reset."""
        return self._asked.error

    # Inference: one request at a time.

    def blocked(self, now_ns: int) -> str | None:
        """Why neither inference nor motion is possible now; None when nothing is in the way."""
        if not self.instruction:
            topic = self.config.topics.instruction
            return f"no instruction; publish one on {topic} or set the parameter `instruction`"
        return self.inputs.problem(now_ns, self.config.control.observation_timeout)

    def request(self, now_ns: int) -> InferenceRequest | None:
        """The next inference, if one is wanted and possible now."""
        frame = self._wanted(now_ns)
        if self._asked.chunk_id is not None or frame is None or self.blocked(now_ns):
            return None
        observation = self._observation(*frame)
        linear = observation.motion.linear if observation.motion else 0.0
        offset = reference_offset(linear, self.config.pruning.reference, self._senses.history.capacity_periods)
        reference_images, frame_offset = self._senses.history.reference(observation.stamp_ns, offset) or (None, 0)
        self.counters.requests += 1
        request = InferenceRequest(
            chunk_id=self.counters.requests,
            observation=observation,
            reference_images=reference_images,
            frame_offset=frame_offset,
            mode=self.mode,
            memory=self._asked.memory,
            pruning=self.config.pruning,
            misses_before=self.counters.deadline_misses,
        )
        self._asked.begin(request, now_ns)
        self._replan = False
        return request

    def accept(self, result: InferenceResult, now_ns: int) -> bool:
        """Take over a result; False when it is obsolete or unusable and was put aside."""
        if not self._asked.answered(result, self.instruction):
            self.counters.ignored += 1
            return False
        try:
            self._asked.check_length(result)
            self.counters.dropped_steps += self._executor.accept(result.chunk, now_ns)
        except BadInput as error:
            self.counters.failures += 1
            self._asked.bad(result.chunk.chunk_id, error)
            return False
        self._asked.good(result.memory)
        self._anew = ""
        self.counters.accepted += 1
        return True

    def failed(self, error: Exception) -> None:
        """The outstanding inference raised: the old chunk goes on until it runs out, the next frame is tried again."""
        self.counters.failures += 1
        self._asked.bad(self._asked.chunk_id, error)

    # Commands: once per control period.

    def tick(self, now_ns: int) -> Command | Hold:
        """The command for the period that starts now, or why there is none."""
        self.counters.ticks += 1
        self._watch_clock("the clock", now_ns)
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
        has_chunk, frame = self._executor.has_chunk, self._senses.history.newest
        self.counters.deadline_misses += has_chunk and self._asked.chunk_id is not None
        if not has_chunk and self._anew:
            reason += f"; began anew: {self._anew}"
        return self._hold(self._asked.explained(reason, now_ns, frame[0] if frame and has_chunk else None), now_ns)

    def _hold(self, reason: str, now_ns: int) -> Hold:
        """No motion is wanted: what is left of the last one is braked within the limits."""
        self.counters.holds += 1
        return Hold(reason, self.drive.brake(self.inputs.state, self.config, now_ns))

    def _update_mode(self) -> None:
        motion, config = self._senses.motion.latest(), self.config
        controller, period_s = config.pruning.controller, self._period_ns / NANOSECONDS
        share = motion and share_of_full_scale(motion, config.action, config.limits, period_s)
        before, self.mode = self.mode, next_mode(self.mode, share, controller)
        entered_fine = before is Mode.COARSE and self.mode is Mode.FINE and motion is not None
        if entered_fine and controller.enabled and controller.replan_on_fine and self._executor.has_chunk:
            self._executor.drop()
            # An inference that is under way is still used, so that the arm need not wait for two; the fine one follows.
            self._replan = True
            self.counters.replans += 1

    def _wanted(self, now_ns: int) -> tuple[int, Images] | None:
        """The newest frame (stamp, images), if it was not inferred yet and a chunk runs out or must be replaced."""
        frame, inferred_ns = self._senses.history.newest, self._asked.inferred_ns
        if frame is None or (inferred_ns is not None and frame[0] <= inferred_ns):
            return None
        control = self.config.control
        runs_out = self._executor.remaining_steps(now_ns, control) <= control.lead_steps
        return frame if self._replan or runs_out else None

    def _observation(self, stamp_ns: int, images: Images) -> Observation:
        """A frame and the newest state, with the motion since the last inference."""
        measured, since_ns = self._senses.motion, self._asked.inferred_ns
        motion = measured.latest() if since_ns is None else measured.mean_since(since_ns)
        return Observation(stamp_ns, images, self.inputs.proprio, self.instruction, motion)

    # Resets, from small to large.

    def _watch_clock(self, name: str, stamp_ns: int) -> None:
        """When it goes back while the arm is armed, the arm must be disarmed, which `disagreement` then says: nothing
        that is measured from now on can be compared with what was commanded before."""
        if (rewound := self._clocks.note(name, stamp_ns)) and self.drive.armed:
            self._rewound = rewound

    def _mend(self, broken: Break | None) -> None:
        """Give up what can no longer be derived from measurements; the senses have begun anew by themselves."""
        if broken is not None and broken.scope is Scope.MOTION:
            self.last_reset = broken.reason
        elif broken is not None:
            self._note_reset(broken.reason)
            self._forget_plans()

    def _note_reset(self, reason: str) -> None:
        self.counters.resets += 1
        self.last_reset = self._anew = reason

    def _forget_all(self) -> None:
        self._senses.clear()
        self._forget_plans()

    def _forget_plans(self) -> None:
        self.mode = Mode.FINE
        self._tick_ns = None
        self.drop_plan()
