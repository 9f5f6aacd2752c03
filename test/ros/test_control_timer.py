"""Control periods are those of the clock that they must follow, and are measured on that clock."""

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.clock import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.time import Time

from specprune_ros.ros.control_timer import ControlTimer

RATE_HZ = 50.0
PERIOD_NS = 20_000_000


@pytest.fixture
def timed():
    """(node, executor, ticks, timer) on a clock of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("timed", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ticks = []
    timer = ControlTimer(node, RATE_HZ, lambda: ticks.append(node.get_clock().now().nanoseconds))
    yield node, executor, ticks, timer
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def simulate(node, executor, times_ns):
    for now_ns in times_ns:
        node.get_clock().set_ros_time_override(Time(nanoseconds=now_ns, clock_type=ClockType.ROS_TIME))
        for _ in range(3):
            executor.spin_once(timeout_sec=0.002)


def test_periods_of_simulated_time_are_measured_in_simulated_time(timed):
    """Fault 32: they were measured in real time, so a simulation at another pace than real time looked unsteady."""
    node, executor, ticks, timer = timed
    node.get_clock()._set_ros_time_is_active(True)
    timer.follow_clock()
    start_ns = 10**12
    simulate(node, executor, range(start_ns, start_ns + 40 * PERIOD_NS, PERIOD_NS // 2))
    steadiness = timer.steadiness()
    assert len(ticks) >= 35 and steadiness.periods == len(ticks) - 1
    assert steadiness.max_ms < 1e-3 and steadiness.gaps == 0
    simulate(node, executor, range(start_ns + 45 * PERIOD_NS, start_ns + 50 * PERIOD_NS, PERIOD_NS))
    assert timer.steadiness().gaps == 1, "a jump of simulated time is a gap of simulated time"


def test_after_a_switch_of_the_clock_the_periods_go_on(timed):
    node, executor, ticks, timer = timed
    while len(ticks) < 5:
        executor.spin_once(timeout_sec=0.1)
    assert timer.steadiness().periods == 4
    node.get_clock()._set_ros_time_is_active(True)
    simulate(node, executor, [10**12])
    timer.follow_clock()
    ticks.clear()
    assert timer.steadiness().periods == 0, "nothing is measured across the switch"
    simulate(node, executor, range(10**12, 10**12 + 10 * PERIOD_NS, PERIOD_NS))
    assert ticks and all(ns >= 10**12 for ns in ticks)
    node.get_clock()._set_ros_time_is_active(False)
    timer.follow_clock()
    ticks.clear()
    while len(ticks) < 3:
        executor.spin_once(timeout_sec=0.1)
    assert min(ticks) > 10**15
