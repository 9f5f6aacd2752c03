"""Pictures of what the pruning kept: one of all views, one per camera; drawn only for those who look, in a thread of
its own."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from specprune_ros.config import Topics
from specprune_ros.draw.overlay import camera_overlay, overlay
from specprune_ros.observe.inputs import view_names
from specprune_ros.ros import convert, qos
from specprune_ros.types import InferenceResult


class DebugImages:
    """`topics.debug_image` shows all views, the topics below it one each. Control never waits for a picture."""

    def __init__(self, node: Node, topics: Topics):
        def publisher(topic: str) -> Publisher:
            return node.create_publisher(Image, topic, qos.SENSOR_OUT)

        self._node = node
        self._all = publisher(topics.debug_image)
        self._cameras = [publisher(f"{topics.debug_image}/{name}") for name in view_names(topics.images)]
        self._thread = ThreadPoolExecutor(1, "debug_images")
        self._drawing: Future | None = None

    def close(self) -> None:
        """Waits for the picture that is being drawn: some milliseconds."""
        self._thread.shutdown()

    def publish(self, result: InferenceResult, patch_grid: tuple[int, int]) -> None:
        """Left out while the pictures of an earlier inference are being drawn."""
        if self._drawing:
            if not self._drawing.done():
                return
            if error := self._drawing.exception():  # no reason to stop the arm
                self._node.get_logger().error(f"drawing the debug image failed: {error!r}", throttle_duration_sec=5.0)
        wanted = [publisher for publisher in (self._all, *self._cameras) if publisher.get_subscription_count()]
        self._drawing = self._thread.submit(self._draw, wanted, result, patch_grid) if wanted else None

    def _draw(self, wanted: list[Publisher], result: InferenceResult, patch_grid: tuple[int, int]) -> None:
        observation, report = result.request.observation, result.report
        stamp = convert.header(observation.stamp_ns, "")
        shown = {"mode": report.mode, "aggressiveness": report.aggressiveness}
        if self._all in wanted:
            drawn = overlay(observation.images, report.kept, patch_grid, caption=observation.instruction, **shown)
            _publish(self._all, drawn, stamp)
        kept = report.kept.reshape(len(observation.images), -1)
        for publisher, image, mask in zip(self._cameras, observation.images, kept, strict=True):
            if publisher in wanted:
                _publish(publisher, camera_overlay(image, mask, patch_grid, **shown), stamp)


def _publish(publisher: Publisher, picture: np.ndarray, stamp: Header) -> None:
    publisher.publish(convert.image(picture, stamp))
