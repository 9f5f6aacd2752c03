"""The simulator node on a live graph: it looks like a Franka driver with two cameras, and moves only as it is told."""

import signal
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, TwistStamped
from ros_helpers import NAN, Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64, String

from specprune_ros.config import Topics
from specprune_ros.msg import Action
from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.ros import convert, qos
from specprune_ros.sim.env import TabletopEnv
from specprune_ros.srv import ResetSim
from specprune_ros.types import Displacement

SIM = ("-m", "specprune_ros.ros.sim_node")
MODULE_SEED = 3


class World:
    """A running simulator and the newest of everything it says."""

    def __init__(self, graph, kind=Action, topic="/policy_node/action", namespace="", **parameters):
        """namespace: of the simulator and, where there is one, of all its topics."""
        self.graph, self.namespace = graph, namespace
        self.own_time = parameters.get("publish_clock", False)
        topics = Topics()
        self.images = [graph.listen(Image, namespace + topic, qos.SENSOR_IN) for topic in topics.images]
        self.poses = graph.listen(PoseStamped, namespace + topics.ee_pose, qos.SENSOR_IN)
        self.joints = graph.listen(JointState, namespace + topics.joint_states, qos.SENSOR_IN)
        self.description = graph.listen(String, namespace + topics.robot_description, qos.LATCHED)
        self.instructions = graph.listen(String, f"{namespace}/sim_node/instruction")
        self.tasks = graph.listen(String, f"{namespace}/sim_node/task", qos.LATCHED)
        self.command = graph.node.create_publisher(kind, namespace + topic, qos.EVENTS)
        self.gripper = graph.node.create_publisher(Float64, f"{namespace}/policy_node/gripper", qos.LATCHED)
        named = ("--ros-args", "-r", f"__ns:={namespace}") if namespace else ()
        self.process = graph.start(*SIM, *named, **{"seed": MODULE_SEED, **parameters})
        graph.until(lambda: self.poses and self.command.get_subscription_count(), what="the simulator")

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

    def header(self, frame="fr3_link0", age_s=0.0):
        """As if said `age_s` ago, by the simulator's clock."""
        now_ns = self.graph.node.get_clock().now().nanoseconds
        if self.own_time:
            now_ns = convert.stamp_ns(self.poses[-1].header, "")
        return convert.header(now_ns - round(age_s * 1e9), frame)

    def refuses(self, message, reason):
        """Publishes it twice: nothing moves, and the log says why."""
        before = self.position()
        for _ in range(2):
            self.command.publish(message)
            self.position()
        np.testing.assert_allclose(self.position(), before, atol=1e-3)
        assert "refused" in self.process.text() and reason in self.process.text()

    def fingers(self, position_m):
        self.graph.until(
            lambda: abs(self.joints[-1].position[-1] - position_m) < 2e-3, what=f"fingers at {position_m} m"
        )

    def reset(self, seed, suite=""):
        """The answer to a reset; returns when the new episode shows."""
        self.instructions.clear()
        request = ResetSim.Request(seed=seed, suite=suite)
        answer = self.graph.call(ResetSim, f"{self.namespace}/sim_node/reset", request)
        if answer.success:
            begun = ["", answer.instruction]
            self.graph.until(lambda: [text.data for text in self.instructions][-2:] == begun, what="the new task")
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield World(graph)


def test_it_publishes_what_a_franka_driver_publishes(world):
    counts = [len(stream) for stream in (*world.images, world.poses, world.joints)]
    world.graph.spin(2.0)
    streams = (*world.images, world.poses, world.joints)
    grown = [len(stream) - before for stream, before in zip(streams, counts, strict=True)]
    # Never faster than 20 Hz; slower where the machine is busy, but all together.
    assert min(grown) >= 5 and max(grown) <= 44 and max(grown) - min(grown) <= 4, grown
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
    assert "action refused" in world.process.text() and reason in world.process.text()


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


def test_a_reset_may_name_a_suite_and_without_one_keeps_the_parameters(world):
    for suite in ("long", ""):
        answer = world.reset(7, suite)
        with TabletopEnv(render=False) as env:
            assert answer.success and answer.instruction == env.reset(7, suite=suite or "pick")
            np.testing.assert_allclose(world.position(), env.state().ee_position_m, atol=1e-3)
    refused = world.reset(7, "libero")
    assert not refused.success
    assert refused.message == "suite 'libero' is not known; give one of pick, object, spatial, goal, long"


def test_a_seed_that_is_none_is_refused(world):
    answer = world.reset(-1)
    assert not answer.success and "seed -1 is negative" in answer.message


@pytest.fixture(scope="module")
def twisted(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        slow = {"publish_clock": True, "realtime_factor": 0.4}  # a twist must not grow old on a busy machine
        yield World(graph, TwistStamped, "/servo_node/delta_twist_cmds", command_interface="servo_twist", **slow)


def twist(header, x=0.0):
    return convert.twist(np.array([x, 0.0, 0.0]), np.zeros(3), header)


def test_a_twist_moves_the_arm_for_a_tenth_of_a_second(twisted):
    twisted.reset(MODULE_SEED)
    before = twisted.position()
    for _ in range(8):
        twisted.command.publish(twist(twisted.header(), x=0.2))
        twisted.position()
    twisted.graph.spin(1.0)
    after = twisted.position()
    assert 0.04 < (after - before)[0] < 0.12 and np.abs((after - before)[1:]).max() < 0.005, "8 periods at 0.01 m each"
    twisted.graph.spin(0.3)
    np.testing.assert_allclose(twisted.position(), after, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "x", "reason"),
    [
        ({"frame": "world"}, 0.2, "the twist is in frame 'world', expected 'fr3_link0'"),
        ({}, NAN, "the twist is not finite"),
        ({"age_s": 0.2}, 0.2, "s old (limit 0.1 s); check use_sim_time and the clocks"),
    ],
)
def test_a_twist_that_cannot_be_meant_moves_nothing(twisted, wrong, x, reason):
    twisted.reset(MODULE_SEED)
    twisted.refuses(twist(twisted.header(**wrong), x), reason)


def test_the_gripper_has_a_topic_of_its_own(twisted):
    twisted.reset(MODULE_SEED)
    twisted.fingers(0.04)
    twisted.gripper.publish(Float64(data=0.0))
    twisted.fingers(0.0)
    for nonsense in (NAN, -1.0, 0.5):
        twisted.gripper.publish(Float64(data=nonsense))
    twisted.graph.spin(0.3)
    twisted.fingers(0.0)
    assert "a gripper position of nan m is refused; give 0 (closed) .. 0.04 m (open)" in twisted.process.text()
    twisted.gripper.publish(Float64(data=0.04))
    twisted.fingers(0.04)


def test_the_gripper_has_an_action_where_control_msgs_is_installed(twisted):
    kind = pytest.importorskip(
        "control_msgs.action", reason="control_msgs is not installed (not on PyPI)"
    ).GripperCommand
    from rclpy.action import ActionClient

    twisted.reset(MODULE_SEED)
    client = ActionClient(twisted.graph.node, kind, "/franka_gripper/gripper_action")
    twisted.graph.until(client.server_is_ready, what="the gripper action")
    for position, status in ((0.0, 4), (NAN, 6)):  # succeeded, aborted
        goal = kind.Goal()
        goal.command.position = position
        sent = client.send_goal_async(goal)
        twisted.graph.until(sent.done, what="acceptance")
        result = sent.result().get_result_async()
        twisted.graph.until(result.done, what="a result")
        assert result.result().status == status
    twisted.fingers(0.0)
    client.destroy()


@pytest.fixture(scope="module")
def posed(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield World(graph, PoseStamped, "/target_pose", command_interface="target_pose")


def test_a_target_pose_is_reached_and_held_until_the_next(posed):
    posed.reset(MODULE_SEED)
    start = posed.position()
    target = posed.poses[-1]
    for shift in (0.12, -0.06):
        target.header = posed.header()
        target.pose.position.x = start[0] + shift
        posed.command.publish(target)
        posed.graph.until(lambda: abs(posed.position()[0] - start[0] - shift) < 2e-3, what="the target")  # noqa: B023
    posed.graph.spin(0.5)
    np.testing.assert_allclose(posed.position(), start - [0.06, 0.0, 0.0], atol=4e-3)
    posed.gripper.publish(Float64(data=0.0))
    posed.fingers(0.0)
    posed.reset(MODULE_SEED)
    posed.graph.spin(0.3)
    np.testing.assert_allclose(posed.position(), start, atol=1e-3)  # the old target is forgotten


@pytest.mark.parametrize(
    ("header", "changes", "reason"),
    [
        ({"frame": "world"}, {}, "the pose is in frame 'world', expected 'fr3_link0'"),
        ({}, {"x": NAN}, "not finite"),
        ({}, {"w": 0.9}, "quaternion has norm"),
        ({"age_s": 1.0}, {}, "s old (limit 0.5 s); check use_sim_time and the clocks"),
    ],
)
def test_a_target_pose_that_cannot_be_meant_moves_nothing(posed, header, changes, reason):
    posed.reset(MODULE_SEED)
    posed.position()
    target = posed.poses[-1]
    target.header = posed.header(**header)
    target.pose.position.x += 0.1
    for name, value in changes.items():
        setattr(target.pose.position if name == "x" else target.pose.orientation, name, value)
    posed.refuses(target, reason)


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
            graph.until(lambda: world.images[0] and world.images[1] and world.joints and world.description)  # noqa: B023
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
