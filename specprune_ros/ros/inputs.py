"""Cameras and robot state of the configuration, and their way into the control loop, once per control period."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.joints import proprio
from specprune_ros.ros import convert
from specprune_ros.ros.state_sources import JointStates, state_source
from specprune_ros.ros.streams import Arrivals, Stream
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector


class InputStreams:
    """What the policy needs to know, from the topics of the configuration. Subscribes to nothing else."""

    def __init__(self, node: Node, config: Config, with_proprio: bool):
        """with_proprio: the policy has a proprio token, so the fingers are needed as well. ConfigError as the source's."""
        kind, suffix = (Image, "") if config.topics.image_transport == "raw" else (CompressedImage, "/compressed")
        self._images = [Stream(node, kind, topic + suffix) for topic in config.topics.images]
        self._stamps_ns: dict[int, int] = {}
        needs_joints = with_proprio or config.robot.state_source == "joints"
        self._joints = JointStates(node, config.topics) if needs_joints else None
        self._state = state_source(node, config, self._joints)
        self._fingers = config.robot.finger_joints if with_proprio else ()

    def streams(self) -> list[Arrivals]:
        """Everything that should keep coming."""
        return [*self._images, *self._state.streams, *(self._joints.streams if self._joints else ())]

    def close(self, node: Node) -> None:
        """Listen no longer."""
        for source in (*self._images, self._joints, self._state):
            if source:
                source.close(node)

    def feed(self, loop: ControlLoop) -> None:
        """Converts what came since the last call and hands it to the loop; what is unusable becomes its reason to hold."""
        for view, stream in enumerate(self._images):
            for message in stream.take():
                self._feed_image(loop, view, stream.topic, message)
        timeout_s = loop.config.control.observation_timeout
        try:
            if self._joints:
                self._joints.read()
            measured = self._state.take(max(self._stamps_ns.values(), default=None), timeout_s)
            values = self._proprio(measured, timeout_s) if measured and self._fingers else None
        except BadInput as error:
            loop.refuse_state(error)
            return
        if measured:
            with suppress(BadInput):  # the loop keeps it as its reason to hold
                loop.set_state(measured, values)

    def _feed_image(self, loop: ControlLoop, view: int, topic: str, message: Image | CompressedImage) -> None:
        try:
            stamp_ns, pixels = convert.stamp_ns(message.header, topic), convert.rgb(message, topic)
        except BadInput as error:
            loop.refuse_image(view, error)
        else:
            self._stamps_ns[view] = stamp_ns
            with suppress(BadInput):
                loop.set_image(view, stamp_ns, pixels)

    def _proprio(self, measured: EndEffector, timeout_s: float) -> np.ndarray:
        """Pose and fingers, which may come from two publishers: both must be alive."""
        stamp_ns, fingers_m = self._joints.book.positions(self._fingers, timeout_s)
        behind_s = (measured.stamp_ns - stamp_ns) / NANOSECONDS
        if behind_s > timeout_s:
            raise BadInput(
                f"{self._joints.source}: the newest message is {behind_s:.2f} s older than the end-effector pose; "
                f"the policy needs the fingers {', '.join(self._fingers)}"
            )
        return proprio(measured, fingers_m)
