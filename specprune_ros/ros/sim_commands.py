"""The ways in which a motion reaches the simulated arm, each as its real counterpart takes it (the other end:
ros/interfaces.py)."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from std_msgs.msg import Float64

from specprune_ros.config import Robot
from specprune_ros.msg import Action
from specprune_ros.observe.inputs import check_pose
from specprune_ros.ros import convert, qos
from specprune_ros.sim.env import SimState, TabletopEnv
from specprune_ros.sim.osc import action_units
from specprune_ros.sim.panda import FINGER_OPEN_M
from specprune_ros.types import BadInput, EndEffector

LOGGED = 20
"""Every one of so many refused commands is logged, then one in so many."""
FRAME = Robot().base_frame
REST = np.zeros(6)
"""No motion, in action units."""


class GripperInput:
    """Position commands for the fingers: a topic, and an action server where control_msgs is installed."""

    def __init__(self, node: Node, topic: str, action: str):
        self._node, self._topic, self._action = node, topic, action
        self.clear()

    def clear(self) -> None:
        """As an episode begins: open, and nobody said so."""
        self.commanded, self.open = False, True

    def listen(self) -> None:
        """For interfaces without a gripper of their own."""
        self._node.create_subscription(Float64, self._topic, self._on_position, qos.EVENTS)
        try:
            kind = importlib.import_module("control_msgs.action").GripperCommand
        except (ImportError, AttributeError):
            return
        from rclpy.action import ActionServer

        self._server = ActionServer(self._node, kind, self._action, lambda goal: self._on_goal(goal, kind))

    def _on_position(self, message: Float64) -> None:
        try:
            self._set(message.data)
        except BadInput as error:
            self._node.get_logger().warning(f"{self._topic}: {error}")

    def _on_goal(self, goal, kind):
        """Accepted is done: the fingers take their time in the periods that follow."""
        result = kind.Result()
        try:
            self._set(goal.request.command.position)
        except BadInput as error:
            self._node.get_logger().warning(f"{self._action}: {error}")
            goal.abort()
        else:
            result.position, result.reached_goal = goal.request.command.position, True
            goal.succeed()
        return result

    def _set(self, position_m: float) -> None:
        if not 0.0 <= position_m <= FINGER_OPEN_M + 1e-6:  # NaN is not, either
            raise BadInput(
                f"a gripper position of {position_m} m is refused; give 0 (closed) .. {FINGER_OPEN_M} m (open)"
            )
        self.commanded, self.open = True, position_m > 0.5 * FINGER_OPEN_M


class _Commands(ABC):
    """One topic, and what it wants of the arm in a control period."""

    kind: type
    noun: str
    parameter: str
    """The simulator's parameter with the topic."""
    timeout_s: float
    """Older messages are refused."""

    def __init__(self, node: Node, topic: str, period_s: float, now_ns: Callable[[], int], gripper: GripperInput):
        self._node, self._topic, self._now_ns, self._gripper = node, topic, now_ns, gripper
        self._period_s = period_s
        self._refused = 0
        self.clear()
        node.create_subscription(self.kind, topic, self._on_message, qos.EVENTS)

    @abstractmethod
    def clear(self) -> None:
        """A new episode: what was wanted before is forgotten."""

    @abstractmethod
    def step(self, env: TabletopEnv) -> SimState | None:
        """Moves for one period; None when nothing is wanted."""

    @abstractmethod
    def _store(self, message) -> None:
        """BadInput for what cannot be meant."""

    def _on_message(self, message) -> None:
        try:
            self._store(message)
        except BadInput as error:
            self._refused += 1
            if self._refused <= LOGGED or self._refused % LOGGED == 0:
                self._node.get_logger().warning(f"{self.noun} refused ({self._refused} so far): {error}")

    def _stamp_ns(self, message) -> int:
        """The time of a message; BadInput when it is older than a command may be."""
        stamp_ns = convert.stamp_ns(message.header, self._topic)
        age_s = (self._now_ns() - stamp_ns) / convert.NANOSECONDS
        if age_s > self.timeout_s:
            raise BadInput(
                f"{self._topic}: the {self.noun} is {age_s:.2f} s old (limit {self.timeout_s:g} s); "
                "check use_sim_time and the clocks"
            )
        return stamp_ns


class ActionCommands(_Commands):
    """Every action is a displacement: of two in one period, the second waits for the next one instead of being lost."""

    kind, noun, parameter = Action, "action", "action_topic"

    def clear(self) -> None:
        self._actions: deque[np.ndarray] = deque(maxlen=2)

    def step(self, env: TabletopEnv) -> SimState | None:
        return env.step(self._actions.popleft()) if self._actions else None

    def _store(self, message: Action) -> None:
        self._actions.append(action_units(convert.displacement(message, self._period_s, FRAME, self._topic)))


class TwistCommands(_Commands):
    """The newest velocity counts, until it is older than the timeout."""

    kind, noun, parameter = TwistStamped, "twist", "twist_topic"
    timeout_s = 0.1  # MoveIt Servo's incoming_command_timeout (docs/reference/ros.md)

    def __init__(self, *args):
        super().__init__(*args)
        self._gripper.listen()

    def clear(self) -> None:
        self._motion, self._until_ns = REST, 0
        self._gripper.clear()

    def step(self, env: TabletopEnv) -> SimState | None:
        if not self._until_ns and not self._gripper.commanded:
            return None
        motion = self._motion if self._now_ns() <= self._until_ns else REST
        return env.step([*motion, float(self._gripper.open)])

    def _store(self, message: TwistStamped) -> None:
        motion = convert.twist_displacement(message, self._period_s, FRAME, self._topic)
        self._until_ns = self._stamp_ns(message) + round(self.timeout_s * convert.NANOSECONDS)
        self._motion = action_units(motion)[:6]


class PoseCommands(_Commands):
    """The newest target counts, for as long as there is no other."""

    kind, noun, parameter = PoseStamped, "target pose", "pose_topic"
    timeout_s = 0.5

    def __init__(self, *args):
        super().__init__(*args)
        self._gripper.listen()

    def clear(self) -> None:
        self._target: EndEffector | None = None
        self._gripper.clear()

    def step(self, env: TabletopEnv) -> SimState | None:
        target, gripper = self._target, self._gripper
        if target is not None:
            return env.step_pose(target.position_m, target.quaternion_xyzw, gripper.open)
        return env.step([*REST, float(gripper.open)]) if gripper.commanded else None

    def _store(self, message: PoseStamped) -> None:
        target = convert.end_effector(message, FRAME, self._topic)
        check_pose(target)
        self._stamp_ns(message)
        self._target = target


COMMANDS = {"action": ActionCommands, "servo_twist": TwistCommands, "target_pose": PoseCommands}
"""By the parameter `command_interface`."""
