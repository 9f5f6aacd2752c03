"""The state that franka_ros2 publishes of a robot: read where franka_msgs is installed (it is not on PyPI)."""

from __future__ import annotations

import importlib
import time
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message

from specprune_ros.control import franka_mode
from specprune_ros.ros.streams import Stream

LOOK_EVERY_S = 0.1
"""A state has hundreds of fields and takes a millisecond or more to become a Python object: not in every period."""


class FrankaMode:
    """Fetches the newest state when asked. Nothing is known before the first one: a simulator has none."""

    def __init__(self, node: Node, kind: type, topic: str):
        self._kind, self._stream = kind, Stream(node, kind, topic, raw=True)
        self.topic = self._stream.topic
        self._state: Any = None
        self._received_s = self._looked_s = 0.0

    def obstacle(self) -> str | None:
        """What speaks against moving the robot now: its mode, its errors, or that it says nothing any more."""
        now_s = time.monotonic()
        if now_s - self._looked_s > LOOK_EVERY_S:
            self._looked_s = now_s
            self._look(now_s)
        if self._state is None:
            return None
        age_s = now_s - self._received_s
        return franka_mode.obstacle(self.topic, self._state.robot_mode, _errors(self._state), age_s)

    def _look(self, now_s: float) -> None:
        if taken := self._stream.take():
            self._state, self._received_s = deserialize_message(taken[-1].message, self._kind), now_s


def robot_state_type() -> type | None:
    """franka_msgs/msg/FrankaRobotState; None where franka_msgs is not installed."""
    try:
        return importlib.import_module("franka_msgs.msg").FrankaRobotState
    except (ImportError, AttributeError):
        return None


def _errors(state: Any) -> list[str]:
    """Names of the current errors; when there are none, of the errors that aborted the last motion."""
    for errors in (state.current_errors, state.last_motion_errors):
        if found := [name for name in errors.get_fields_and_field_types() if getattr(errors, name)]:
            return found
    return []
