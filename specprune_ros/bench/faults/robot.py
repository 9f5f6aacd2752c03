"""A stand-in robot on a ROS graph: two cameras and an arm at 20 Hz that does what it is told, until something is wrong
with it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from specprune_ros import rotation
from specprune_ros.config import Robot as Names
from specprune_ros.config import Topics
from specprune_ros.ros import convert, qos
from specprune_ros.types import EndEffector

PERIOD_S = 0.05
START_M, START_XYZW = (0.4, 0.0, 0.3), (1.0, 0.0, 0.0, 0.0)
ARM = tuple(f"fr3_joint{i}" for i in range(1, 8))
POSTURE_RAD = (0.0, 0.0, 0.0, -2.2, 0.0, 2.2, 0.8)
SIDE = 16
"""Pixels of a camera image along each side: what they show does not matter here."""
ANSWER = 0.7
"""Share of the way to its target that the arm goes in one period."""
HASTE, REMEMBERED = 1.2, 40
"""How much farther than the longest of so many last commands it moves in one period."""


class StandInRobot:
    """What is wrong with it can be changed at any time; `heal` mends it all but leaves the arm where it is."""

    def __init__(
        self,
        node: Node,
        now_ns: Callable[[], int] | None = None,
        without: Collection[int | str] = (),
    ):
        """now_ns: the time to stamp with, instead of the node's; without: streams that somebody else publishes, of the
        views (index) and "pose"."""
        topics = Topics()
        self._node, self._frame = node, Names().base_frame
        self._now_ns = now_ns or (lambda: node.get_clock().now().nanoseconds)
        self._cameras = [
            None if index in without else node.create_publisher(Image, topic, qos.SENSOR_OUT)
            for index, topic in enumerate(topics.images)
        ]
        self._pose = None if "pose" in without else node.create_publisher(PoseStamped, topics.ee_pose, qos.POSE_OUT)
        self._joints = node.create_publisher(JointState, topics.joint_states, qos.SENSOR_OUT)
        self._noise = np.random.default_rng(0)
        self.speed_mps = 0.0
        """Of the last period."""
        self.heal()
        self.place(START_M)
        self.timer = node.create_timer(PERIOD_S, self.publish)

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.silent: set[int | str] = set()
        """Which of the views (index), "pose" and "joints" say nothing."""
        self.spoil: dict[int | str, Callable] = {}
        """What is wrong with the messages of one of these: called with each before it is published."""
        self.finger = 0.04
        self.frozen = False
        """The arm stands still whatever it is told."""
        self.push = np.zeros(3)
        """A velocity that nobody commanded [m/s]."""
        self.sag = np.zeros(3)
        """A steady error between target and measured position [m]."""

    def place(self, position, turn=START_XYZW) -> None:
        """Put the arm somewhere, at once."""
        self.placed_s = time.monotonic()
        self._target = np.array(position, float), np.array(turn, float)
        self._steps_m = deque([0.0], maxlen=REMEMBERED)
        self._steps_rad = deque([0.0], maxlen=REMEMBERED)
        self.position, self.turn = np.array(position, float) + self.sag, np.array(turn, float)

    @property
    def x(self) -> float:
        return float(self.position[0])

    @x.setter
    def x(self, value: float) -> None:
        self.place((value, *self.position[1:]), self.turn)

    def obey(self, kind: type, topic: str) -> None:
        """Follow the commands on a topic: Action, TwistStamped or PoseStamped."""
        self._node.create_subscription(kind, topic, self._on_command, qos.EVENTS)

    def publish(self) -> None:
        """One period: the arm moves, and everything is said."""
        self._move()
        now_ns = self._now_ns()
        stamp = convert.header(now_ns, "").stamp
        for index, publisher in enumerate(self._cameras):
            image = Image(height=SIDE, width=SIDE, step=3 * SIDE, encoding="rgb8")
            image.data.frombytes(self._picture().tobytes())
            self._send(index, publisher, image, stamp)
        pose = convert.pose(EndEffector(now_ns, self.position, self.turn), self._frame)
        self._send("pose", self._pose, pose, stamp)
        joints = JointState(name=[*ARM, *Names().finger_joints], position=[*POSTURE_RAD, self.finger, self.finger])
        self._send("joints", self._joints, joints, stamp)

    def _picture(self) -> np.ndarray:
        """A ramp of grey, with a camera's noise, so that no picture is like the one before."""
        ramp = np.linspace(60, 190, SIDE, dtype=np.float32)[:, None, None] + np.zeros((SIDE, SIDE, 3), np.float32)
        return (ramp + self._noise.normal(0.0, 2.0, ramp.shape)).astype(np.uint8)

    def _on_command(self, message) -> None:
        position, turn = self._target
        if isinstance(message, PoseStamped):
            end = convert.end_effector(message, self._frame, "target")
            self._target = end.position_m, end.quaternion_xyzw
            self._remember(end.position_m - position, rotation.difference(end.quaternion_xyzw, turn))
            return
        if isinstance(message, TwistStamped):
            vectors, scale = (message.twist.linear, message.twist.angular), PERIOD_S
        else:
            vectors, scale = (message.translation, message.rotation), 1.0
        moved, turned = (scale * np.array([vector.x, vector.y, vector.z]) for vector in vectors)
        self._target = position + moved, rotation.multiply(rotation.from_rotvec(turned), turn)
        self._remember(moved, turned)

    def _remember(self, moved: np.ndarray, turned: np.ndarray) -> None:
        self._steps_m.append(float(np.linalg.norm(moved)))
        self._steps_rad.append(float(np.linalg.norm(turned)))

    def _move(self) -> None:
        """Most of the way to the target, and wherever it is pushed. Where commands came late and many at once, because
        this machine is busy, it makes up for them no faster than an arm would."""
        before, (position, turn) = self.position, self._target
        if not self.frozen:
            moved = _no_longer(ANSWER * (position + self.sag - self.position), HASTE * max(self._steps_m))
            turned = _no_longer(ANSWER * rotation.difference(turn, self.turn), HASTE * max(self._steps_rad))
            self.position = self.position + moved
            self.turn = rotation.multiply(rotation.from_rotvec(turned), self.turn)
            self.turn /= np.linalg.norm(self.turn)
        moved = self.push * PERIOD_S
        self.position, self._target = self.position + moved, (position + moved, turn)
        self.speed_mps = float(np.linalg.norm(self.position - before)) / PERIOD_S

    def _send(self, name, publisher, message, stamp) -> None:
        message.header.stamp = stamp
        if name in self.spoil:
            self.spoil[name](message)
        if publisher is not None and name not in self.silent:
            publisher.publish(message)


def _no_longer(vector: np.ndarray, longest: float) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector if length <= longest else vector * (longest / length)
