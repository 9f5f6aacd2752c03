"""The gripper of interfaces that have none of their own: commanded only on change, as a gripper action moves until it is done."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import Float64

from specprune_ros.config import Config, ConfigError
from specprune_ros.ros import qos

INSTALL = "install it (apt install ros-$ROS_DISTRO-control-msgs) or set output.gripper to topic or none"


class Gripper:
    """Opens and closes. The decision has a hysteresis around the middle, so that a wavering policy does not make it chatter."""

    def __init__(self, node: Node, config: Config):
        self._open: bool | None = None
        self._width = config.output.gripper_width
        self._send = _sender(node, config, self.release)

    def want(self, opening: float, hysteresis: float) -> None:
        """opening: 0 closed .. 1 open; hysteresis: how far beyond the middle it must be to change the decision."""
        margin = 0.0 if self._open is None else hysteresis
        if abs(opening - 0.5) <= margin:
            return
        wanted = opening > 0.5
        if wanted != self._open and self._send(self._width if wanted else 0.0):
            self._open = wanted

    def release(self) -> None:
        """Disarmed: others may move the gripper, so the next wish is a command again."""
        self._open = None


def _sender(node: Node, config: Config, rejected: Callable[[], None]):
    """position [m] -> whether it was sent. rejected: called when that turns out to be in vain."""
    kind = config.output.gripper
    if kind == "none":
        return lambda position: True
    action = _gripper_command()
    if kind == "topic" or (kind == "auto" and action is None):
        publisher = node.create_publisher(Float64, config.topics.gripper, qos.LATCHED)

        def publish(position: float) -> bool:
            publisher.publish(Float64(data=position))
            return True

        return publish
    if action is None:
        raise ConfigError(f"output.gripper: 'action' needs the package control_msgs, which is not there; {INSTALL}")
    return _action_sender(node, action, config, rejected)


def _action_sender(node: Node, action, config: Config, rejected: Callable[[], None]):
    from rclpy.action import ActionClient

    client = ActionClient(node, action, config.topics.gripper_action)
    effort = config.output.gripper_effort

    def send(position: float) -> bool:
        if not client.server_is_ready():
            node.get_logger().warning(f"{config.topics.gripper_action}: no server", throttle_duration_sec=5.0)
            return False
        goal = action.Goal()
        goal.command.position, goal.command.max_effort = position, effort
        client.send_goal_async(goal).add_done_callback(report)
        return True

    def report(answer) -> None:
        if not answer.result().accepted:
            node.get_logger().error(f"{config.topics.gripper_action}: the goal was rejected", throttle_duration_sec=5.0)
            rejected()  # the next wish is a command again

    return send


def _gripper_command():
    """control_msgs/action/GripperCommand; None where control_msgs is not installed (it is not on PyPI)."""
    try:
        return importlib.import_module("control_msgs.action").GripperCommand
    except (ImportError, AttributeError):
        return None
