"""The policy node: cameras and robot state in, motions out. It stores, ticks and publishes; everything else is below.

A managed (lifecycle) node. configure: the policy is loaded and warmed up. activate: streams are read, inference runs,
the chunks it plans are published, and nothing moves. ~/arm: commands leave. The model runs in a process of its own, so
that whatever it does, this one keeps its periods."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import TransitionCallbackReturn

from specprune_ros.config import ConfigError
from specprune_ros.control.counters import Counters
from specprune_ros.control.jitter import Steadiness
from specprune_ros.control.limits import displacement
from specprune_ros.control.loop import ControlLoop
from specprune_ros.control.safety import SafetyGate
from specprune_ros.infer.worker import WorkerLost, WorkerState
from specprune_ros.msg import ActionChunk, NodeStatus, PruningStatus
from specprune_ros.observe.joints import PROPRIO_DIMS
from specprune_ros.ros import convert, model_host, qos, realtime
from specprune_ros.ros.arming import Arming
from specprune_ros.ros.commands import CommandOutput
from specprune_ros.ros.control_timer import ControlTimer
from specprune_ros.ros.debug_images import DebugImages
from specprune_ros.ros.diagnostics import Diagnostics
from specprune_ros.ros.failure import Failure
from specprune_ros.ros.inputs import InputStreams
from specprune_ros.ros.instructions import Instructions
from specprune_ros.ros.lifecycle import ManagedNode
from specprune_ros.ros.model_host import ModelHost
from specprune_ros.ros.node_status import NodeStatusOutput
from specprune_ros.ros.parameters import LiveParameters
from specprune_ros.ros.run import run, stop_requested
from specprune_ros.ros.state_sources import check_available
from specprune_ros.ros.throttle import Throttle
from specprune_ros.types import Command, Hold, InferenceResult, PolicyFacts

INACTIVE = "inactive; activate the node"
POLL_S = 0.05
REPORT_S = 1.0
LOG_EVERY_S = 5.0


class PolicyNode:
    """The control timer decides. While the node is active it never waits for the model's process."""

    POLICY_FACTORY = "specprune_ros.infer.load:warm_policy"
    """Called in the model's process; see `infer.messages.Start`."""

    def __init__(self):
        self.node = node = ManagedNode("policy_node", self, automatically_declare_parameters_from_overrides=True)
        self._parameters = LiveParameters(node)
        config, topics = self._parameters.config, self._parameters.config.topics
        check_available(config)  # before weights are read
        self._gate = SafetyGate()
        self._arming = Arming(node, self._gate, self._obstacles, on_arm=self._armed, on_disarm=self._disarmed)
        self._commands = CommandOutput(node, config)
        self._arming.preparing = lambda: self._commands.preparing
        self._chunks = node.create_publisher(ActionChunk, topics.chunk, qos.EVENTS)
        self._statuses = node.create_publisher(PruningStatus, topics.status, qos.EVENTS)
        self._debug_images = DebugImages(node, topics)
        self._instructions = Instructions(node, config)
        self._model = ModelHost(self.POLICY_FACTORY)
        self._diagnostics = Diagnostics(node, self._gate, self._model)
        self._status = NodeStatusOutput(node, self._model, self._gate, self._instructions)
        self._policy: PolicyFacts | None = None
        self._inputs: InputStreams | None = None
        self._loop: ControlLoop | None = None
        self._timer: ControlTimer | None = None
        self._counters = Counters()
        self._hold_log, self._failure_log = Throttle(LOG_EVERY_S), Throttle(LOG_EVERY_S)
        self._ticked = False
        self._reported_s = time.monotonic()
        self._resets = 0
        # Also alive while a simulated clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(REPORT_S, self._look_after, clock=steady)
        if config.auto_activate:
            self._model.begin(config)
            self._starter = node.create_timer(POLL_S, self._start, clock=steady)
        self._report()

    def close(self) -> bool:
        """The stop is the last command, whatever the model is doing."""
        self._commands.close(self._now_ns())
        self._debug_images.close()
        self._model.end()
        return True

    # Lifecycle.

    def configure(self) -> None:
        """Load the policy and warm it up."""
        config = self._parameters.config
        self._model.begin(config)
        try:
            while (facts := self._model.loaded()) is None:
                if stop_requested():
                    raise Failure("asked to end while the policy was loading")
                time.sleep(POLL_S)
            self._check(facts)
        except BaseException:
            self._model.end()
            raise
        self._policy = facts
        self._diagnostics.realtime = realtime.prepare(config.realtime)
        self.node.get_logger().info(f"policy {facts.name} is ready")
        self._report()

    def activate(self) -> None:
        """Read the streams and plan; nothing moves before ~/arm."""
        config, policy = self._parameters.config, self._policy
        if policy is None or self._model.state is WorkerState.FAILED:
            why = self._model.trouble or "no policy is loaded"
            raise Failure(f"{why}; clean up and configure the node")
        loop = ControlLoop(config, policy.view_count, policy.chunk_steps, policy.proprio_dims, self._counters)
        loop.set_instruction(self._instructions.text)
        self._inputs = InputStreams(self.node, config, with_proprio=policy.proprio_dims > 0)
        self._timer = ControlTimer(self.node, config.control.rate, self._tick)
        self._loop = loop  # Set last, so that a failure above leaves the node inactive.
        realtime.settle()
        self._report()

    def deactivate(self) -> None:
        """Stop moving, and stop listening."""
        if self._loop is None:
            return
        self._arming.disarm("the node was deactivated; activate it and call ~/arm")
        self._commands.finish(self._now_ns())
        timer, inputs = self._timer, self._inputs
        self._inputs = self._loop = self._timer = None
        timer.close()
        inputs.close()
        self._report()

    def cleanup(self) -> None:
        """Let go of the policy. Nothing in here may fail: a node without a policy must not stay inactive."""
        self._policy = None
        self._model.end()
        realtime.release()
        self._report()

    def _start(self) -> None:
        """Without a lifecycle manager: configure when the policy is warm, then activate."""
        if not self._model.begun or self._policy is not None:  # somebody was faster
            self.node.destroy_timer(self._starter)
            return
        if (facts := self._model.loaded()) is None:
            return
        self.node.destroy_timer(self._starter)
        self._check(facts)
        for trigger in (self.node.trigger_configure, self.node.trigger_activate):
            if trigger() is not TransitionCallbackReturn.SUCCESS:
                raise Failure("the node could not start; the reason is in the log above")

    def _check(self, policy: PolicyFacts) -> None:
        if policy.proprio_dims not in (0, PROPRIO_DIMS):
            raise ConfigError(
                f"policy.checkpoint: the policy wants {policy.proprio_dims} proprio values; this node measures "
                f"{PROPRIO_DIMS} (pose and two fingers)"
            )
        ControlLoop(self._parameters.config, policy.view_count, policy.chunk_steps, policy.proprio_dims)

    # Arming.

    def _obstacles(self) -> list[str]:
        """What speaks against moving the arm now."""
        if self._loop is None:
            return [self._why_inactive()]
        now_ns = self._now_ns()
        if no_time := self._inputs.clock_problem(now_ns):
            return [no_time]
        found = self._inputs.obstacles() + self._loop.obstacles(now_ns) + self._model.obstacles()
        return found + self._commands.obstacles(self._loop.measured, prepare=not found)

    def _why_inactive(self) -> str:
        if self._policy is not None:
            return INACTIVE
        return model_host.LOADING if self._model.begun else model_host.NONE

    def _armed(self) -> None:
        """Motion begins with what is planned from now on."""
        self._loop.engage()

    def _disarmed(self) -> None:
        """In the middle of a motion, rest is said at once and not at the next period."""
        self._commands.hold(self._now_ns())
        self._commands.released()
        if self._loop:
            self._loop.drive.release()

    def _in_the_way(self) -> list[str]:
        """What disarms an armed arm."""
        disagreement = self._loop.disagreement(self._now_ns())
        found = ([disagreement] if disagreement else []) + self._inputs.obstacles()
        return found + self._commands.obstacles(self._loop.measured, prepare=False)

    # One control period.

    def _tick(self) -> None:
        self._ticked = True
        now_ns = self._now_ns()
        outcome = self._decide(now_ns)
        reason = outcome.reason if isinstance(outcome, Hold) else None
        if reason is not None:
            if outcome.braking is None:
                self._commands.hold(self._now_ns())  # disarming may have said so just now
            if self._hold_log.ready():
                self.node.get_logger().warning(f"holding: {reason}")
        self._diagnostics.ticked(reason)
        self._log_reset()
        # The command is out: now, and not just before the next one, is the time for what takes a while.
        if time.monotonic() - self._reported_s >= REPORT_S:
            self._report()
        elif self._status.changed(self._state, reason or ""):
            self._say()

    def _log_reset(self) -> None:
        if self._counters.resets != self._resets:
            self._resets = self._counters.resets
            self.node.get_logger().info(f"starting anew: {self._loop.last_reset}", throttle_duration_sec=LOG_EVERY_S)

    def _decide(self, now_ns: int) -> Command | Hold:
        loop, config = self._loop, self._parameters.config
        if config is not loop.config:
            loop.update_config(config)
        loop.set_instruction(self._instructions.text)
        self._inputs.feed(loop, now_ns)
        answered = self._hear_model(now_ns)
        self._arming.auto(config.safety)
        self._arming.watch(self._in_the_way)
        planned = loop.tick(now_ns)
        if self._model.trouble and isinstance(planned, Hold):
            planned = replace(planned, reason=self._model.trouble)
        outcome = self._arming.pass_on(planned, now_ns, config.safety)
        command = outcome if isinstance(outcome, Command) else outcome.braking
        if command:
            self._commands.send(command, now_ns, config.output.gripper_hysteresis)
        elif outcome is not planned:  # the gate kept it back
            loop.drive.undo()
        self._ask_model(loop, now_ns)
        if answered:  # when the command is out
            self._publish_result(answered, now_ns)
        return outcome

    # The model.

    def _ask_model(self, loop: ControlLoop, now_ns: int) -> None:
        if self._model.accepts() and (request := loop.request(now_ns)):
            self._model.submit(request, loop.config)

    def _hear_model(self, now_ns: int) -> InferenceResult | None:
        """Takes in what the model's process says; the result among it, if there is one."""
        answered = None
        while (outcome := self._model.poll()) is not None:
            if isinstance(outcome, WorkerLost):
                self._lose(outcome)
            elif self._loop is None:
                continue  # asked for before the node was deactivated
            elif isinstance(outcome, Exception):
                if self._failure_log.ready():
                    self.node.get_logger().error(f"inference failed: {outcome}")
                self._loop.failed(outcome)
            else:
                self._accept(outcome, now_ns)
                answered = outcome
        return answered

    def _accept(self, result: InferenceResult, now_ns: int) -> None:
        loop, failures = self._loop, self._loop.counters.failures
        accepted = loop.accept(result, now_ns)
        if accepted:
            self._publish_chunk(result, loop)
        if loop.counters.failures > failures or accepted:
            self._model.judge(None if accepted else loop.error)

    def _lose(self, lost: WorkerLost) -> None:
        """Whatever was planned is not followed to its end: nobody watches over it any more."""
        self.node.get_logger().error(str(lost))
        given_up = self._model.state is WorkerState.FAILED
        self._arming.disarm(str(lost) if given_up else f"{lost.why}; call ~/arm when the policy answers again")
        if self._loop:
            self._loop.failed(lost)
            self._loop.drop_plan()

    def _publish_chunk(self, result: InferenceResult, loop: ControlLoop) -> None:
        config, chunk = loop.config, result.chunk
        turn = loop.measured.quaternion_xyzw
        motions = [displacement(action, config.action, turn) for action in chunk.actions]
        self._chunks.publish(convert.chunk(chunk, motions, 1.0 / config.control.rate, config.robot.base_frame))

    def _publish_result(self, result: InferenceResult, now_ns: int) -> None:
        config, misses = self._loop.config, self._loop.counters.deadline_misses
        self._statuses.publish(convert.status(result, config, misses, now_ns))
        self._diagnostics.inferred(result)
        if config.debug_image:
            self._debug_images.publish(result, self._policy.patch_grid)

    # Slow reports.

    def _look_after(self) -> None:
        """Once a second, whatever the control periods do."""
        if self._loop and not self._ticked:  # the clock stands still: nobody else says rest
            self._commands.finish(self._now_ns())
        if self._timer:
            self._timer.follow_clock()
        if not self._ticked:
            self._hear_model(self._now_ns())
            self._report()
        self._ticked = False

    def _report(self) -> None:
        """Diagnostics for people, the node's status for programs."""
        self._reported_s = time.monotonic()
        if self._loop is None:
            self._diagnostics.hold_reason = self._why_inactive()
        streams = self._inputs.streams() if self._inputs else []
        no_time = self._inputs.clock_problem(self._now_ns()) if self._inputs else None
        self._diagnostics.hand = self._commands.hand
        steadiness = self._timer.steadiness() if self._timer else Steadiness()
        self._diagnostics.publish(self._loop, streams, steadiness, no_time)
        self._say()

    def _say(self) -> None:
        """The status alone: diagnostics take milliseconds, and their rates are those of about a second."""
        reason, rate_hz = self._diagnostics.hold_reason or "", self._parameters.config.control.rate
        latencies_ms = self._diagnostics.latencies_ms()
        steadiness = self._timer.steadiness() if self._timer else Steadiness()
        self._status.publish(self._state, reason, self._counters, latencies_ms, rate_hz, steadiness)

    @property
    def _state(self) -> int:
        return NodeStatus.ACTIVE if self._loop else NodeStatus.INACTIVE if self._policy else NodeStatus.UNCONFIGURED

    def _now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds


def main(args: Sequence[str] | None = None) -> int:
    return run(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
