"""A recorded run, written and read by the `rosbags` library, drives the policy node again: ros2 bag play --clock
without an apt ROS."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy")
rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="needs the package rosbags (extra: test)")

from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from ros_helpers import Graph, Robot
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from specprune_ros.config import Topics
from specprune_ros.msg import Action, ActionChunk, PruningStatus
from specprune_ros.ros import convert, qos

pytestmark = pytest.mark.slow

NODE = "/policy_node"
TOPICS = Topics()
INPUTS = {
    **dict.fromkeys(TOPICS.images, (Image, qos.SENSOR_OUT)),
    TOPICS.ee_pose: (PoseStamped, qos.POSE_OUT),
    TOPICS.joint_states: (JointState, qos.SENSOR_OUT),
}
OUTPUTS = {f"{NODE}/action": Action, f"{NODE}/chunk": ActionChunk, f"{NODE}/status": PruningStatus}
MESSAGES = Path(__file__).resolve().parents[2] / "msg"
SECONDS = 3.0
STORAGES = {"sqlite3": rosbag2.StoragePlugin.SQLITE3, "mcap": rosbag2.StoragePlugin.MCAP}


def type_name(kind):
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


@pytest.fixture(scope="module")
def types():
    """The messages of ROS 2, and ours from their definitions."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for kind in OUTPUTS.values():
        definition = (MESSAGES / f"{kind.__name__}.msg").read_text()
        store.register(get_types_from_msg(definition, type_name(kind)))
    return store


@pytest.fixture(scope="module", params=STORAGES)
def bag(request, types, tmp_path_factory):
    """A few seconds of a robot that stands still, and of what the node makes of it."""
    folder = tmp_path_factory.mktemp("bag")
    recorded = []
    with Graph(folder) as graph:

        def record(topic, kind):
            def keep(data):
                recorded.append((graph.node.get_clock().now().nanoseconds, topic, kind, data))

            graph.node.create_subscription(kind, topic, keep, qos.SENSOR_IN, raw=True)

        for topic, kind in ({topic: kind for topic, (kind, _) in INPUTS.items()} | OUTPUTS).items():
            record(topic, kind)
        Robot(graph)
        graph.start_stub(instruction="move")
        graph.until(lambda: any(topic == f"{NODE}/action" for _, topic, _, _ in recorded), what="an action")
        recorded.clear()
        graph.spin(SECONDS)
    path = folder / "run"
    with rosbag2.Writer(path, version=9, storage_plugin=STORAGES[request.param]) as writer:
        topics = {topic: kind for _, topic, kind, _ in recorded}
        connections = {
            topic: writer.add_connection(topic, type_name(kind), typestore=types) for topic, kind in topics.items()
        }
        for received_ns, topic, _, data in recorded:
            writer.write(connections[topic], received_ns, data)
    return path


def test_what_the_node_publishes_can_be_read_without_ros(bag, types):
    """The definitions in msg/ say what is in the bytes: every field reads as rclpy reads it."""
    seen = dict.fromkeys(OUTPUTS, 0)
    with rosbag2.Reader(bag) as reader:
        for connection, _, data in reader.messages():
            if connection.topic not in OUTPUTS:
                continue
            seen[connection.topic] += 1
            ours = deserialize_message(bytes(data), OUTPUTS[connection.topic])
            assert_same(types.deserialize_cdr(data, connection.msgtype), ours)
    assert min(seen.values()) > 0 and seen[f"{NODE}/action"] > 5


def assert_same(theirs, ours):
    for name in ours.get_fields_and_field_types():
        value, read = getattr(ours, name), getattr(theirs, name)
        if hasattr(value, "get_fields_and_field_types"):
            assert_same(read, value)
        elif (
            hasattr(value, "__len__")
            and not isinstance(value, str)
            and len(value)
            and hasattr(value[0], "get_fields_and_field_types")
        ):
            for one, other in zip(read, value, strict=True):
                assert_same(one, other)
        elif isinstance(value, float):
            assert read == pytest.approx(value, rel=0, abs=0, nan_ok=True)
        else:
            assert list(read) == list(value) if hasattr(value, "__len__") else read == value


class Player:
    """ros2 bag play --clock: what went in, at the pace at which it came."""

    def __init__(self, graph, path):
        self._graph, self._path = graph, path
        self._clock = graph.node.create_publisher(Clock, "/clock", 1)
        self._publishers = {topic: graph.node.create_publisher(kind, topic, q) for topic, (kind, q) in INPUTS.items()}

    def play(self):
        """The first and the last time in the bag [ns]."""
        with rosbag2.Reader(self._path) as reader:
            wanted = [connection for connection in reader.connections if connection.topic in self._publishers]
            previous_ns = reader.start_time
            for connection, received_ns, data in reader.messages(connections=wanted):
                self._graph.spin((received_ns - previous_ns) * 1e-9)
                previous_ns = received_ns
                self._clock.publish(Clock(clock=convert.header(received_ns, "").stamp))
                self._publishers[connection.topic].publish(bytes(data))
            return reader.start_time, reader.end_time


def test_a_replayed_bag_drives_the_node_again_and_again(bag, tmp_path):
    with Graph(tmp_path) as graph:
        actions, statuses = graph.listen(Action, f"{NODE}/action"), graph.listen(PruningStatus, f"{NODE}/status")
        player = Player(graph, bag)
        graph.start_stub(instruction="move", use_sim_time=True)
        ready = f"{NODE}/action", *INPUTS
        graph.until(lambda: graph.node.count_publishers(ready[0]), what="the node")
        graph.until(lambda: all(map(graph.node.count_subscribers, ready[1:])), what="its subscriptions")
        for _ in range(2):  # the second time, the clock jumps back to the beginning
            actions.clear()
            statuses.clear()
            first_ns, last_ns = player.play()
            graph.until(lambda: statuses and len(actions) > 5, 10.0, what="actions from the bag")
            stamps = [convert.stamp_ns(message.header, "") for message in (*actions, *statuses)]
            assert first_ns - 1_000_000_000 < min(stamps) and max(stamps) <= last_ns
            assert min(stamps) < (first_ns + last_ns) / 2  # from the start again, not from where it ended
            assert statuses[-1].tokens_kept == 384 and actions[-1].translation.x == pytest.approx(0.01)
