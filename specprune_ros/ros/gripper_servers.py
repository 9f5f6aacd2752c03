"""The action servers that move a gripper: Franka's own (grasp, move, homing) and the common GripperCommand.

Their packages are not on PyPI, so they are looked for at run time."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.hand import End, Goal, Task, judged

INSTALL = "install it (apt install ros-$ROS_DISTRO-control-msgs) or set output.gripper to topic or none"
ENDS = {GoalStatus.STATUS_SUCCEEDED: End.SUCCEEDED, GoalStatus.STATUS_CANCELED: End.CANCELED}
"""Any other status is an abort."""

ANY_THICKNESS_M = 1.0
"""Tolerance of a grasp. A grasp succeeds at any width, even with nothing between the fingers. Whether the object is
held is left to the policy."""


class Server(Protocol):
    """One way to move the hand by goals."""

    homes: bool
    """Whether it can home the hand."""

    def name(self, task: Task) -> str:
        """The action, as it is called."""
        ...

    def obstacle(self, task: Task) -> str | None:
        """Why no goal can be sent or followed now."""
        ...

    def goal(self, goal: Goal) -> tuple[ActionClient, Any]:
        """Whom to send what."""
        ...

    def read(self, goal: Goal, answer: Any) -> tuple[End, str]:
        """How a goal ended, with numbers and the remedy; answer: status and result."""
        ...


class FrankaGripper:
    """franka_gripper of franka_ros2: franka_msgs/action/Grasp closes with a force on whatever is there, Move opens."""

    homes = True
    ACTIONS = {Task.CLOSE: ("Grasp", "grasp"), Task.OPEN: ("Move", "move"), Task.HOME: ("Homing", "homing")}

    def __init__(self, node: Node, config: Config, actions: Any):
        self._output, self._base = config.output, config.topics.franka_gripper
        self._actions = actions
        self._clients = {
            task: ActionClient(node, getattr(actions, kind), f"{self._base}/{name}")
            for task, (kind, name) in self.ACTIONS.items()
        }

    def name(self, task: Task) -> str:
        return f"{self._base}/{self.ACTIONS[task][1]}"

    def obstacle(self, task: Task) -> str | None:
        return None if self._clients[task].server_is_ready() else f"no server of {self.name(task)}"

    def goal(self, goal: Goal) -> tuple[ActionClient, Any]:
        message = getattr(self._actions, self.ACTIONS[goal.task][0]).Goal()
        if goal.task is not Task.HOME:
            message.width, message.speed = 2.0 * goal.position_m, self._output.gripper_speed
        if goal.task is Task.CLOSE:
            message.force = self._output.gripper_effort
            message.epsilon.inner = message.epsilon.outer = ANY_THICKNESS_M
        return self._clients[goal.task], message

    def read(self, goal: Goal, answer: Any) -> tuple[End, str]:
        end, result = ENDS.get(answer.status, End.ABORTED), answer.result
        if end is End.SUCCEEDED and not result.success:
            end = End.ABORTED
        text = f"{self.name(goal.task)}: {result.error}" if result.error else self.name(goal.task)
        return end, text if end is not End.ABORTED else f"{text}; {self._remedy(goal.task)}"

    def _remedy(self, task: Task) -> str:
        if task is Task.HOME:
            return "check that nothing is between the fingers and that the hand is switched on (Franka Desk)"
        home = f"home the hand: ros2 action send_goal {self.name(Task.HOME)} franka_msgs/action/Homing {{}}"
        if task is Task.OPEN:
            return f"{home}, or lower output.gripper_width ({self._output.gripper_width:g} m)"
        return f"{home}, or lower output.gripper_effort ({self._output.gripper_effort:g} N)"


class CommandedGripper:
    """control_msgs/action/GripperCommand, as ros2_control's gripper controllers and franka_gripper serve it."""

    homes = False

    def __init__(self, node: Node, config: Config, action: Any):
        self._output, self._name = config.output, config.topics.gripper_action
        self._action = action
        self._client = ActionClient(node, action, self._name)

    def name(self, task: Task) -> str:
        return self._name

    def obstacle(self, task: Task) -> str | None:
        if task is Task.HOME:
            return f"{self._name} cannot home a hand"
        return None if self._client.server_is_ready() else f"no server of {self._name}"

    def goal(self, goal: Goal) -> tuple[ActionClient, Any]:
        message = self._action.Goal()
        message.command.position, message.command.max_effort = goal.position_m, self._output.gripper_effort
        return self._client, message

    def read(self, goal: Goal, answer: Any) -> tuple[End, str]:
        said, result = ENDS.get(answer.status, End.ABORTED), answer.result
        tolerance_m = self._output.gripper_tolerance
        end = judged(goal, said, result.reached_goal, result.stalled, result.position, tolerance_m)
        flags = f"reached_goal {str(result.reached_goal).lower()}, stalled {str(result.stalled).lower()}"
        text = f"{self._name}: position {result.position:.4f} m, effort {result.effort:.1f} N, {flags}"
        return end, text if end is not End.ABORTED else f"{text}; {self._remedy(goal.task)}"

    def _remedy(self, task: Task) -> str:
        if task is Task.OPEN:
            return (
                f"check that nothing blocks the fingers; a hand that opens less far than output.gripper_width "
                f"({self._output.gripper_width:g} m) needs a lower one, a Franka Hand needs homing"
            )
        return (
            "a Franka Hand needs homing, and through this action it takes an object thicker than its "
            "default_grasp_epsilon.outer for a failed grasp: install franka_msgs, so that its grasp action is used, or "
            "raise that parameter"
        )


def servers(node: Node, config: Config) -> list[Server]:
    """What the configuration allows and the installed packages know, the better first; none: use the topic."""
    kind = config.output.gripper
    if kind in ("none", "topic"):
        return []
    own = _module("franka_msgs.action", "Grasp") if config.topics.franka_gripper else None
    common = _module("control_msgs.action", "GripperCommand")
    if kind == "auto" and not common:
        return []
    found: list[Server] = [FrankaGripper(node, config, own)] if own else []
    if common:
        found.append(CommandedGripper(node, config, common.GripperCommand))
    if kind == "action" and not found:
        raise ConfigError(f"output.gripper: 'action' needs the package control_msgs, which is not there; {INSTALL}")
    return found


def _module(name: str, content: str) -> Any:
    """A module with actions; None where its package is not installed."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return module if hasattr(module, content) else None
