"""One policy node and a stand-in robot on a ROS graph of their own, seen and disturbed from outside."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import Trigger

from specprune_ros import rotation
from specprune_ros.bench.faults.judge import Judge, Seen
from specprune_ros.bench.faults.robot import PERIOD_S, StandInRobot
from specprune_ros.config import Limits, Topics
from specprune_ros.config import Robot as Names
from specprune_ros.control.safety import SafetyState
from specprune_ros.demo.nodes import NodeProcesses, local_environment
from specprune_ros.msg import Action, NodeStatus
from specprune_ros.ros import convert, qos
from specprune_ros.types import EndEffector

NODE = "/policy_node"
INTERFACES: dict[str, tuple[type, str, dict[str, object]]] = {
    "action": (Action, f"{NODE}/action", {}),
    "servo_twist": (
        TwistStamped,
        Topics().servo_twist,
        {"output.interface": "servo_twist", "output.switch_servo": False, "output.gripper": "topic"},
    ),
    "target_pose": (
        PoseStamped,
        Topics().target_pose,
        {"output.interface": "target_pose", "output.gripper": "topic"},
    ),
}
"""Command interface -> message, topic and the parameters that choose it. The limits are the defaults: a first day's."""

PATIENCE_S = 60.0
FEW_RESTARTS = 2
"""After more of them, the node gives its model up or waits long for the next: the next fault gets a new node."""


class LiveScene:
    """A context manager for one thread; time passes only in `spin` and `until`."""

    def __init__(
        self,
        interface: str,
        folder: Path,
        domain: int,
        changes: Mapping[str, object] | None = None,
        without: Collection[int | str] = (),
        environment: Mapping[str, str] | None = None,
    ):
        """changes: of the node's parameters; without: see StandInRobot; environment: more variables for the
        processes."""
        self.kind, self.topic, chosen = INTERFACES[interface]
        self._changes = {**chosen, **(changes or {})}
        self._without, self._more = without, dict(environment or {})
        self._folder, self._domain = folder, domain
        self._target: EndEffector | None = None
        self._rival = None
        self._answer = ""
        """Of the node, when it was asked to arm."""

    def __enter__(self) -> LiveScene:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self._domain)
        self.node = rclpy.create_node("bench_faults", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.robot = StandInRobot(self.node, without=self._without)
        self.robot.obey(self.kind, self.topic)
        self.judge = Judge(Limits(), PERIOD_S)
        self.status: NodeStatus | None = None
        self.safety: list[str] = []
        self.holds: list[str] = []
        """What the node said on these: of its safety state, and why it commands nothing."""
        self.node.create_subscription(self.kind, self.topic, self._on_command, qos.EVENTS)
        self.node.create_subscription(NodeStatus, f"{NODE}/node_status", self._on_status, qos.LATCHED)
        self.node.create_subscription(String, f"{NODE}/safety", self._on_safety, qos.LATCHED)
        self._task = self.node.create_publisher(String, f"{NODE}/instruction", qos.LATCHED)
        environment = {**local_environment(), "ROS_DOMAIN_ID": str(self._domain), **self._more}
        self._nodes = NodeProcesses(self._folder, environment)
        return self

    def __exit__(self, *_) -> None:
        self._nodes.stop()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    # The node.

    def start(self) -> None:
        """Start the node, unless it runs; wait until it is ready."""
        if self.pid is None:
            self.status, self._target = None, None
            self.judge.start_anew()
            command = [sys.executable, "-m", "specprune_ros.bench.faults.node", "--ros-args"]
            for name, value in self._changes.items():
                command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
            self._nodes.stop()
            self._nodes.start("policy_node", command)
            self.until(lambda: self.status and self._task.get_subscription_count(), "the node")

    def stop(self) -> None:
        """End the node's process, and what was started beside it."""
        self._nodes.stop()

    def start_beside(self, name: str, command: Sequence[str]) -> None:
        """Another process on the graph; the node must run."""
        self._nodes.start(name, command)

    @property
    def pid(self) -> int | None:
        """Of the node's process; None while it does not run."""
        return self._nodes.pid("policy_node")

    def arm_and_move(self) -> None:
        """Whatever it takes to have the arm moving."""
        if self.status is not None and self.status.model.restarts >= FEW_RESTARTS:
            self.stop()
        self.start()
        self.say("move")
        self.judge.allow()
        begin = len(self.judge.seen)  # a model that hangs disarms it again, until there is another
        self.until(lambda: self._armed() and self._moves_since(begin) >= 6, "motion", lambda: self._answer)

    def until_moving(self, count: int) -> float:
        """Wait for so many moving commands; when the first of them arrived [s]."""
        begin = len(self.judge.seen)
        self.until(lambda: self._moves_since(begin) >= count, "motion")
        return next(self.judge.arrivals_s[i] for i in range(begin, len(self.judge.seen)) if self.judge.seen[i].moves)

    def _moves_since(self, begin: int) -> int:
        return sum(seen.moves for seen in self.judge.seen[begin:])

    def _armed(self) -> bool:
        if self.status is not None and self.status.safety == SafetyState.ARMED.value:
            return True
        for service in ("reset_estop", "arm"):
            self._answer = self.ask(service)
        return self.status is not None and self.status.safety == SafetyState.ARMED.value

    def ask(self, service: str) -> str:
        """Call a service and wait for its answer."""
        client = self.node.create_client(Trigger, f"{NODE}/{service}")
        try:
            if not self.spin_until(client.service_is_ready, 2.0):
                return "not there"
            future = client.call_async(Trigger.Request())
            if not self.spin_until(future.done, 2.0):
                return "no answer"
            self.spin(0.05)
            return future.result().message
        finally:
            self.node.destroy_client(client)

    # What a fault can do.

    def say(self, text: str) -> None:
        self._task.publish(String(data=text))

    def call(self, service: str) -> None:
        client = self.node.create_client(Trigger, f"{NODE}/{service}")
        if self.spin_until(client.service_is_ready, 2.0):
            client.call_async(Trigger.Request())

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill_model(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.status.model.pid, number)

    def rival(self, present: bool) -> None:
        if present and self._rival is None:
            self._rival = self.node.create_publisher(self.kind, self.topic, qos.EVENTS)
        elif not present and self._rival is not None:
            self.node.destroy_publisher(self._rival)
            self._rival = None

    def heal(self) -> None:
        """The fault has passed."""
        self.robot.heal()
        self.rival(False)
        self.say("move")

    # Time.

    def spin(self, seconds: float) -> None:
        self.spin_until(lambda: False, seconds)

    def spin_until(self, condition: Callable[[], object], seconds: float) -> bool:
        end_s = time.monotonic() + seconds
        while not condition():
            if (left_s := end_s - time.monotonic()) <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(left_s, 0.02))
        return True

    def until(self, condition: Callable[[], object], what: str, told: Callable[[], str] = str) -> None:
        """TimeoutError with what it was `told`, and the end of the node's log, when it does not come."""
        if not self.spin_until(condition, PATIENCE_S):
            raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}; {told()}; {self._nodes.last_lines()}")

    def _on_command(self, message) -> None:
        stamp_ns, motion = convert.stamp_ns(message.header, self.topic), self._motion(message)
        self.judge.add(Seen(stamp_ns, motion, message), time.monotonic())

    def _motion(self, message) -> np.ndarray:
        if isinstance(message, PoseStamped):
            target = convert.end_effector(message, Names().base_frame, self.topic)
            before = self._target or EndEffector(0, self.robot.position, self.robot.turn)
            if self.judge.fresh:  # armed again: it starts from where the arm was measured
                before = target
            self._target = target
            turned = rotation.difference(target.quaternion_xyzw, before.quaternion_xyzw)
            motion = np.concatenate([target.position_m - before.position_m, turned])
            return np.where(np.abs(motion) < 1e-9, 0.0, motion)
        if isinstance(message, TwistStamped):
            vectors, scale = (message.twist.linear, message.twist.angular), PERIOD_S
        else:
            vectors, scale = (message.translation, message.rotation), 1.0
        return scale * np.array([getattr(vector, axis) for vector in vectors for axis in "xyz"])

    def _on_status(self, message: NodeStatus) -> None:
        self.status = message
        if message.hold_reason:
            self.holds.append(message.hold_reason)

    def _on_safety(self, message: String) -> None:
        self.safety.append(message.data)
