"""A Franka's own state on a live graph: what stops it disarms, and is said when arming is refused. franka_msgs is not
on PyPI: without it these tests are skipped."""

import pytest

pytest.importorskip("rclpy")
messages = pytest.importorskip("franka_msgs.msg", reason="franka_msgs is not installed (not on PyPI)")

from ros_rig import Rig

from specprune_ros.config import Config
from specprune_ros.control.franka_mode import MODES, SILENT_S
from specprune_ros.ros.robot_mode import robot_mode

STATE = messages.FrankaRobotState
TOPIC = "/franka_robot_state_broadcaster/robot_state"


class Broadcaster:
    """franka_robot_state_broadcaster, at a rate that a test can afford."""

    def __init__(self, graph):
        self.state, self.silent = STATE(robot_mode=STATE.ROBOT_MODE_MOVE), False
        self._publisher = graph.node.create_publisher(STATE, TOPIC, 10)  # reliable, as SystemDefaultsQoS
        graph.node.create_timer(0.02, self._publish)

    def _publish(self):
        if not self.silent:
            self._publisher.publish(self.state)


def test_the_newest_of_many_messages_counts_and_errors_are_named(graph):
    mode = robot_mode(graph.node, Config())
    assert mode.obstacle() is None, "nothing is known"
    broadcaster = Broadcaster(graph)
    broadcaster.state.robot_mode = STATE.ROBOT_MODE_USER_STOPPED
    graph.until(lambda: "USER_STOPPED" in (mode.obstacle() or ""), what="the stop")
    broadcaster.state.robot_mode = STATE.ROBOT_MODE_REFLEX
    broadcaster.state.last_motion_errors.joint_velocity_violation = True
    graph.until(lambda: "REFLEX (joint_velocity_violation)" in mode.obstacle(), what="the reflex")
    broadcaster.state.current_errors.cartesian_reflex = True
    graph.until(lambda: "REFLEX (cartesian_reflex)" in mode.obstacle(), what="what is wrong now")
    broadcaster.silent = True
    graph.until(lambda: f"{TOPIC} has said nothing for" in mode.obstacle(), what="the silence")
    assert f"(bound {SILENT_S:g} s), last that the robot is in mode REFLEX" in mode.obstacle()
    broadcaster.silent, broadcaster.state = False, STATE(robot_mode=STATE.ROBOT_MODE_MOVE)
    graph.until(lambda: mode.obstacle() is None, what="a robot that may be moved")


def test_an_empty_topic_reads_nothing(graph):
    assert robot_mode(graph.node, Config.from_mapping({"topics.franka_robot_state": ""})) is None


def test_a_stopped_robot_is_not_armed_and_one_that_stops_is_disarmed(graph):
    rig = Rig(graph, instruction="move")
    broadcaster = Broadcaster(graph)
    rig.arm()
    rig.until_moving()
    for number, (name, remedy) in MODES.items():
        if remedy is None:
            continue
        broadcaster.state.robot_mode = number
        rig.until_state(f"disarmed: the robot is in mode {name}")
        rig.watch.forbid()
        rig.assert_silence()
        success, reason = rig.trigger("arm")
        assert not success and f"the robot is in mode {name}; {remedy}" in reason
        broadcaster.state.robot_mode = STATE.ROBOT_MODE_MOVE
        rig.arm()
        rig.until_moving()
