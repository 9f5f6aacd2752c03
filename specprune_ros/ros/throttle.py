"""How often something that goes on is said."""

from __future__ import annotations

import time


class Throttle:
    """rclpy's own throttle looks up its caller's source at every call, which costs a control period 0.7 ms."""

    def __init__(self, every_s: float):
        self._every_s = every_s
        self._said_s = -float("inf")

    def ready(self) -> bool:
        """Whether it is time to say it again. True starts a new waiting time."""
        now_s = time.monotonic()
        if now_s - self._said_s < self._every_s:
            return False
        self._said_s = now_s
        return True
