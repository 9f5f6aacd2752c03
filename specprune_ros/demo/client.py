"""The demo's eyes and hands on the ROS graph: records what the nodes publish, starts episodes, gives instructions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from specprune_ros.config import Topics
from specprune_ros.demo.trace import EpisodeTrace, Inference, packed
from specprune_ros.demo.video import DEBUG
from specprune_ros.msg import Action, NodeStatus, PruningStatus
from specprune_ros.ros import convert, qos
from specprune_ros.sim import verdict
from specprune_ros.sim.env import TabletopEnv
from specprune_ros.srv import ResetSim
from specprune_ros.types import STAGES

COUNTERS = ("ticks", "commands", "holds", "requests", "failures", "deadline_misses", "replans", "resets", "limited")


@dataclass
class Health:
    """What the policy node says of itself, at least once a second."""

    ready: bool = False
    making: int = 0
    """Kinds of inference that are being made fast, and take a core meanwhile."""
    hold_reason: str = "starting"
    counters: dict[str, int] = field(default_factory=dict)
    reports: int = 0


class DemoClient:
    """A context manager for one thread. Messages arrive in `spin`, and are recorded in `trace` while it is set."""

    def __init__(self):
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = node = Node("specprune_demo")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self.health = Health()
        self.task = ""
        self.trace: EpisodeTrace | None = None
        self._started_s = 0.0
        self._frames = 0
        self._reset = node.create_client(ResetSim, "/sim_node/reset")
        self._instruction = node.create_publisher(String, "/policy_node/instruction", qos.LATCHED)
        streams = dict(zip(TabletopEnv.CAMERAS, Topics().images, strict=True))
        for name, topic in {DEBUG: "/policy_node/debug_image", **streams}.items():
            node.create_subscription(Image, topic, self._recorder(name), qos.EVENTS)
        node.create_subscription(PruningStatus, "/policy_node/status", self._on_status, qos.EVENTS)
        node.create_subscription(Action, "/policy_node/action", self._on_action, qos.EVENTS)
        node.create_subscription(String, "/sim_node/task", self._on_task, qos.LATCHED)
        node.create_subscription(NodeStatus, "/policy_node/node_status", self._on_node_status, qos.LATCHED)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def spin(self, seconds: float) -> None:
        """Handle what arrives during the next `seconds`."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def simulator_is_up(self) -> bool:
        return self._reset.service_is_ready() and self._frames > 0

    def begin(self, seed: int, wait: Callable[[Callable[[], bool], str], None]) -> EpisodeTrace:
        """Reset the simulator to `seed`, wait until it shows the new episode, record, and tell the policy its task.

        wait(condition, what): spins until the condition holds, or raises.
        """
        self.task, self.trace = "", None
        future = self._reset.call_async(ResetSim.Request(seed=seed))
        wait(future.done, f"the simulator to reset to seed {seed}")
        response = future.result()
        if not response.success:
            raise RuntimeError(f"the simulator refused seed {seed}: {response.message}")
        self._frames = 0  # cameras pause after a reset: what comes now shows the new episode
        wait(lambda: self._frames >= 2 and self.task == verdict.RUNNING, "the cameras to show the new episode")
        self.trace = EpisodeTrace(seed, response.instruction)
        self._started_s = time.monotonic()
        self.instruct(response.instruction)
        return self.trace

    def end(self) -> None:
        """Stop the policy's task and the recording."""
        self.instruct("")
        self.trace.duration_s = self.elapsed_s()
        self.trace = None

    def instruct(self, text: str) -> None:
        self._instruction.publish(String(data=text))

    def elapsed_s(self) -> float:
        """Wall time since the episode began."""
        return time.monotonic() - self._started_s

    def _recorder(self, name: str) -> Callable[[Image], None]:
        def on_image(message: Image) -> None:
            self._frames += name != DEBUG
            if self.trace is not None:
                pictures = self.trace.pictures.setdefault(name, [])
                pictures.append((self.elapsed_s(), packed(convert.rgb(message, name))))

        return on_image

    def _on_status(self, message: PruningStatus) -> None:
        if self.trace is None:
            return
        inference = Inference(
            time_s=self.elapsed_s(),
            mode=message.mode,
            tokens_total=message.tokens_total,
            tokens_kept=message.tokens_kept,
            total_ms=message.total_ms,
            stages_ms={stage: getattr(message, f"{stage}_ms") for stage in STAGES},
            chunk_age_ms=1e3 * message.chunk_age,
            deadline_missed=message.deadline_missed,
        )
        self.trace.inferences.append(inference)

    def _on_action(self, message: Action) -> None:
        if self.trace is not None:
            self.trace.action_stamps_ns.append(convert.stamp_ns(message.header, "/policy_node/action"))

    def _on_task(self, message: String) -> None:
        self.task = message.data

    def _on_node_status(self, message: NodeStatus) -> None:
        health = self.health
        health.ready, health.hold_reason = message.ready, message.hold_reason
        health.making = message.model.making
        health.counters = {name: getattr(message, name) for name in COUNTERS}
        health.reports += 1
        if self.trace is not None and message.hold_reason:
            reasons = self.trace.hold_reasons
            reasons[message.hold_reason] = reasons.get(message.hold_reason, 0) + 1
