"""The policy node: cameras and robot state in, actions out. It stores, ticks and publishes; everything else is below."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.loop import ControlLoop
from specprune_ros.eval.overlay import overlay
from specprune_ros.infer.worker import InferenceWorker, PolicyUnavailable
from specprune_ros.msg import ActionChunk, PruningStatus
from specprune_ros.ros import convert, qos
from specprune_ros.ros.commands import CommandOutput
from specprune_ros.ros.diagnostics import Diagnostics
from specprune_ros.ros.inputs import InputStreams
from specprune_ros.ros.parameters import LiveParameters
from specprune_ros.ros.run import Failure, run
from specprune_ros.types import Command, Hold, InferenceRequest, InferenceResult

LOADING = Hold("policy is loading")
CLOSE_S = 1.0
LOG_EVERY_S = 5.0


class PolicyNode:
    """One control timer decides; inference runs in the worker's thread and is never waited for."""

    def __init__(self):
        self.node = node = Node("policy_node", automatically_declare_parameters_from_overrides=True)
        self._parameters = LiveParameters(node)
        config = self._parameters.config
        topics = config.topics
        self._commands = CommandOutput(node, config)
        self._chunks = node.create_publisher(ActionChunk, topics.chunk, qos.EVENTS)
        self._statuses = node.create_publisher(PruningStatus, topics.status, qos.EVENTS)
        self._debug_images = node.create_publisher(Image, topics.debug_image, qos.SENSOR_OUT)
        self._diagnostics = Diagnostics(node)
        self._inputs = InputStreams(node, config)
        self._instruction: str | None = None
        node.create_subscription(String, topics.instruction, self._on_instruction, qos.EVENTS)

        self._worker = InferenceWorker(lambda: load(config))
        self._loop: ControlLoop | None = None
        self._request: InferenceRequest | None = None
        self._misses_at_request = 0
        node.create_timer(1.0 / config.control.rate, self._tick)
        # Also alive while a simulated clock stands still.
        node.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        """The stop is the last command, whatever the model is doing; False when it hangs."""
        self._commands.stop(self._now_ns())
        return self._worker.close(CLOSE_S)

    # One control period.

    def _tick(self) -> None:
        outcome = self._decide(self._now_ns())
        if isinstance(outcome, Hold):
            self.node.get_logger().warning(f"holding: {outcome.reason}", throttle_duration_sec=LOG_EVERY_S)
        self._diagnostics.ticked(outcome.reason if isinstance(outcome, Hold) else None)

    def _decide(self, now_ns: int) -> Command | Hold:
        loop = self._ready_loop()
        if loop is None:
            return LOADING
        if self._parameters.config is not loop.config:
            loop.update_config(self._parameters.config)
        self._inputs.feed(loop, with_proprio=self._policy.proprio_dims > 0)
        answered = self._accept(loop, now_ns)
        outcome = loop.tick(now_ns)
        if isinstance(outcome, Command):
            self._commands.send(outcome, now_ns)
        self._submit(loop, now_ns)
        if answered:
            self._publish_debug_image(*answered)  # the slowest part comes when the command is out
        return outcome

    def _submit(self, loop: ControlLoop, now_ns: int) -> None:
        if request := loop.request(now_ns):
            self._request = request
            self._misses_at_request = loop.counters.deadline_misses
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
            config = loop.config
            period_s = 1.0 / config.control.rate
            self._chunks.publish(convert.chunk(outcome.chunk, config.action, period_s, config.robot.base_frame))
        self._publish_status(request, outcome, now_ns)
        self._diagnostics.inferred(outcome)
        return request, outcome

    # Start.

    def _ready_loop(self) -> ControlLoop | None:
        """The control loop, which exists once the policy is warm. Failure when there will be none."""
        if self._loop is None:
            try:
                self._policy = self._worker.policy()
            except PolicyUnavailable as error:
                raise Failure(f"the policy cannot be loaded: {error}") from error
            if self._policy is not None:
                self._loop = self._make_loop()
                self.node.get_logger().info(f"policy {self._policy.name} is ready")
        return self._loop

    def _make_loop(self) -> ControlLoop:
        policy = self._policy
        if policy.proprio_dims not in (0, convert.PROPRIO_DIMS):
            raise ConfigError(
                f"policy.checkpoint: the policy wants {policy.proprio_dims} proprio values; this node measures "
                f"{convert.PROPRIO_DIMS} (pose and two fingers)"
            )
        loop = ControlLoop(self._parameters.config, policy.view_count, policy.chunk_steps, policy.proprio_dims)
        if self._instruction is not None:
            loop.set_instruction(self._instruction)
        return loop

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
        self._ready_loop()
        self._diagnostics.publish(self._loop, self._inputs.streams())

    def _publish_status(self, request: InferenceRequest, result: InferenceResult, now_ns: int) -> None:
        config, chunk, misses = self._loop.config, result.chunk, self._loop.counters.deadline_misses
        stamp = convert.header(chunk.stamp_ns, config.robot.base_frame)
        message = convert.status(result.report, request.observation.motion, config.topics.images, stamp)
        message.chunk_id = chunk.chunk_id
        message.chunk_age = (now_ns - chunk.stamp_ns) / convert.NANOSECONDS
        message.deadline_misses = misses
        message.deadline_missed = misses > self._misses_at_request
        self._statuses.publish(message)

    def _publish_debug_image(self, request: InferenceRequest, result: InferenceResult) -> None:
        if not self._loop.config.debug_image or not self._debug_images.get_subscription_count():
            return
        report, observation = result.report, request.observation
        drawn = overlay(
            observation.images,
            report.kept,
            self._policy.patch_grid,
            mode=report.mode,
            aggressiveness=report.aggressiveness,
            caption=observation.instruction,
        )
        self._debug_images.publish(convert.image(drawn, convert.header(observation.stamp_ns, "")))

    def _now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds


def load(config: Config):
    """The policy, warm. Runs in the worker's thread; torch is imported there, so that the node is up at once."""
    from specprune_ros.infer.policy import load_policy

    policy = load_policy(config)
    policy.warm_up(config)
    return policy


def main(args: Sequence[str] | None = None) -> int:
    return run(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
