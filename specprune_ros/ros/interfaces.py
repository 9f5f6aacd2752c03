"""The ways in which a motion leaves the node: our Action, MoveIt Servo's twist, an absolute target pose."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from rclpy.publisher import Publisher

from specprune_ros.config import Config
from specprune_ros.msg import Action
from specprune_ros.ros import convert, qos
from specprune_ros.types import Command, EndEffector


class Interface(Protocol):
    """Publishes motions, and rest.

    rests: messages of rest that a stop takes; has_gripper: the motion's message carries the gripper as well.
    """

    publisher: Publisher
    rests: int
    has_gripper: bool

    def move(self, command: Command, now_ns: int) -> None:
        """One control period's motion."""
        ...

    def rest(self, gripper: float, now_ns: int) -> None:
        """No motion from now on."""
        ...


class ActionInterface:
    """specprune_ros/Action: the displacement of one period, gripper included."""

    has_gripper = True

    def __init__(self, node: Node, config: Config):
        self.publisher = node.create_publisher(Action, config.topics.action, qos.EVENTS)
        self.rests = config.safety.stop_cycles
        self._period_s, self._frame = 1.0 / config.control.rate, config.robot.base_frame

    def move(self, command: Command, now_ns: int) -> None:
        self.publisher.publish(convert.command(command, self._period_s, convert.header(now_ns, self._frame)))

    def rest(self, gripper: float, now_ns: int) -> None:
        self.publisher.publish(convert.stop(gripper, self._period_s, convert.header(now_ns, self._frame)))


class TwistInterface:
    """geometry_msgs/TwistStamped for MoveIt Servo: velocities in the base frame, a fresh stamp each time (its timeout
    is 0.1 s)."""

    has_gripper = False

    def __init__(self, node: Node, config: Config):
        self.publisher = node.create_publisher(TwistStamped, config.topics.servo_twist, qos.EVENTS)
        self.rests = config.safety.stop_cycles
        self._period_s, self._frame = 1.0 / config.control.rate, config.robot.base_frame

    def move(self, command: Command, now_ns: int) -> None:
        motion = command.displacement
        self._publish(motion.translation_m / self._period_s, motion.rotation_rad / self._period_s, now_ns)

    def rest(self, gripper: float, now_ns: int) -> None:
        self._publish(np.zeros(3), np.zeros(3), now_ns)

    def _publish(self, linear: np.ndarray, angular: np.ndarray, now_ns: int) -> None:
        self.publisher.publish(convert.twist(linear, angular, convert.header(now_ns, self._frame)))


class PoseInterface:
    """geometry_msgs/PoseStamped for a Cartesian impedance controller, which holds the last target it got.

    A stop is the last target once more. It is not the measured pose: under load the arm hangs a little below its
    target, and every stop would let it down by as much again."""

    has_gripper = False
    rests = 1

    def __init__(self, node: Node, config: Config):
        self.publisher = node.create_publisher(PoseStamped, config.topics.target_pose, qos.EVENTS)
        self._frame = config.robot.base_frame
        self._target: EndEffector | None = None

    def move(self, command: Command, now_ns: int) -> None:
        self._target = command.target
        self._publish(now_ns)

    def rest(self, gripper: float, now_ns: int) -> None:
        self._publish(now_ns)

    def _publish(self, now_ns: int) -> None:
        stamped = EndEffector(now_ns, self._target.position_m, self._target.quaternion_xyzw)
        self.publisher.publish(convert.pose(stamped, self._frame))


INTERFACES = {"action": ActionInterface, "servo_twist": TwistInterface, "target_pose": PoseInterface}
"""By the parameter `output.interface`."""
