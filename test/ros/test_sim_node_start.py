"""The simulator node: time, rate, names, and what ends its start."""

import signal

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from ros_helpers import Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from sim_world import MODULE_SEED, SIM, World
from std_msgs.msg import String

from specprune_ros.config import Topics
from specprune_ros.ros import convert, qos
from specprune_ros.sim.env import TabletopEnv


def test_it_can_give_the_time_and_ends_with_a_clean_exit_code(tmp_path):
    with Graph(tmp_path) as graph:
        clocks, poses = graph.listen(Clock, "/clock", 1), graph.listen(PoseStamped, Topics().ee_pose, qos.SENSOR_IN)
        process = graph.start(*SIM, publish_clock=True, realtime_factor=3.0)
        graph.until(lambda: len(clocks) > 30 and poses, what="the simulator's time")
        stamps = [convert.stamp_ns(convert.Header(stamp=clock.clock), "") for clock in clocks]
        assert stamps[0] >= 1_000_000_000 and all(gap > 0 and gap % 50_000_000 == 0 for gap in np.diff(stamps))
        assert all(convert.stamp_ns(pose.header, "") % 50_000_000 == 0 for pose in poses)
        process.signal(signal.SIGINT)
        assert process.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("rate", [7.0, 50.0])
def test_it_steps_at_the_rate_it_is_told(tmp_path, rate):
    """In its own time, so that a busy machine does not matter; an action is one period's displacement."""
    with Graph(tmp_path) as graph:
        clock = graph.listen(Clock, "/clock", qos.EVENTS)
        world = World(graph, control_rate=rate, publish_clock=True, realtime_factor=0.5)
        graph.until(lambda: len(world.poses) > 8 and len(clock) > 8, what="poses")
        stamps = np.array([convert.stamp_ns(pose.header, "") for pose in world.poses])
        period_ns = round(1e9 / rate)
        assert not ((stamps - stamps[0]) % period_ns).any() and np.diff(stamps).min() == period_ns
        world.reset(MODULE_SEED)
        before = world.position()
        world.act(x=0.3, count=4, period=1.0 / rate)
        graph.spin(1.0)
        np.testing.assert_allclose(world.position() - before, [4 * 0.015, 0, 0], atol=0.006)
        world.act(x=0.3, period=0.05)
        refusal = f"is for 0.05 s, expected {1.0 / rate} s; check control.rate"
        graph.until(lambda: refusal in world.process.text(), what="a refusal")


@pytest.mark.slow
def test_two_simulators_share_a_domain_and_nothing_else(tmp_path):
    """By one parameter and two namespaces: each has its own episode, and an action moves one arm only."""
    with Graph(tmp_path) as graph:
        left = World(graph, namespace="/left", relative_topics=True, seed=4)
        right = World(graph, namespace="/right", relative_topics=True, seed=5)
        for world in (left, right):
            graph.until(lambda: all((*world.images, world.joints, world.description)))  # noqa: B023
        starts = left.position(), right.position()
        assert np.abs(starts[0] - starts[1]).max() > 0.01
        left.act(x=0.5, count=4)
        graph.spin(0.5)
        assert (left.position() - starts[0])[0] > 0.08
        np.testing.assert_allclose(right.position(), starts[1], atol=1e-3)
        answers = left.reset(7), right.reset(7)
        assert answers[0].instruction == answers[1].instruction
        np.testing.assert_allclose(left.position(), right.position(), atol=1e-6)
        mine = {"/rosout", "/parameter_events"}
        names = {name for name, _ in graph.node.get_topic_names_and_types()} - mine
        outside = {name for name in names if not name.startswith(("/left/", "/right/"))}
        assert not outside, outside


def test_names_given_one_by_one_win_over_relative_topics(tmp_path):
    with Graph(tmp_path) as graph:
        joints = graph.listen(JointState, "/robot_b/joints", qos.SENSOR_IN)
        images = [graph.listen(Image, f"/b/{side}", qos.SENSOR_IN) for side in ("far", "near")]
        poses = graph.listen(PoseStamped, "/b/franka_robot_state_broadcaster/current_pose", qos.SENSOR_IN)
        words = graph.listen(String, "/b/say", qos.LATCHED)
        graph.start(
            *(*SIM, "--ros-args", "-r", "__ns:=/b"),
            relative_topics=True,
            joint_states_topic="/robot_b/joints",
            image_topics="[/b/far, near]",
            suite="object",
            seed=6,
            instruction_topic="say",
        )
        graph.until(lambda: joints and poses and words and all(images), what="every stream under its own name")
        with TabletopEnv(render=False) as env:
            task = env.reset(6, suite="object")
        graph.until(lambda: words[-1].data == task, what="a task of the suite that was asked for")


def test_parameters_that_cannot_be_used_end_the_start(tmp_path):
    with Graph(tmp_path) as graph:
        unknown = graph.start(*SIM, sed=3)
        speed = graph.start(*SIM, realtime_factor=2.0)
        rate, cameras = graph.start(*SIM, control_rate=150.0), graph.start(*SIM, image_topics="[/only/one]")
        assert {unknown.wait(), speed.wait(), rate.wait(), cameras.wait()} == {1}
        assert "unknown parameter 'sed'; sim_node has seed, suite, control_rate, max_steps" in unknown.text()
        assert "control_rate: 150.0 is out of range; give a number in [5.0, 100.0]" in rate.text()
        assert "image_topics: 1 names for 2 cameras; give one each for third_person, wrist" in cameras.text()
        assert "the system's time cannot be sped up; set publish_clock" in speed.text()
        assert "Traceback" not in unknown.text() + speed.text()
