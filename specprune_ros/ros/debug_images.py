"""Pictures of what the pruning kept: one of all views, one per camera; drawn only for those who look."""

from __future__ import annotations

from rclpy.node import Node
from sensor_msgs.msg import Image

from specprune_ros.config import Topics
from specprune_ros.eval.overlay import camera_overlay, overlay
from specprune_ros.observe.inputs import view_names
from specprune_ros.ros import convert, qos
from specprune_ros.types import Observation, PruningReport


class DebugImages:
    """`topics.debug_image` shows all views, the topics below it one each."""

    def __init__(self, node: Node, topics: Topics):
        def publisher(topic: str):
            return node.create_publisher(Image, topic, qos.SENSOR_OUT)

        self._all = publisher(topics.debug_image)
        self._cameras = [publisher(f"{topics.debug_image}/{name}") for name in view_names(topics.images)]

    def publish(self, observation: Observation, report: PruningReport, patch_grid: tuple[int, int]) -> None:
        stamp = convert.header(observation.stamp_ns, "")
        shown = {"mode": report.mode, "aggressiveness": report.aggressiveness}
        if self._all.get_subscription_count():
            drawn = overlay(observation.images, report.kept, patch_grid, caption=observation.instruction, **shown)
            self._all.publish(convert.image(drawn, stamp))
        kept = report.kept.reshape(len(observation.images), -1)
        for publisher, image, mask in zip(self._cameras, observation.images, kept, strict=True):
            if publisher.get_subscription_count():
                publisher.publish(convert.image(camera_overlay(image, mask, patch_grid, **shown), stamp))
