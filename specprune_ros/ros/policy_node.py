"""The policy node: cameras and robot state in, motions out. It stores, ticks and publishes; everything else is below.

A managed (lifecycle) node. configure: the policy is loaded and warmed up. activate: streams are read, inference runs, the chunks it
plans are published, and nothing moves. ~/arm: commands leave.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import String

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.jitter import Jitter
from specprune_ros.control.limits import displacement
from specprune_ros.control.loop import ControlLoop
from specprune_ros.control.safety import SafetyGate
from specprune_ros.infer.worker import InferenceWorker, PolicyUnavailable
from specprune_ros.msg import ActionChunk, PruningStatus
from specprune_ros.observe.joints import PROPRIO_DIMS
from specprune_ros.ros import convert, qos, realtime
from specprune_ros.ros.arming import Arming
from specprune_ros.ros.commands import CommandOutput
from specprune_ros.ros.debug_images import DebugImages
from specprune_ros.ros.diagnostics import Diagnostics
from specprune_ros.ros.inputs import InputStreams
from specprune_ros.ros.lifecycle import ManagedNode
from specprune_ros.ros.parameters import LiveParameters
from specprune_ros.ros.run import Failure, run, stop_requested
from specprune_ros.ros.state_sources import check_available
from specprune_ros.types import Command, Hold, InferenceRequest, InferenceResult

LOADING, UNCONFIGURED, INACTIVE = "policy is loading", "unconfigured; configure the node", "inactive; activate the node"
CLOSE_S = 1.0
UNLOAD_S = 10.0
POLL_S = 0.05
LOG_EVERY_S = 5.0


class PolicyNode:
    """One control timer decides; inference runs in the worker's thread and is never waited for while the node is active."""

    def __init__(self):
        self.node = node = ManagedNode("policy_node", self, automatically_declare_parameters_from_overrides=True)
        self._parameters = LiveParameters(node)
        config, topics = self._parameters.config, self._parameters.config.topics
        self._gate = SafetyGate()
        self._arming = Arming(node, self._gate, self._obstacles, on_arm=self._armed, on_disarm=self._disarmed)
        self._commands = CommandOutput(node, config)
        self._chunks = node.create_publisher(ActionChunk, topics.chunk, qos.EVENTS)
        self._statuses = node.create_publisher(PruningStatus, topics.status, qos.EVENTS)
        self._debug_images = DebugImages(node, topics)
        self._diagnostics = Diagnostics(node, self._gate)
        self._instruction: str | None = None
        node.create_subscription(String, topics.instruction, self._on_instruction, qos.EVENTS)

        self._worker: InferenceWorker | None = None
        self._policy = None
        self._inputs: InputStreams | None = None
        self._loop: ControlLoop | None = None
        self._timer = None
        self._request: InferenceRequest | None = None
        self._request_config = config
        self._misses_at_request = 0
        self._ticked = False
        # Also alive while a simulated clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(1.0, self._report, clock=steady)
        if config.auto_activate:
            self._worker = _worker(config)
            self._starter = node.create_timer(POLL_S, self._start, clock=steady)

    def close(self) -> bool:
        """The stop is the last command, whatever the model is doing; False when it hangs."""
        self._commands.close(self._now_ns())
        self._debug_images.close()
        return self._worker is None or self._worker.close(CLOSE_S)

    # Lifecycle.

    def configure(self) -> None:
        """Load the policy and warm it up."""
        config = self._parameters.config
        self._worker = self._worker or _worker(config)
        try:
            while (policy := self._worker.policy()) is None:
                if stop_requested():
                    raise Failure("asked to end while the policy was loading")
                time.sleep(POLL_S)
            self._check(policy)
        except (PolicyUnavailable, ConfigError) as error:
            self._worker, worker = None, self._worker
            worker.close(CLOSE_S)
            raise Failure(f"the policy cannot be loaded: {error}") from error
        self._policy = policy
        self._diagnostics.realtime = realtime.prepare(config.realtime)
        self.node.get_logger().info(f"policy {policy.name} is ready")

    def activate(self) -> None:
        """Read the streams and plan; nothing moves before ~/arm."""
        config, policy = self._parameters.config, self._policy
        loop = ControlLoop(config, policy.view_count, policy.chunk_steps, policy.proprio_dims)
        if self._instruction is not None:
            loop.set_instruction(self._instruction)
        inputs = InputStreams(self.node, config, with_proprio=policy.proprio_dims > 0)
        self._jitter = Jitter(1.0 / config.control.rate)
        self._loop, self._inputs = loop, inputs  # what can fail has not failed
        self._timer = self.node.create_timer(1.0 / config.control.rate, self._tick)

    def deactivate(self) -> None:
        """Stop moving, and stop listening."""
        if self._loop is None:
            return
        self._arming.disarm("the node was deactivated; activate it and call ~/arm")
        self._commands.finish(self._now_ns())
        self._instruction = self._loop.instruction or self._instruction  # the last word, from topic or parameter
        self.node.destroy_timer(self._timer)
        self._inputs.close(self.node)
        self._inputs = self._loop = self._timer = None

    def cleanup(self) -> None:
        """Let go of the policy."""
        worker, self._worker, self._policy = self._worker, None, None
        realtime.release()
        if worker is not None and not worker.close(UNLOAD_S):
            raise Failure(f"the model still infers after {UNLOAD_S:g} s and keeps its memory until it is done")

    def _start(self) -> None:
        """Without a lifecycle manager: configure when the policy is warm, then activate."""
        if self._worker is None or self._policy is not None:  # somebody was faster
            self.node.destroy_timer(self._starter)
            return
        try:
            if self._worker.policy() is None:
                return
        except PolicyUnavailable as error:
            raise Failure(f"the policy cannot be loaded: {error}") from error
        self.node.destroy_timer(self._starter)
        self._check(self._worker.policy())
        for trigger in (self.node.trigger_configure, self.node.trigger_activate):
            if trigger() is not TransitionCallbackReturn.SUCCESS:
                raise Failure("the node could not start; the reason is in the log above")

    def _check(self, policy) -> None:
        check_available(self._parameters.config)
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
        found = self._loop.obstacles(self._now_ns())
        pending = self._policy.pending
        reasons = [f"{pending} kinds of inference are being made fast; arm again in a moment"] if pending else []
        return found + reasons + self._commands.obstacles()

    def _why_inactive(self) -> str:
        if self._policy is not None:
            return INACTIVE
        return LOADING if self._worker else UNCONFIGURED

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
        disagreement = self._loop.disagreement()
        return ([disagreement] if disagreement else []) + self._commands.obstacles()

    # One control period.

    def _tick(self) -> None:
        self._jitter.tick(time.monotonic())
        self._ticked = True
        now_ns = self._now_ns()
        outcome = self._decide(now_ns)
        if isinstance(outcome, Hold):
            if outcome.braking is None:
                self._commands.hold(self._now_ns())  # disarming may have said so just now
            self.node.get_logger().warning(f"holding: {outcome.reason}", throttle_duration_sec=LOG_EVERY_S)
        self._diagnostics.ticked(outcome.reason if isinstance(outcome, Hold) else None)

    def _decide(self, now_ns: int) -> Command | Hold:
        loop, config = self._loop, self._parameters.config
        if config is not loop.config:
            loop.update_config(config)
        self._inputs.feed(loop)
        answered = self._accept(loop, now_ns)
        self._arming.auto(config.safety)
        self._arming.watch(self._in_the_way)
        planned = loop.tick(now_ns)
        outcome = self._arming.pass_on(planned, now_ns, config.safety)
        command = outcome if isinstance(outcome, Command) else outcome.braking
        if command:
            self._commands.send(command, now_ns, config.output.gripper_hysteresis)
        elif planned is not outcome:  # the gate kept it back
            loop.drive.undo()
        self._submit(loop, now_ns)
        if answered:
            self._show(*answered)  # when the command is out
        return outcome

    def _submit(self, loop: ControlLoop, now_ns: int) -> None:
        if self._worker.busy:  # with an inference that was asked for before the node was deactivated
            return
        if request := loop.request(now_ns):
            self._request = request
            self._misses_at_request = loop.counters.deadline_misses
            self._request_config = loop.config
            self._worker.submit(request, loop.config)

    def _accept(self, loop: ControlLoop, now_ns: int) -> tuple[InferenceRequest, InferenceResult] | None:
        """Hands the worker's outcome to the loop and publishes what it was."""
        outcome, request = self._worker.poll(), self._request
        if outcome is None:
            return None
        if isinstance(outcome, Exception):
            self.node.get_logger().error(f"inference failed: {outcome}", throttle_duration_sec=LOG_EVERY_S)
            loop.failed(outcome)
            return None
        if loop.accept(outcome, now_ns):
            self._publish_chunk(outcome, loop)
        self._publish_status(request, outcome, now_ns)
        self._diagnostics.inferred(outcome)
        return request, outcome

    # Callbacks and slow reports.

    def _on_instruction(self, message: String) -> None:
        """A publisher may repeat itself, so that late starters hear it; only a change is an event."""
        if message.data == self._instruction:
            return
        self._instruction = message.data
        self.node.get_logger().info(f"instruction: {message.data!r}")
        if self._loop:
            self._loop.set_instruction(message.data)

    def _report(self) -> None:
        if self._loop and not self._ticked:  # the clock stands still: nobody else says rest
            self._commands.finish(self._now_ns())
        self._ticked = False
        streams = self._inputs.streams() if self._inputs else []
        jitter = self._jitter.summary_ms() if self._loop else {}
        self._diagnostics.realtime |= {f"tick jitter {name}": f"{value:.3f}" for name, value in jitter.items()}
        if self._policy is not None:
            self._diagnostics.realtime["inference engine"] = self._policy.engine_state
        if self._loop is None:
            self._diagnostics.hold_reason = self._why_inactive()
        self._diagnostics.publish(self._loop, streams)

    def _publish_chunk(self, result: InferenceResult, loop: ControlLoop) -> None:
        config, chunk = loop.config, result.chunk
        turn = loop.measured.quaternion_xyzw
        motions = [displacement(action, config.action, turn) for action in chunk.actions]
        self._chunks.publish(convert.chunk(chunk, motions, 1.0 / config.control.rate, config.robot.base_frame))

    def _publish_status(self, request: InferenceRequest, result: InferenceResult, now_ns: int) -> None:
        config, chunk, misses = self._request_config, result.chunk, self._loop.counters.deadline_misses
        stamp = convert.header(chunk.stamp_ns, config.robot.base_frame)
        message = convert.status(result.report, request.observation.motion, config, stamp)
        message.chunk_id = chunk.chunk_id
        message.chunk_age = (now_ns - chunk.stamp_ns) / convert.NANOSECONDS
        message.deadline_misses = misses
        message.deadline_missed = misses > self._misses_at_request
        self._statuses.publish(message)

    def _show(self, request: InferenceRequest, result: InferenceResult) -> None:
        if self._loop.config.debug_image:
            self._debug_images.publish(request.observation, result.report, self._policy.patch_grid)

    def _now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds


def _worker(config: Config) -> InferenceWorker:
    return InferenceWorker(lambda: load(config))


def load(config: Config):
    """The policy, warm. Runs in the worker's thread; torch is imported there, so that the node is up at once."""
    from specprune_ros.infer.load import load_policy

    policy = load_policy(config)
    policy.warm_up(config)
    return policy


def main(args: Sequence[str] | None = None) -> int:
    return run(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
