"""Subscriptions that only keep the newest message, and their way into the control loop, once per control period."""

from __future__ import annotations

import time

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.ros import convert, qos
from specprune_ros.types import BadInput, EndEffector


class Stream:
    """The newest message of one topic, and how often they come."""

    def __init__(self, node: Node, kind: type, topic: str, profile=qos.SENSOR_IN):
        self.topic = topic
        self.newest = None
        self._fresh = False
        self._count = 0
        self._received_s = self._asked_s = time.monotonic()
        self._subscription = node.create_subscription(kind, topic, self._store, profile)

    def close(self, node: Node) -> None:
        node.destroy_subscription(self._subscription)

    def take(self):
        """The newest message, once; None when nothing came since."""
        fresh, self._fresh = self._fresh, False
        return self.newest if fresh else None

    def rate_hz(self) -> float:
        """Messages per second since the last call."""
        now_s = time.monotonic()
        rate = self._count / max(now_s - self._asked_s, 1e-3)
        self._count, self._asked_s = 0, now_s
        return rate

    def age_s(self) -> float | None:
        """Wall time since the last message; None before the first."""
        return None if self.newest is None else time.monotonic() - self._received_s

    def _store(self, message) -> None:
        self.newest, self._fresh = message, True
        self._count += 1
        self._received_s = time.monotonic()


class InputStreams:
    """Cameras and robot state of the configuration, and their way into the control loop."""

    def __init__(self, node: Node, config: Config):
        topics, robot = config.topics, config.robot
        self._robot = robot
        self._images = [Stream(node, Image, topic) for topic in topics.images]
        self._joints = Stream(node, JointState, topics.joint_states)
        self._pose = self._description = self._kinematics = None
        if robot.state_source == "ee_pose":
            self._pose = Stream(node, PoseStamped, topics.ee_pose)
        else:
            self._description = Stream(node, String, topics.robot_description, qos.LATCHED)

    def streams(self) -> list[Stream]:
        """Everything that should keep coming."""
        return [*self._images, *([self._pose] if self._pose else []), self._joints]

    def close(self, node: Node) -> None:
        """Listen no longer."""
        for stream in (*self._images, self._joints, self._pose, self._description):
            if stream:
                stream.close(node)

    def feed(self, loop: ControlLoop, with_proprio: bool) -> None:
        """Converts what came since the last call and hands it to the loop; what is unusable becomes its reason to hold.

        with_proprio: the policy has a proprio token, so the fingers are needed as well.
        """
        for view, stream in enumerate(self._images):
            _feed_image(loop, view, stream)
        try:
            measured = self._measured()
            proprio = self._proprio(measured, loop.config) if measured and with_proprio else None
        except BadInput as error:
            loop.refuse_state(error)
            return
        if measured:
            loop.set_state(measured, proprio)

    def _measured(self) -> EndEffector | None:
        """The pose in the newest message; None when nothing new came."""
        if self._pose:
            message = self._pose.take()
            return message and convert.end_effector(message, self._robot.base_frame, self._pose.topic)
        message, topic = self._joints.take(), self._joints.topic
        if message is None:
            return None
        stamp_ns = convert.stamp_ns(message.header, topic)
        return self._forward_kinematics().pose(message.name, message.position, stamp_ns)

    def _forward_kinematics(self) -> ForwardKinematics:
        """Built from the first robot description that is usable; a robot does not change while it moves."""
        if self._kinematics is None:
            description = self._description.newest
            if description is None:
                raise BadInput(f"{self._description.topic}: no robot description yet; motion from joints needs it")
            self._kinematics = ForwardKinematics(description.data, self._robot.ee_frame, self._robot.base_frame)
        return self._kinematics

    def _proprio(self, measured: EndEffector, config: Config) -> np.ndarray:
        """Pose and fingers, which may come from two publishers: both must be alive."""
        message, topic = self._joints.newest, self._joints.topic
        if message is None:
            raise BadInput(
                f"{topic}: no message yet; the policy needs the fingers {', '.join(self._robot.finger_joints)}"
            )
        behind_s = (measured.stamp_ns - convert.stamp_ns(message.header, topic)) / convert.NANOSECONDS
        if behind_s > config.control.observation_timeout:
            raise BadInput(f"{topic}: the newest message is {behind_s:.2f} s older than the end-effector pose")
        return convert.proprio(measured, convert.joint_positions(message, self._robot.finger_joints, topic))


def _feed_image(loop: ControlLoop, view: int, stream: Stream) -> None:
    message = stream.take()
    if message is None:
        return
    try:
        stamp_ns, pixels = convert.stamp_ns(message.header, stream.topic), convert.rgb(message, stream.topic)
    except BadInput as error:
        loop.refuse_image(view, error)
    else:
        loop.set_image(view, stamp_ns, pixels)
