"""The timer of the control periods, on the clock that they must follow, and how steadily it ticks."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from specprune_ros.control.jitter import Jitter, Steadiness


class ControlTimer:
    """Calls `tick` once in a control period.

    In simulated time the periods are those of /clock. Otherwise they are those of the steady clock: the system's time
    may be set while the arm moves, and must neither stop the periods nor hurry them.
    """

    def __init__(self, node: Node, rate_hz: float, tick: Callable[[], None]):
        self._node, self._period_s, self._tick = node, 1.0 / rate_hz, tick
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._start()

    def steadiness(self) -> Steadiness:
        """Since the start, or since the time was last switched between simulated and real."""
        return self._jitter.summary()

    def follow_clock(self) -> None:
        """To be called now and then: starts anew when the node's time was switched between simulated and real."""
        if self._simulated is not self._node.get_clock().ros_time_is_active:
            self.close()
            self._start()

    def close(self) -> None:
        self._node.destroy_timer(self._timer)

    def _start(self) -> None:
        self._simulated = self._node.get_clock().ros_time_is_active
        self._clock = self._node.get_clock() if self._simulated else self._steady
        self._jitter = Jitter(self._period_s)
        self._timer = self._node.create_timer(self._period_s, self._on_timer, clock=self._clock)

    def _on_timer(self) -> None:
        self._jitter.tick(self._clock.now().nanoseconds)
        self._tick()
