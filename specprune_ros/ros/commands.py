"""The one place from which motion leaves the node."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.node import Node

from specprune_ros.config import Config
from specprune_ros.control.hand import HandState
from specprune_ros.ros import owners
from specprune_ros.ros.gripper import GripperOutput
from specprune_ros.ros.interfaces import INTERFACES
from specprune_ros.ros.publishers import Publishers
from specprune_ros.ros.robot_mode import robot_mode
from specprune_ros.ros.servo import Servo
from specprune_ros.types import Command, EndEffector

ACKNOWLEDGE_S = 1.0


class CommandOutput:
    """Publishes commands; when they cease, rest, and then nothing. Once closed, nothing any more."""

    def __init__(self, node: Node, config: Config):
        self._interface = INTERFACES[config.output.interface](node, config)
        self._publishers = Publishers(node, self.topic)
        self._gid = self._publishers.own_gid()
        if self._gid:
            owners.note(self._gid)
        self._hand = None if self._interface.has_gripper else GripperOutput(node, config)
        twist = config.output.interface == "servo_twist"
        self._servo = Servo(node, config) if twist and config.output.switch_servo else None
        self._robot_mode = robot_mode(node, config)
        self._opening: float | None = None
        self._rests_left = 0
        self._closed = False

    @property
    def topic(self) -> str:
        return self._interface.publisher.topic_name

    def obstacles(self, measured: EndEffector | None, prepare: bool) -> list[str]:
        """What speaks against moving the arm now.

        measured: where it is; prepare: nothing else speaks against arming, so what has to happen before it begins."""
        found = []
        if rivals := self._publishers.besides_own():
            found.append(rivals)
        if self._robot_mode and (obstacle := self._robot_mode.obstacle()):
            found.append(obstacle)
        if self._servo and (obstacle := self._servo.obstacle(measured, prepare and not found)):
            found.append(obstacle)
        if self._hand and prepare and not found and (obstacle := self._hand.obstacle()):
            found.append(obstacle)
        return found

    @property
    def preparing(self) -> bool:
        """Whether an obstacle is about to go away by itself, so that arming may wait for it."""
        return any(part.preparing for part in (self._servo, self._hand) if part)

    @property
    def hand(self) -> HandState | None:
        """What the gripper does; None where it is no affair of its own."""
        return self._hand.state() if self._hand else None

    def send(self, command: Command, now_ns: int, hysteresis: float) -> None:
        """One control period's motion. hysteresis: of the gripper, see `GripperOutput.want`."""
        if self._closed:
            return
        self._interface.move(command, now_ns)
        self._opening = command.displacement.gripper
        self._rests_left = self._interface.rests
        if self._servo:
            self._servo.sent()
        if self._hand:
            self._hand.want(self._opening, hysteresis)

    def hold(self, now_ns: int) -> None:
        """A control period without motion: says so for a few periods after the last motion."""
        if self._rests_left and not self._closed:
            self._interface.rest(self._opening, now_ns)
            self._rests_left -= 1

    def finish(self, now_ns: int) -> None:
        """Publish the remaining messages of rest at once, because no more control periods will come."""
        while self._rests_left and not self._closed:
            self.hold(now_ns)

    def released(self) -> None:
        """The arm was disarmed."""
        for part in (self._servo, self._hand):
            if part:
                part.release()

    def close(self, now_ns: int) -> None:
        """Publish a stop as the last message. Nothing is published when the arm is already at rest, because somebody
        else may be moving it."""
        if self._rests_left and not self._closed:
            self.finish(now_ns)
            self._interface.publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
        if self._gid:
            owners.forget(self._gid)
        self._closed = True
