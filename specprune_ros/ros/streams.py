"""Subscriptions that are looked at once per control period, and how often something comes.

A callback for every message costs more than the message: at 1 kHz, 40 % of a core in rclpy's executor. So the executor
does not know these subscriptions: the middleware keeps the newest messages, and `take` fetches them.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from specprune_ros.ros import qos


class Arrivals:
    """How often something comes, and when it last came [wall time]."""

    def __init__(self, name: str):
        self.topic = name
        self._count = 0
        self._received_s: float | None = None
        self._asked_s = time.monotonic()

    def note(self, count: int = 1) -> None:
        self._count += count
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


class Taken(NamedTuple):
    """One message, or its bytes. sequence: the publisher's count of it, None where the middleware does not tell;
    follows: whether nothing that arrived before it was overwritten unread."""

    message: object
    sequence: int | None
    follows: bool


class Unattended(CallbackGroup):
    """Its subscriptions never wake an executor."""

    def can_execute(self, entity) -> bool:
        return False

    def beginning_execution(self, entity) -> bool:
        return False

    def ending_execution(self, entity) -> None:
        pass


class Stream(Arrivals):
    """The newest messages of one topic, as many as its profile is deep."""

    def __init__(self, node: Node, kind: type, topic: str, profile: QoSProfile = qos.SENSOR_IN, raw: bool = False):
        """raw: bytes instead of messages."""
        super().__init__(node.resolve_topic_name(topic))
        self._node, self._kind, self._given, self._raw = node, kind, topic, raw
        self._sequence: int | None = None
        self._subscribe(profile)

    @property
    def reliable(self) -> bool:
        return self._profile.reliability is ReliabilityPolicy.RELIABLE

    def follow(self, reliable: bool) -> None:
        """Ask for this reliability from now on."""
        if reliable != self.reliable:
            self.close()
            self._subscribe(qos.with_reliability(self._profile, reliable))

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def take(self) -> list[Taken]:
        """What came since the last call, oldest first."""
        taken: list[Taken] = []
        handle = self._subscription.handle
        with handle:
            while len(taken) < self._profile.depth and (found := handle.take_message(self._kind, self._raw)):
                message, info = found
                taken.append(Taken(message, info.get("publication_sequence_number"), bool(taken)))
        if taken:
            self._judge_first(taken)
        return taken

    def _judge_first(self, taken: list[Taken]) -> None:
        """What came in between is missing only where it was overwritten: in a queue that is full."""
        first, before = taken[0], self._sequence
        counted = first.sequence is not None and before is not None and first.sequence > before
        full = len(taken) == self._profile.depth
        taken[0] = first._replace(follows=not full or (counted and first.sequence == before + 1))
        overwritten = first.sequence - before - 1 if counted and full else 0
        self._sequence = taken[-1].sequence
        self.note(len(taken) + overwritten)

    def _subscribe(self, profile: QoSProfile) -> None:
        self._profile = profile
        self._subscription = self._node.create_subscription(
            self._kind, self._given, _nobody, profile, callback_group=Unattended(), raw=self._raw
        )


def _nobody(message) -> None:
    """No executor calls it."""
