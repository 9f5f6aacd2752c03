"""The simulator node on a live graph: it looks like a Franka driver with two cameras, and moves only as it is told."""

import signal
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from ros_helpers import NAN, Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from specprune_ros.config import Topics
from specprune_ros.msg import Action
from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.ros import convert, qos
from specprune_ros.srv import ResetSim
from specprune_ros.types import Displacement

SIM = ("-m", "specprune_ros.ros.sim_node")
MODULE_SEED = 3


class World:
    """A running simulator and the newest of everything it says."""

    def __init__(self, graph):
        self.graph = graph
        topics = Topics()
        self.images = [graph.listen(Image, topic, qos.SENSOR_IN) for topic in topics.images]
        self.poses = graph.listen(PoseStamped, topics.ee_pose, qos.SENSOR_IN)
        self.joints = graph.listen(JointState, topics.joint_states, qos.SENSOR_IN)
        self.description = graph.listen(String, topics.robot_description, qos.LATCHED)
        self.instructions = graph.listen(String, "/sim_node/instruction")
        self.tasks = graph.listen(String, "/sim_node/task", qos.LATCHED)
        self.command = graph.node.create_publisher(Action, "/policy_node/action", qos.EVENTS)
        self.process = graph.start(*SIM, seed=MODULE_SEED)

    def position(self):
        """The TCP position in a pose measured from now on."""
        seen = len(self.poses)
        self.graph.until(lambda: len(self.poses) > seen, what="a pose")
        at = self.poses[-1].pose.position
        return np.array([at.x, at.y, at.z])

    def act(self, *, x=0.0, frame="fr3_link0", period=0.05, count=1):
        """Sends actions of x action units, one per pose."""
        for _ in range(count):
            stamp = convert.header(self.graph.node.get_clock().now().nanoseconds, frame)
            motion = Displacement(np.array([0.05 * x, 0.0, 0.0]), np.zeros(3), 1.0)
            self.command.publish(convert.action(motion, period, stamp))
            self.position()

    def reset(self, seed):
        """The answer to a reset; returns when the new episode shows."""
        self.instructions.clear()
        answer = self.graph.call(ResetSim, "/sim_node/reset", ResetSim.Request(seed=seed))
        if answer.success:
            begun = ["", answer.instruction]
            self.graph.until(lambda: [text.data for text in self.instructions][-2:] == begun, what="the new task")
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        world = World(graph)
        graph.until(lambda: world.poses and world.command.get_subscription_count(), what="the simulator")
        yield world


def test_it_publishes_what_a_franka_driver_publishes(world):
    counts = [len(stream) for stream in (*world.images, world.poses, world.joints)]
    world.graph.spin(2.0)
    grown = [len(stream) - before for stream, before in zip((*world.images, world.poses, world.joints), counts)]
    # Never faster than 20 Hz; slower where the machine is busy, but all together.
    assert 5 <= min(grown) and max(grown) <= 44 and max(grown) - min(grown) <= 4, grown
    frames = [stream[-1].header.frame_id for stream in world.images]
    assert frames == ["third_person_color_optical_frame", "wrist_color_optical_frame"]
    for stream in world.images:
        image = convert.rgb(stream[-1], "")
        assert image.shape == (224, 224, 3) and image.std() > 5
    assert world.poses[-1].header.frame_id == "fr3_link0"
    joints = world.joints[-1]
    assert list(joints.name) == [*(f"fr3_joint{i}" for i in range(1, 8)), "fr3_finger_joint1", "fr3_finger_joint2"]
    assert len(joints.position) == len(joints.velocity) == 9


def test_joint_states_and_robot_description_agree_with_the_pose(world):
    world.graph.until(lambda: world.description, what="a robot description")
    text = world.description[0].data
    assert ElementTree.fromstring(text).tag == "robot"
    world.position()
    pose = world.poses[-1]
    world.graph.until(lambda: world.joints[-1].header.stamp == pose.header.stamp, what="the joints of that time")
    joints = world.joints[-1]
    kinematics = ForwardKinematics(text, "fr3_hand_tcp", "fr3_link0")
    ours = kinematics.pose(joints.name, joints.position, 1)
    at = pose.pose.position
    np.testing.assert_allclose(ours.position_m, [at.x, at.y, at.z], atol=1e-5)


def test_without_actions_the_arm_holds(world):
    before = world.position()
    world.graph.spin(0.5)
    np.testing.assert_allclose(world.position(), before, atol=2e-4)


def test_actions_move_the_arm_in_metres(world):
    world.reset(MODULE_SEED)
    before = world.position()
    world.act(x=0.5, count=4)
    world.graph.spin(0.3)
    np.testing.assert_allclose(world.position() - before, [4 * 0.025, 0, 0], atol=0.01)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"x": NAN}, "not finite"),
        ({"x": 1.0, "frame": "world"}, "in frame 'world', expected 'fr3_link0'"),
        ({"x": 1.0, "period": 0.1}, "is for 0.1 s, expected 0.05 s"),
    ],
)
def test_an_action_that_cannot_be_meant_moves_nothing(world, wrong, reason):
    world.reset(MODULE_SEED)
    before = world.position()
    world.act(**wrong, count=2)
    np.testing.assert_allclose(world.position(), before, atol=1e-3)
    assert "action refused" in world.process.text()


def test_a_reset_gives_the_episode_of_its_seed(world):
    first = world.reset(7)
    start = world.position()
    assert first.success and first.instruction.startswith("pick up the ")
    assert world.tasks[-1].data == "running"
    world.act(x=1.0, count=2)
    again = world.reset(7)
    assert again.instruction == first.instruction
    np.testing.assert_allclose(world.position(), start, atol=1e-9)


def test_a_reset_is_a_gap_in_the_streams(world):
    world.position()
    before = convert.stamp_ns(world.poses[-1].header, "")
    world.reset(8)
    world.position()
    assert convert.stamp_ns(world.poses[-1].header, "") - before > 0.2e9


def test_a_seed_that_is_none_is_refused(world):
    answer = world.reset(-1)
    assert not answer.success and "seed -1 is negative" in answer.message


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


def test_parameters_that_cannot_be_used_end_the_start(tmp_path):
    with Graph(tmp_path) as graph:
        unknown = graph.start(*SIM, sed=3)
        speed = graph.start(*SIM, realtime_factor=2.0)
        assert unknown.wait() == 1 and speed.wait() == 1
        assert "unknown parameter 'sed'; sim_node has seed, max_steps" in unknown.text()
        assert "the system's time cannot be sped up; set publish_clock" in speed.text()
        assert "Traceback" not in unknown.text() + speed.text()
