"""Inputs on a live graph: two sources of one input, killed ones, quality of service, a covered lens, no clock."""

import signal

import pytest

pytest.importorskip("rclpy")

import rclpy
from geometry_msgs.msg import PoseStamped
from pictures import noise, seen
from rclpy.qos import ReliabilityPolicy
from ros_helpers import FINGERS, Graph
from ros_rig import NODE, Rig
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from specprune_ros.config import Topics
from specprune_ros.ros import convert, qos
from specprune_ros.ros.publishers import UNKNOWN_NODE

TOPICS = Topics()
THIRD, WRIST = TOPICS.images
DRIVER = ("-m", "specprune_ros.bench.drivers")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        rig = Rig(graph)
        graph.until(lambda: rig.task.get_subscription_count() > 0, what="the node")
        rig.say("move")
        yield rig


@pytest.fixture
def rig(shared):
    """The shared node, healthy, armed and moving."""
    shared.begin_again()
    shared.arm()
    shared.until_moving()
    return shared


@pytest.fixture
def impostor(shared):
    """Another node."""
    node = rclpy.create_node("impostor", context=shared.graph.context)
    shared.graph.executor.add_node(node)
    yield node
    shared.graph.executor.remove_node(node)
    node.destroy_node()


@pytest.mark.parametrize(
    ("kind", "topic", "profile"),
    [(PoseStamped, TOPICS.ee_pose, qos.POSE_OUT), (Image, THIRD, qos.SENSOR_OUT), (Image, WRIST, qos.POSE_OUT)],
)
def test_a_second_source_disarms_before_it_says_anything(rig, impostor, kind, topic, profile):
    publisher = impostor.create_publisher(kind, topic, profile)
    rig.until_state(f"disarmed: 2 publishers on {topic}, ")
    rig.watch.forbid()
    assert "/test" in rig.safety[-1].data
    # A publisher may be known before the name of its node is.
    assert "/impostor" in rig.safety[-1].data or UNKNOWN_NODE in rig.safety[-1].data
    rig.assert_silence()
    refused = rig.trigger("arm")
    assert not refused[0] and f"2 publishers on {topic}" in refused[1]
    impostor.destroy_publisher(publisher)
    rig.arm()


def test_two_sources_that_speak_in_turn_move_nothing(rig, impostor):
    """A second driver at 30 Hz whose pose is 5 cm off: close enough to be believed."""
    publisher = impostor.create_publisher(PoseStamped, TOPICS.ee_pose, qos.POSE_OUT)

    def say():
        message = PoseStamped(header=convert.header(impostor.get_clock().now().nanoseconds, "fr3_link0"))
        message.pose.position.x, message.pose.position.z = rig.robot.x + 0.05, 0.3
        message.pose.orientation.x, message.pose.orientation.w = 1.0, 0.0
        publisher.publish(message)

    timer = impostor.create_timer(1 / 30, say)
    rig.until_state("disarmed: 2 publishers on")
    rig.watch.forbid()
    rig.assert_silence(1.0)
    impostor.destroy_timer(timer)
    impostor.destroy_publisher(publisher)
    rig.graph.spin(0.2)  # an arm that is armed now would begin where the second driver saw it


def joint_driver(node, names):
    publisher = node.create_publisher(JointState, TOPICS.joint_states, qos.SENSOR_OUT)

    def say():
        stamp = convert.header(node.get_clock().now().nanoseconds, "")
        publisher.publish(JointState(header=stamp, name=names, position=[0.01] * len(names)))

    return publisher, node.create_timer(0.05, say)


def test_another_part_of_the_robot_may_have_another_publisher(rig, impostor):
    publisher, timer = joint_driver(impostor, ["wheel_left", "wheel_right"])
    rig.graph.until(lambda: publisher.get_subscription_count() > 0, what="the subscription")
    rig.until_moving(20)
    impostor.destroy_timer(timer)
    impostor.destroy_publisher(publisher)


def test_another_publisher_of_the_same_joint_disarms(rig, impostor):
    publisher, timer = joint_driver(impostor, [FINGERS[1]])
    rig.until_state(f"disarmed: 2 publishers on {TOPICS.joint_states}, ")
    rig.watch.forbid()
    assert "more than one of them publishes fr3_finger_joint2" in rig.safety[-1].data
    rig.assert_silence()
    impostor.destroy_timer(timer)
    impostor.destroy_publisher(publisher)


def covered(message):
    message.data[:] = message.data[:0].__class__("B", bytes(len(message.data)))


def random(message):
    message.data[:] = message.data[:0].__class__("B", noise(16, 16, message.header.stamp.nanosec).tobytes())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (covered, "the picture is black (mean 0.0 of 255"),
        (random, "the picture is noise (pixels 4 to 7 apart correlate"),
    ],
)
def test_a_lens_that_shows_nothing_is_a_reason_to_hold(rig, spoil, reason):
    rig.robot.spoil = {1: spoil}
    rig.until_held_because(f"image of view 2 ({WRIST}) was refused: {reason}")
    rig.robot.heal()
    rig.until_moving()


def test_a_stuck_camera_holds_an_arm_that_moves(rig):
    still = seen(16, 16).tobytes()

    def stuck(message):
        message.data[:] = message.data[:0].__class__("B", still)

    rig.robot.spoil = {0: stuck}
    rig.until_held_because(f"image of view 1 ({THIRD}) was refused: the picture has been the same to the last bit")
    rig.robot.heal()
    rig.until_moving()


def reliabilities(graph, topic):
    return [info.qos_profile.reliability for info in graph.node.get_subscriptions_info_by_topic(topic)]


def test_images_are_subscribed_as_they_are_offered_whoever_starts_first(tmp_path):
    with Graph(tmp_path) as graph:
        graph.start_stub()
        graph.until(lambda: reliabilities(graph, WRIST), what="the node")
        for profile in (qos.EVENTS, qos.POSE_OUT):
            publisher = graph.node.create_publisher(Image, WRIST, profile)
            graph.until(lambda: reliabilities(graph, WRIST) == [profile.reliability], what="the same")  # noqa: B023
            assert reliabilities(graph, THIRD) == [ReliabilityPolicy.BEST_EFFORT]
            graph.node.destroy_publisher(publisher)


def test_without_a_clock_arming_says_so(tmp_path):
    with Graph(tmp_path) as graph:
        rig = Rig(graph, use_sim_time=True, instruction="move")
        graph.until(lambda: reliabilities(graph, WRIST), what="the node")
        graph.until(lambda: "nobody publishes it" in rig.value("hold reason"), what="the reason in diagnostics")
        answer = graph.call(Trigger, f"{NODE}/arm", Trigger.Request())
        assert answer.message == (
            "there is no time: use_sim_time is true, so it comes from /clock, and nobody publishes it"
        )


def test_stamps_of_another_kind_of_time_are_named(tmp_path):
    """A bag or a simulator, and a node that was not told to use its clock."""
    with Graph(tmp_path) as graph:
        rig = Rig(graph, instruction="move")

        def simulated(message):
            message.header.stamp = convert.header(12_000_000_000, "").stamp

        rig.robot.spoil = dict.fromkeys([0, 1, "pose", "joints"], simulated)
        graph.until(lambda: "is stamped in simulated time (12.0 s)" in rig.value("hold reason"), what="the reason")
        assert "set use_sim_time: true" in rig.value("hold reason")


def gids(graph, topic):
    return {bytes(info.endpoint_gid) for info in graph.node.get_publishers_info_by_topic(topic)}


def test_a_driver_that_was_killed_is_not_held_against_its_successor(tmp_path):
    """Discovery still knows the dead one for about 20 s. At 1 kHz, as franka_ros2 publishes."""
    with Graph(tmp_path) as graph:
        rig = Rig(graph, instruction="move", supervision__enabled=False)  # this arm stands still
        graph.node.destroy_publisher(rig.robot._pose)
        rig.robot.silent, rig.robot.frozen = {"pose"}, True
        first = graph.start(*DRIVER, "pose", "1000")
        rig.arm()
        rig.until_moving()
        graph.until(lambda: float(rig.value(f"{TOPICS.ee_pose} rate [Hz]", "inputs") or 0) > 100, what="its rate")
        dead = gids(graph, TOPICS.ee_pose)
        first.signal(signal.SIGKILL)
        first.wait()
        graph.processes.remove(first)
        rig.until_held_because(f"{TOPICS.ee_pose} has no publisher any more; it was heard last")
        graph.start(*DRIVER, "pose", "1000")
        graph.until(lambda: gids(graph, TOPICS.ee_pose) - dead, what="the second one")
        answers = []

        def armed():
            answers.append(rig.trigger("arm"))
            return answers[-1][0]

        rig.watch.allow()
        graph.until(armed, what="arming")
        assert not [text for _, text in answers if "publishers on" in text], answers
        rig.until_moving()


@pytest.mark.slow
def test_large_raw_images_drive_the_arm(tmp_path):
    with Graph(tmp_path) as graph:
        rig = Rig(graph, instruction="move")
        for camera, topic in zip(rig.robot._cameras, TOPICS.images, strict=True):
            graph.node.destroy_publisher(camera)
            graph.start(*DRIVER, "camera", "30", topic, "1280", "720", "reliable")
        rig.robot.silent = {0, 1}
        rig.arm()
        rig.until_moving(40)
        graph.until(lambda: rig.value(f"{WRIST} message [MB]", "inputs") == "2.765", what="the size in diagnostics")
