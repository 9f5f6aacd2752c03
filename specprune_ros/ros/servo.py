"""MoveIt Servo beside its twist topic: switched to twist commands before it is used, and obeyed when it halts."""

from __future__ import annotations

import importlib
import time

from rclpy.node import Node

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.halts import Halts
from specprune_ros.ros import qos
from specprune_ros.types import EndEffector

TWIST = 1
"""moveit_msgs/srv/ServoCommandType: TWIST."""

ANSWER_S = 2.0
"""How long the switch to twist commands may take."""


class Servo:
    """Asks for twist commands when the arm is to be armed, and keeps Servo's newest verdict."""

    def __init__(self, node: Node, config: Config):
        self._name = config.topics.servo_node
        service, status = _interfaces()
        self._request = service.Request
        self._client = node.create_client(service, f"{self._name}/switch_command_type")
        node.create_subscription(status, f"{self._name}/status", self._store, qos.EVENTS)
        self._halts = Halts()
        self._answer = None
        self._asked_s = 0.0

    def obstacle(self, measured: EndEffector | None, prepare: bool) -> str | None:
        """What speaks against sending twists now.

        measured: where the arm is; prepare: ask for twist commands, unless that was done since the last disarming."""
        now_s = time.monotonic()
        if not self._client.service_is_ready():
            self._answer = None
            self._halts.forget()
            return f"{self._name}/switch_command_type is not there; is MoveIt Servo running?"
        if halted := self._halts.obstacle(measured, now_s):
            return f"{self._name} {halted}"
        if self._answer is None:
            if not prepare:
                return None
            self._answer, self._asked_s = self._client.call_async(self._request(command_type=TWIST)), now_s
        return self._switching(now_s)

    @property
    def preparing(self) -> bool:
        """Whether Servo is being switched, so that arming may wait for its answer."""
        return self._answer is not None and not self._answer.done()

    def sent(self) -> None:
        """A twist was sent."""
        self._halts.sent(time.monotonic())

    def release(self) -> None:
        """Disarmed: another command type may be chosen and the arm moved by others until the next arming."""
        self._answer = None
        self._halts.release()

    def _switching(self, now_s: float) -> str | None:
        if self.preparing:
            taken_s = now_s - self._asked_s
            if taken_s > ANSWER_S:
                self._client.remove_pending_request(self._answer)
                self._answer = None
                return (
                    f"{self._name}/switch_command_type has not answered for {taken_s:.1f} s (bound {ANSWER_S:g} s); "
                    "restart MoveIt Servo"
                )
            return f"{self._name} is being switched to twist commands"
        if not self._answer.result().success:
            self._answer = None
            return f"{self._name} refused to switch to twist commands; its log says why"
        return None

    def _store(self, message) -> None:
        self._halts.heard(int(message.code), time.monotonic())


def _interfaces():
    try:
        service = importlib.import_module("moveit_msgs.srv").ServoCommandType
        return service, importlib.import_module("moveit_msgs.msg").ServoStatus
    except (ImportError, AttributeError):
        raise ConfigError(
            "output.switch_servo: needs moveit_msgs with ServoCommandType (ROS 2 Jazzy or newer), which is not there; "
            "install it (apt install ros-$ROS_DISTRO-moveit-msgs), or set it to false and switch Servo to twist "
            "commands yourself"
        ) from None
