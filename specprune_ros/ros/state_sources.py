"""Where the end effector's measured pose comes from: a pose topic, TF, or joint states and the robot's description."""

from __future__ import annotations

import importlib
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from specprune_ros.config import Config, ConfigError
from specprune_ros.observe.delivery import Channel
from specprune_ros.observe.gaps import clock_jumped_back
from specprune_ros.observe.inputs import state_origin
from specprune_ros.observe.joints import JointBook, JointClaims
from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.ros import convert, qos
from specprune_ros.ros.publishers import FORGOTTEN, Publishers, named
from specprune_ros.ros.streams import Arrivals, Stream, Taken
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector

PENDING_IMAGES = 32
"""Image stamps that still wait for their transform: more than a second of 30 Hz cameras."""


class StateSource(Protocol):
    """One way to learn the pose."""

    streams: tuple[Arrivals, ...]
    """What should keep coming, apart from joint states."""
    follows: bool
    """Whether the newest pose is the next one that was published: none in between was left out here."""

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        """The newest pose, once; None when there is no news. BadInput when what there is cannot be used.

        image_ns: stamp of the newest image; timeout_s: how far apart measurements may be that belong together.
        """

    def rivals(self) -> list[str]:
        """Says so when several publish what must have one source."""

    def channel(self) -> Channel | None:
        """What the middleware knows of the pose's way here; None where nothing can be told."""

    def close(self) -> None: ...


class JointStates:
    """Joint states of arm and fingers, from one topic or two, whoever publishes which part of them."""

    def __init__(self, node: Node, config: Config, wanted: Sequence[str] | None):
        """wanted: the joints that matter, None: all."""
        topics = config.topics
        names = list(dict.fromkeys([topics.joint_states, topics.finger_states or topics.joint_states]))
        self.streams = tuple(Stream(node, JointState, name, qos.PARTS_IN, raw=True) for name in names)
        self.publishers = tuple(Publishers(node, name) for name in names)
        self.source = " and ".join(stream.topic for stream in self.streams)
        self.book = JointBook(self.source)
        self.fresh = False
        """Whether the last `read` found something."""
        self._claims = tuple(JointClaims() for _ in names)
        self._elsewhere = config.robot.finger_joints if len(names) > 1 else ()
        """Joints that the first topic may name as well, but the second one decides."""
        self.want(wanted)

    def want(self, joints: Sequence[str] | None) -> None:
        """Only these joints matter from now on; None: all."""
        self._wanted = None if joints is None else frozenset(joints)

    def read(self) -> None:
        """Takes over what came: of every joint the newest position."""
        self.fresh = False
        now_s = time.monotonic()
        for index, stream in enumerate(self.streams):
            taken = stream.take()
            self.fresh |= bool(taken)
            several = len(self.publishers[index].offers()) > 1
            for one, message in reversed(list(self._needed(taken, everything=several))):
                if several:
                    self._claims[index].note(message.name, one.sequence, now_s)
                self._take_over(stream.topic, message, () if index else self._elsewhere)

    def rivals(self) -> list[str]:
        """Topics on which two publishers name the same joint."""
        now_s, found = time.monotonic(), []
        for publishers, claims in zip(self.publishers, self._claims, strict=True):
            nodes = publishers.nodes()
            if disputed := claims.disputed(len(nodes), now_s):
                found.append(
                    f"{len(nodes)} publishers on {publishers.topic}, {named(nodes)}: {disputed}; a joint must have one "
                    f"source: stop the others ({FORGOTTEN})"
                )
        return found

    def close(self) -> None:
        for stream in self.streams:
            stream.close()

    def _needed(self, taken: list[Taken], everything: bool) -> Iterator[tuple[Taken, JointState]]:
        """The newest first, until all joints that matter were named: the rest is never made a message."""
        missing = None if everything or self._wanted is None else set(self._wanted)
        for one in reversed(taken):
            message = deserialize_message(one.message, JointState)
            yield one, message
            if missing is not None:
                missing -= set(message.name)
                if not missing:
                    return

    def _take_over(self, topic: str, message: JointState, elsewhere: Sequence[str]) -> None:
        names, positions = list(message.name), list(message.position)
        try:
            stamp_ns = convert.stamp_ns(message.header, topic)
        except BadInput as error:
            self.book.refuse(names, error)
            return
        if elsewhere and len(positions) == len(names):
            kept = [at for at, name in enumerate(names) if name not in elsewhere]
            names, positions = [names[at] for at in kept], [positions[at] for at in kept]
        self.book.update(names, positions, stamp_ns)


class PoseSource:
    """A driver that publishes the pose."""

    def __init__(self, node: Node, config: Config):
        self._frame, self._same_frames = config.robot.base_frame, config.robot.same_frames
        self._stream = Stream(node, PoseStamped, config.topics.ee_pose)
        self._publishers = Publishers(node, config.topics.ee_pose)
        self.streams = (self._stream,)
        self.follows = False

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        taken = self._stream.take()
        if not taken:
            return None
        self.follows = taken[-1].follows
        return convert.end_effector(taken[-1].message, self._frame, self._stream.topic, self._same_frames)

    def rivals(self) -> list[str]:
        found = self._publishers.rivals()
        return [found] if found else []

    def channel(self) -> Channel:
        return Channel(self._stream.topic, self._publishers.nodes())

    def close(self) -> None:
        self._stream.close()


class JointsSource:
    """Forward kinematics of the arm's joints. The first usable description counts; another one is refused, because a
    robot does not change while it moves."""

    def __init__(self, node: Node, config: Config, joints: JointStates, others: Sequence[str]):
        """others: joints that are needed besides those of the arm."""
        self._robot = config.robot
        self._joints, self._others = joints, others
        self._description = Stream(node, String, config.topics.robot_description, qos.DESCRIPTIONS_IN)
        self._texts: list[str] = []
        """Different descriptions that came, the first one first."""
        self._kinematics: ForwardKinematics | None = None
        self._stamp_ns: int | None = None
        self.streams = ()
        self.follows = True

    def take(self, image_ns: int | None, timeout_s: float) -> EndEffector | None:
        self._texts = list(dict.fromkeys([*self._texts, *(one.message.data for one in self._description.take())]))
        if not self._joints.fresh:
            return None
        kinematics = self._forward_kinematics()
        stamp_ns, positions = self._joints.book.positions(kinematics.joints, timeout_s)
        if stamp_ns == self._stamp_ns:  # only other joints moved on
            return None
        self._stamp_ns = stamp_ns
        return kinematics.pose(kinematics.joints, positions, stamp_ns)

    def rivals(self) -> list[str]:
        return []  # `JointStates.rivals` tells

    def channel(self) -> Channel:
        nodes = tuple(node for publishers in self._joints.publishers for node in publishers.nodes())
        return Channel(self._joints.source, nodes)

    def close(self) -> None:
        self._description.close()

    def _forward_kinematics(self) -> ForwardKinematics:
        topic = self._description.topic
        if len(self._texts) > 1 and self._kinematics:
            raise BadInput(
                f"{topic}: {len(self._texts)} different robot descriptions came; let one node publish one, then "
                "deactivate and activate this node"
            )
        if self._kinematics is None:
            if not self._texts:
                raise BadInput(f"{topic}: no robot description yet; motion from joints needs it")
            text = self._texts[-1]
            self._texts = [text]
            self._kinematics = ForwardKinematics(text, self._robot.ee_frame, self._robot.base_frame)
            self._joints.want([*self._kinematics.joints, *self._others])
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
        self.follows = True
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

    def rivals(self) -> list[str]:
        return []  # every publisher of /tf may know a part of the tree

    def channel(self) -> None:
        return None

    def close(self) -> None:
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


def state_source(node: Node, config: Config, joints: JointStates | None, others: Sequence[str]) -> StateSource:
    """The source that `robot.state_source` names; joints: needed for "joints"; others: joints that are needed
    besides."""
    match config.robot.state_source:
        case "tf":
            return TransformSource(node, config)
        case "joints":
            return JointsSource(node, config, joints, others)
        case _:
            return PoseSource(node, config)
