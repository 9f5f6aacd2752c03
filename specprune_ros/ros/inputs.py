"""Cameras and robot state of the configuration, and their way into the control loop, once per control period."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.delivery import Channel
from specprune_ros.observe.inputs import STATE
from specprune_ros.observe.joints import proprio
from specprune_ros.observe.pictures import PictureWatch
from specprune_ros.observe.pixels import as_configured
from specprune_ros.ros import convert, qos
from specprune_ros.ros.publishers import REFRESH_S, Offer, Publishers, named
from specprune_ros.ros.state_sources import JointStates, state_source
from specprune_ros.ros.streams import Arrivals, Stream
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector

TRANSPORTS = {"raw": (Image, ""), "compressed": (CompressedImage, "/compressed")}
OWN_KINDS = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}


class View:
    """One camera: its messages stay bytes until the newest of a control period is made an image."""

    def __init__(self, node: Node, config: Config, index: int):
        topics = config.topics
        self._transport, self._wish = topics.image_transport, topics.image_qos
        self._kind, suffix = TRANSPORTS[self._transport]
        self._index = index
        self.stream = Stream(node, self._kind, topics.images[index] + suffix, qos.IMAGES_IN, raw=True)
        self.publishers = Publishers(node, topics.images[index] + suffix)
        self.stamp_ns: int | None = None
        self._node, self._base = node, self.publishers.topic.removesuffix(suffix)
        self._watch = PictureWatch()
        self._bytes = 0
        self._looked_s, self._found_elsewhere = 0.0, ""

    def feed(self, loop: ControlLoop, now_ns: int) -> None:
        """Takes what came and hands the newest image to the loop, or why it is of no use."""
        self.stream.follow(_reliable(self._wish, self.publishers.offers()))
        delivery = loop.inputs.deliveries[self._index]
        taken = self.stream.take()
        for one in taken:
            delivery.note(convert.peeked_stamp_ns(one.message), now_ns, one.sequence, one.follows)
        if taken:
            self._bytes = len(taken[-1].message)
        delivery.channel = self._channel()
        if taken:
            self._hand_over(loop, deserialize_message(taken[-1].message, self._kind))

    def _hand_over(self, loop: ControlLoop, message: Image | CompressedImage) -> None:
        topic = self.stream.topic
        try:
            stamp_ns = convert.stamp_ns(message.header, topic)
            image = as_configured(convert.rgb(message, topic), loop.config.topics, self._index)
            self._watch.check(image, stamp_ns, loop.measured, loop.config.pictures)
        except BadInput as error:
            loop.refuse_image(self._index, error)
        else:
            self.stamp_ns = stamp_ns
            with suppress(BadInput):  # the loop keeps it as its reason to hold
                loop.set_image(self._index, stamp_ns, image)

    def _channel(self) -> Channel:
        offers = self.publishers.offers()
        nodes = tuple(offer.node for offer in offers)
        return Channel(self.stream.topic, nodes, self._obstacle(offers), self._bytes)

    def _obstacle(self, offers: tuple[Offer, ...]) -> str:
        """Why nothing that is offered can be heard."""
        if not offers:
            return self._elsewhere()
        ours = [offer for offer in offers if OWN_KINDS.get(offer.kind) == self._transport]
        if not ours:
            other = OWN_KINDS.get(offers[0].kind)
            remedy = f"set topics.image_transport: {other}" if other else "publish sensor_msgs/Image or CompressedImage"
            return f"{self.stream.topic} carries {offers[0].kind} of {offers[0].node}; {remedy}"
        if self._wish == "reliable" and not any(offer.reliable for offer in ours):
            return (
                f"{named(tuple(offer.node for offer in ours))} offers {self.stream.topic} with best effort only, which "
                "topics.image_qos: reliable cannot hear; set it to auto"
            )
        return ""

    def _elsewhere(self) -> str:
        """Where the images are, when nobody publishes the topic but somebody one of its other transports."""
        if time.monotonic() - self._looked_s < REFRESH_S:
            return self._found_elsewhere
        self._looked_s = time.monotonic()
        self._found_elsewhere = self._look_elsewhere()
        return self._found_elsewhere

    def _look_elsewhere(self) -> str:
        found = [
            (topic, kinds[0])
            for topic, kinds in self._node.get_topic_names_and_types()
            if (topic == self._base or topic.startswith(f"{self._base}/"))
            and topic != self.stream.topic
            and self._node.count_publishers(topic)
        ]
        usable = {self._base: "raw", f"{self._base}/compressed": "compressed"}
        for topic, kind in found:
            if OWN_KINDS.get(kind) == usable.get(topic, "none"):
                return f"nobody publishes {self.stream.topic}, but {topic}; set topics.image_transport: {usable[topic]}"
        if not found:
            return ""
        there = ", ".join(f"{topic} ({kind})" for topic, kind in found)
        return (
            f"nobody publishes {self.stream.topic}; what is there cannot be decoded here: {there}; let the camera "
            "publish raw or compressed (JPEG, PNG) images"
        )


class InputStreams:
    """What the policy needs to know, from the topics of the configuration. Subscribes to nothing else."""

    def __init__(self, node: Node, config: Config, with_proprio: bool):
        """with_proprio: the policy has a proprio token, so the fingers are needed as well. ConfigError: the source
        cannot work here."""
        self._views = [View(node, config, index) for index in range(len(config.topics.images))]
        fingers = config.robot.finger_joints if with_proprio else ()
        needs_joints = bool(fingers) or config.robot.state_source == "joints"
        wanted = None if config.robot.state_source == "joints" else fingers
        self._joints = JointStates(node, config, wanted) if needs_joints else None
        self._state = state_source(node, config, self._joints, fingers)
        self._fingers = fingers
        simulated = node.get_parameter("use_sim_time").value
        self._clock = Publishers(node, "/clock") if simulated else None

    def streams(self) -> list[Arrivals]:
        """Everything that should keep coming."""
        joints = self._joints.streams if self._joints else ()
        return [*(view.stream for view in self._views), *self._state.streams, *joints]

    def close(self) -> None:
        """Listen no longer."""
        for view in self._views:
            view.stream.close()
        for source in (self._joints, self._state):
            if source:
                source.close()

    def obstacles(self) -> list[str]:
        """What speaks against moving the arm: inputs that come from more than one source."""
        single = [view.publishers for view in self._views] + ([self._clock] if self._clock else [])
        found = [rivals for publishers in single if (rivals := publishers.rivals())]
        return found + self._state.rivals() + (self._joints.rivals() if self._joints else [])

    def clock_problem(self, now_ns: int) -> str | None:
        """Why there is no time; None where there is."""
        if self._clock is None or now_ns > 0:
            return None
        nodes = self._clock.nodes()
        who = f"{named(nodes)} offers it, but nothing has arrived" if nodes else "nobody publishes it"
        return f"there is no time: use_sim_time is true, so it comes from {self._clock.topic}, and {who}"

    def feed(self, loop: ControlLoop, now_ns: int) -> None:
        """Converts what came since the last call and hands it to the loop; what is unusable becomes its reason to
        hold."""
        for view in self._views:
            view.feed(loop, now_ns)
        timeout_s = loop.config.control.observation_timeout
        delivery = loop.inputs.deliveries[STATE]
        delivery.channel = self._state.channel()
        try:
            if self._joints:
                self._joints.read()
            stamps_ns = [view.stamp_ns for view in self._views if view.stamp_ns is not None]
            measured = self._state.take(max(stamps_ns, default=None), timeout_s)
            if measured is None:
                return
            delivery.note(measured.stamp_ns, now_ns, follows=self._state.follows)
            values = self._proprio(measured, timeout_s) if self._fingers else None
        except BadInput as error:
            loop.refuse_state(error)
            return
        with suppress(BadInput):  # the loop keeps it as its reason to hold
            loop.set_state(measured, values)

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


def _reliable(wish: str, offers: tuple[Offer, ...]) -> bool:
    """Whether to subscribe reliably: as all publishers offer it, or as the parameter says."""
    if wish != "auto":
        return wish == "reliable"
    return bool(offers) and all(offer.reliable for offer in offers)
