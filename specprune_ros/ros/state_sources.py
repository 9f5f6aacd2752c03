"""Where the end effector's measured pose comes from: a pose topic, TF, or joint states and the robot's description."""

from __future__ import annotations

import importlib
import os
from collections import deque
from typing import Protocol

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from specprune_ros.config import Config, ConfigError, Topics
from specprune_ros.observe.history import clock_jumped_back
from specprune_ros.observe.inputs import state_origin
from specprune_ros.observe.joints import JointBook
from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.ros import convert, qos
from specprune_ros.ros.streams import Arrivals, Stream
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector

PENDING_IMAGES = 32
"""Image stamps that still wait for their transform: more than a second of 30 Hz cameras."""


class StateSource(Protocol):
    """One way to learn the pose."""

    streams: tuple[Arrivals, ...]
    """What should keep coming, apart from joint states."""

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        """The newest pose, once; None when there is no news. BadInput when what there is cannot be used.

        image_ns: stamp of the newest image; timeout_s: how far apart measurements may be that belong together.
        """

    def close(self, node: Node) -> None: ...


class JointStates:
    """Joint states of arm and fingers, from one topic or two, whoever publishes which part of them."""

    def __init__(self, node: Node, topics: Topics):
        names = dict.fromkeys([topics.joint_states, topics.finger_states or topics.joint_states])
        self.streams = tuple(Stream(node, JointState, name, qos.PARTS_IN, _joint_names) for name in names)
        self.source = " and ".join(names)
        self.book = JointBook(self.source)
        self.fresh = False
        """Whether the last `read` found something."""

    def read(self) -> None:
        """Takes over what came."""
        messages = [(stream.topic, message) for stream in self.streams for message in stream.take()]
        self.fresh = bool(messages)
        for topic, message in messages:
            try:
                self.book.update(message.name, message.position, convert.stamp_ns(message.header, topic))
            except BadInput as error:
                self.book.refuse(message.name, error)

    def close(self, node: Node) -> None:
        for stream in self.streams:
            stream.close(node)


class PoseSource:
    """A driver that publishes the pose."""

    def __init__(self, node: Node, config: Config):
        self._frame, self._same_frames = config.robot.base_frame, config.robot.same_frames
        self._stream = Stream(node, PoseStamped, config.topics.ee_pose)
        self.streams = (self._stream,)

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        for message in self._stream.take():
            return convert.end_effector(message, self._frame, self._stream.topic, self._same_frames)
        return None

    def close(self, node: Node) -> None:
        self._stream.close(node)


class JointsSource:
    """Forward kinematics of the arm's joints. The first usable description counts: a robot does not change while it moves."""

    def __init__(self, node: Node, config: Config, joints: JointStates):
        self._robot = config.robot
        self._joints = joints
        self._description = Stream(node, String, config.topics.robot_description, qos.LATCHED)
        self._kinematics: ForwardKinematics | None = None
        self._stamp_ns: int | None = None
        self.streams = ()

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        if not self._joints.fresh:
            return None
        kinematics = self._forward_kinematics()
        stamp_ns, positions = self._joints.book.positions(kinematics.joints, timeout_s)
        if stamp_ns == self._stamp_ns:  # only other joints moved on
            return None
        self._stamp_ns = stamp_ns
        return kinematics.pose(kinematics.joints, positions, stamp_ns)

    def close(self, node: Node) -> None:
        self._description.close(node)

    def _forward_kinematics(self) -> ForwardKinematics:
        if self._kinematics is None:
            description = self._description.newest
            if description is None:
                raise BadInput(f"{self._description.topic}: no robot description yet; motion from joints needs it")
            self._kinematics = ForwardKinematics(description.data, self._robot.ee_frame, self._robot.base_frame)
        return self._kinematics


class TransformSource:
    """TF, looked up at the stamps of the images, so that pose and picture belong together.

    Transforms come a little later than the images they belong to: a stamp waits until tf2 knows what was before and
    after it, and the newest stamp with an answer counts.
    """

    def __init__(self, node: Node, config: Config):
        self._tf2 = tf2_ros()
        self._base, self._ee = config.robot.base_frame, config.robot.ee_frame
        self._period_ns = round(NANOSECONDS / config.control.rate)
        self._buffer = self._tf2.Buffer()
        self._listener = self._tf2.TransformListener(self._buffer, node)
        self._arrivals = Arrivals(state_origin(config))
        self.streams = (self._arrivals,)
        self._forget()

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        if image_ns is not None and image_ns != self._newest_ns:
            self._ask(image_ns)
        late = None
        for stamp_ns in reversed(self._pending):
            try:
                return self._answer(stamp_ns)
            except self._tf2.ExtrapolationException as error:
                late = late or error
            except self._tf2.TransformException as error:
                raise BadInput(
                    f"{error}; check robot.base_frame, robot.ee_frame and that robot_state_publisher runs"
                ) from None
        if late and (self._newest_ns - self._answered_ns) > timeout_s * NANOSECONDS:
            raise BadInput(f"no transform at the stamps of the images: {late}; check that the clocks agree")
        return None

    def close(self, node: Node) -> None:
        self._listener.unregister()

    def _ask(self, image_ns: int) -> None:
        if clock_jumped_back(self._newest_ns, image_ns, self._period_ns):
            self._buffer.clear()  # it would refuse what is older than what it has
            self._forget()
        self._newest_ns = image_ns
        self._pending.append(image_ns)
        if self._answered_ns is None:
            self._answered_ns = image_ns  # patience begins now

    def _answer(self, stamp_ns: int) -> EndEffector:
        found = self._buffer.lookup_transform(self._base, self._ee, Time(nanoseconds=stamp_ns))
        pose = convert.transformed(found, self._arrivals.topic)
        while self._pending and self._pending[0] <= stamp_ns:
            self._pending.popleft()
        self._answered_ns = stamp_ns
        self._arrivals.note()
        return pose

    def _forget(self) -> None:
        self._pending: deque[int] = deque(maxlen=PENDING_IMAGES)
        self._newest_ns: int | None = None
        self._answered_ns: int | None = None


def tf2_ros():
    """tf2's Python package; it comes with ROS and not from PyPI. ConfigError where it is missing."""
    try:
        return importlib.import_module("tf2_ros")
    except ImportError as error:
        distribution = os.environ.get("ROS_DISTRO", "jazzy")
        raise ConfigError(
            f"robot.state_source: tf needs the package tf2_ros ({error}); install it (apt install "
            f"ros-{distribution}-tf2-ros-py) or use ee_pose or joints"
        ) from None


def check_available(config: Config) -> None:
    """ConfigError when the configured source cannot work here."""
    if config.robot.state_source == "tf":
        tf2_ros()


def state_source(node: Node, config: Config, joints: JointStates | None) -> StateSource:
    """The source that `robot.state_source` names; joints: needed for "joints"."""
    match config.robot.state_source:
        case "tf":
            return TransformSource(node, config)
        case "joints":
            return JointsSource(node, config, joints)
        case _:
            return PoseSource(node, config)


def _joint_names(message: JointState) -> tuple[str, ...]:
    return tuple(message.name)
