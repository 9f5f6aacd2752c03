"""MoveIt Servo beside its twist topic: switched to twist commands before it is used, and obeyed when it halts."""

from __future__ import annotations

import importlib
import time

from rclpy.node import Node

from specprune_ros.config import Config, ConfigError
from specprune_ros.ros import qos

TWIST = 1
"""moveit_msgs/srv/ServoCommandType: TWIST."""

HALTED = {2: "halted at a singularity", 5: "halted before a collision", -1: "found the command invalid"}
"""moveit_msgs/msg/ServoStatus codes at which nothing may be sent; others slow the arm down by themselves (ros.md)."""

JUDGED_AFTER_S = 0.3
"""Servo repeats its verdict on the last command it got, for ever: what it says about ours is known a few of its periods after the first."""


class Servo:
    """Keeps Servo's newest status, and asks for twist commands."""

    def __init__(self, node: Node, config: Config):
        self._name = config.topics.servo_node
        service, status = _interfaces()
        self._request = service.Request
        self._client = node.create_client(service, f"{self._name}/switch_command_type")
        node.create_subscription(status, f"{self._name}/status", self._store, qos.EVENTS)
        self._code: int | None = None
        self._answer = None
        self._since_s: float | None = None

    def obstacle(self) -> str | None:
        """What speaks against sending twists now."""
        if self._code in HALTED:
            return f"{self._name} {HALTED[self._code]} (status {self._code}); move the arm away from there before arming again"
        if not self._client.service_is_ready():
            self._answer = None
            return f"{self._name}/switch_command_type is not there; is MoveIt Servo running?"
        if self._answer is None:
            self._answer = self._client.call_async(self._request(command_type=TWIST))
            return f"{self._name} is being switched to twist commands; arm again"
        if not self._answer.done():
            return f"{self._name}/switch_command_type has not answered yet; arm again"
        if not self._answer.result().success:
            self._answer = None
            return f"{self._name} refused to switch to twist commands"
        return None

    def sent(self) -> None:
        """A twist was sent."""
        self._since_s = self._since_s or time.monotonic()

    def release(self) -> None:
        """Disarmed: another command type may be chosen and the arm moved by others until the next arming."""
        self._answer = self._code = self._since_s = None

    def _store(self, message) -> None:
        if self._since_s is not None and time.monotonic() - self._since_s > JUDGED_AFTER_S:
            self._code = int(message.code)


def _interfaces():
    try:
        service = importlib.import_module("moveit_msgs.srv").ServoCommandType
        return service, importlib.import_module("moveit_msgs.msg").ServoStatus
    except (ImportError, AttributeError):
        raise ConfigError(
            "output.switch_servo: needs moveit_msgs with ServoCommandType (ROS 2 Jazzy or newer), which is not there; install it "
            "(apt install ros-$ROS_DISTRO-moveit-msgs), or set it to false and switch Servo to twist commands yourself"
        ) from None
