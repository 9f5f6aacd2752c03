"""The simulator node on a live graph: it looks like a Franka driver with two cameras, and moves only as it is told."""

from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, TwistStamped
from ros_helpers import NAN, Graph
from sim_world import MODULE_SEED, World
from std_msgs.msg import Float64

from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.ros import convert
from specprune_ros.sim.env import TabletopEnv


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
