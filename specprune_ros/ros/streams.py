"""Subscriptions that only keep the newest messages, and how often they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from rclpy.node import Node

from specprune_ros.ros import qos


class Arrivals:
    """How often something comes, and when it last came [wall time]."""

    def __init__(self, name: str):
        self.topic = name
        self._count = 0
        self._received_s: float | None = None
        self._asked_s = time.monotonic()

    def note(self) -> None:
        self._count += 1
        self._received_s = time.monotonic()

    def rate_hz(self) -> float:
        """Arrivals per second since the last call."""
        now_s = time.monotonic()
        rate = self._count / max(now_s - self._asked_s, 1e-3)
        self._count, self._asked_s = 0, now_s
        return rate

    def age_s(self) -> float | None:
        """Time since the last one; None before the first."""
        return None if self._received_s is None else time.monotonic() - self._received_s


class Stream(Arrivals):
    """The newest message of one topic; where several publishers share it, the newest of each part."""

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        profile=qos.SENSOR_IN,
        part: Callable[[object], Hashable] = lambda message: None,
    ):
        """part: what tells the messages apart of which each counts."""
        super().__init__(topic)
        self.newest = None
        self._part = part
        self._fresh: dict[Hashable, object] = {}
        self._subscription = node.create_subscription(kind, topic, self._store, profile)

    def close(self, node: Node) -> None:
        node.destroy_subscription(self._subscription)

    def take(self) -> list:
        """What came since the last call, in order of arrival; at most one message of each part."""
        fresh, self._fresh = list(self._fresh.values()), {}
        return fresh

    def _store(self, message) -> None:
        part = self._part(message)
        self._fresh.pop(part, None)
        self._fresh[part] = self.newest = message
        self.note()
