"""The one place from which motion leaves the node. Arming, e-stop and other command interfaces belong here."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.node import Node

from specprune_ros.config import Config
from specprune_ros.msg import Action
from specprune_ros.ros import convert, qos
from specprune_ros.types import Command

ACKNOWLEDGE_S = 1.0


class CommandOutput:
    """Publishes commands until it is stopped; the stop is the last message."""

    def __init__(self, node: Node, config: Config):
        self._publisher = node.create_publisher(Action, config.topics.action, qos.EVENTS)
        self._scale = config.action
        self._period_s = 1.0 / config.control.rate
        self._frame = config.robot.base_frame
        self._gripper: float | None = None
        self._stopped = False

    def send(self, command: Command, now_ns: int) -> None:
        """One control period's motion; nothing any more once stopped."""
        if self._stopped:
            return
        message = convert.command(command, self._scale, self._period_s, convert.header(now_ns, self._frame))
        self._gripper = message.gripper
        self._publisher.publish(message)

    def stop(self, now_ns: int) -> None:
        """No motion, gripper as commanded last. Where nothing was ever commanded, nothing has to be stopped."""
        if self._stopped or self._gripper is None:
            self._stopped = True
            return
        self._stopped = True
        self._publisher.publish(convert.stop(self._gripper, self._period_s, convert.header(now_ns, self._frame)))
        self._publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
