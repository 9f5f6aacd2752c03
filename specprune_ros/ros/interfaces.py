"""The ways in which a motion leaves the node: our Action, MoveIt Servo's twist, an absolute target pose."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from rclpy.publisher import Publisher

from specprune_ros.config import Config
from specprune_ros.control.target import TargetPose
from specprune_ros.msg import Action
from specprune_ros.ros import convert, qos
from specprune_ros.types import Command, EndEffector


class Interface(Protocol):
    """Publishes motions, and rest. rests: messages of rest that a stop takes; the gripper is its own affair when `has_gripper`."""

    publisher: Publisher
    rests: int
    has_gripper: bool

    def move(self, command: Command, measured: EndEffector, now_ns: int, config: Config) -> None: ...

    def rest(self, measured: EndEffector | None, gripper: float, now_ns: int) -> bool:
        """Whether it could be said."""
        ...


class ActionInterface:
    """specprune_ros/Action: the displacement of one period, gripper included."""

    has_gripper = True

    def __init__(self, node: Node, config: Config):
        self.publisher = node.create_publisher(Action, config.topics.action, qos.EVENTS)
        self.rests = config.safety.stop_cycles
        self._period_s, self._frame = 1.0 / config.control.rate, config.robot.base_frame

    def move(self, command: Command, measured: EndEffector, now_ns: int, config: Config) -> None:
        self.publisher.publish(convert.command(command, self._period_s, convert.header(now_ns, self._frame)))

    def rest(self, measured: EndEffector | None, gripper: float, now_ns: int) -> bool:
        self.publisher.publish(convert.stop(gripper, self._period_s, convert.header(now_ns, self._frame)))
        return True


class TwistInterface:
    """geometry_msgs/TwistStamped for MoveIt Servo: velocities in the base frame, a fresh stamp each time (its timeout is 0.1 s)."""

    has_gripper = False

    def __init__(self, node: Node, config: Config):
        self.publisher = node.create_publisher(TwistStamped, config.topics.servo_twist, qos.EVENTS)
        self.rests = config.safety.stop_cycles
        self._period_s, self._frame = 1.0 / config.control.rate, config.robot.base_frame

    def move(self, command: Command, measured: EndEffector, now_ns: int, config: Config) -> None:
        motion = command.displacement
        self._publish(motion.translation_m / self._period_s, motion.rotation_rad / self._period_s, now_ns)

    def rest(self, measured: EndEffector | None, gripper: float, now_ns: int) -> bool:
        self._publish(np.zeros(3), np.zeros(3), now_ns)
        return True

    def _publish(self, linear: np.ndarray, angular: np.ndarray, now_ns: int) -> None:
        self.publisher.publish(convert.twist(linear, angular, convert.header(now_ns, self._frame)))


class PoseInterface:
    """geometry_msgs/PoseStamped for a Cartesian impedance controller, which holds the last one it got: a stop is the measured pose, once."""

    has_gripper = False
    rests = 1

    def __init__(self, node: Node, config: Config):
        self.publisher = node.create_publisher(PoseStamped, config.topics.target_pose, qos.EVENTS)
        self._frame = config.robot.base_frame
        self._target = TargetPose()

    def move(self, command: Command, measured: EndEffector, now_ns: int, config: Config) -> None:
        self._publish(self._target.moved(command.displacement, measured, config.output, config.limits), now_ns)

    def rest(self, measured: EndEffector | None, gripper: float, now_ns: int) -> bool:
        self._target.clear()
        if measured is None:  # the controller stays at the last target until it is known again where the arm is
            return False
        self._publish(measured, now_ns)
        return True

    def _publish(self, pose: EndEffector, now_ns: int) -> None:
        stamped = EndEffector(now_ns, pose.position_m, pose.quaternion_xyzw)
        self.publisher.publish(convert.pose(stamped, self._frame))


INTERFACES = {"action": ActionInterface, "servo_twist": TwistInterface, "target_pose": PoseInterface}
"""By the parameter `output.interface`."""
