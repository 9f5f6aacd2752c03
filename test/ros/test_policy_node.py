"""The policy node on a live graph, in a process of its own: what it publishes, what it refuses, how it ends.

A stub stands for the model, so that these tests are about the node; test_ros_real_policy.py has the real one.
"""

import signal

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import NAN, Graph, Robot, SimulatedTime
from sensor_msgs.msg import Image
from std_msgs.msg import String

from specprune_ros.bench.faults.policy import GRIPPER, MOTION
from specprune_ros.msg import Action, ActionChunk, PruningStatus
from specprune_ros.ros import convert, qos
from specprune_ros.sim.panda import robot_urdf

NODE = "/policy_node"


class Bench:
    """A running node with a robot, and everything the node says."""

    def __init__(self, graph, clock=None, **parameters):
        self.graph, self.robot = graph, Robot(graph, clock)
        self.actions = graph.listen(Action, f"{NODE}/action")
        self.chunks = graph.listen(ActionChunk, f"{NODE}/chunk")
        self.statuses = graph.listen(PruningStatus, f"{NODE}/status")
        self.diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        self.task = graph.node.create_publisher(String, f"{NODE}/instruction", qos.EVENTS)
        self.process = graph.start_stub(**parameters)

    def say(self, text):
        self.task.publish(String(data=text))

    def until_moving(self):
        self.actions.clear()
        self.graph.until(lambda: len(self.actions) > 3, what="a flow of actions")

    def until_held_because(self, text):
        """Until /diagnostics names the reason; then rest on the action topic, at the end of braking and three times
        more, and silence."""
        self.graph.until(lambda: text in self.reason(), what=f"holding because {text!r}")
        self.actions.clear()
        self.graph.spin(0.4)
        assert all(map(stands_still, self.actions)) and len(self.actions) <= 5

    def reason(self):
        """The hold reason in the newest diagnostics."""
        for status in self.diagnostics[-1].status if self.diagnostics else ():
            if status.name == f"{NODE}: control":
                return next(pair.value for pair in status.values if pair.key == "hold reason")
        return ""

    def next_status(self):
        """The status of the next inference but one: the next may have been asked for already."""
        seen = len(self.statuses)
        self.graph.until(lambda: len(self.statuses) > seen + 1, what="another status")
        return self.statuses[-1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield Bench(graph)


@pytest.fixture
def bench(shared):
    """The shared node, healthy and moving."""
    shared.robot.heal()
    shared.graph.until(lambda: shared.task.get_subscription_count() > 0, what="the node")
    shared.say("move")
    shared.until_moving()
    return shared


def test_actions_come_at_the_control_rate_in_metres_and_radians(bench):
    bench.actions.clear()
    bench.graph.spin(1.0)
    assert 5 <= len(bench.actions) <= 24  # never faster than the rate; slower where the machine is busy
    message = next(action for action in reversed(bench.actions) if not stands_still(action))
    assert message.header.frame_id == "fr3_link0" and message.period == 0.05
    assert (message.translation.x, message.translation.z) == pytest.approx((0.05 * MOTION[0], 0.05 * MOTION[2]))
    assert message.rotation.z == pytest.approx(0.5 * MOTION[5]) and message.gripper == GRIPPER
    stamps = [convert.stamp_ns(action.header, "") for action in bench.actions]
    assert stamps == sorted(set(stamps))


def test_each_inference_has_a_chunk_and_a_status(bench):
    status = bench.next_status()
    chunk = next(chunk for chunk in bench.chunks if chunk.chunk_id == status.chunk_id)
    assert len(chunk.actions) == 8 and chunk.instruction == "move"
    assert chunk.header.stamp == status.header.stamp
    assert (status.tokens_total, status.tokens_kept) == (512, 384)
    assert list(status.views) == ["third_person", "wrist"]
    assert 0.0 < status.chunk_age < 1.0
    bench.graph.until(lambda: bench.statuses[-1].ee_linear == 0.0, what="a measured motion")


def test_a_live_change_shows_in_the_next_status(bench):
    assert bench.graph.set(NODE, "pruning.aggressiveness", 1).successful
    status = bench.next_status()
    assert (status.aggressiveness, status.tokens_kept) == (1.0, 256)
    assert bench.graph.set(NODE, "pruning.aggressiveness", 0.5).successful
    assert bench.next_status().tokens_kept == 384


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("pruning.aggressiveness", 1.5, "Max: 1.0"),
        ("control.lead_steps", 8, "must be below control.execute_steps"),
        ("control.rate", 10.0, "read-only"),
        ("pruning.static.similarity", "ssim", "not one of rgb_cosine, absolute"),
        ("pruning.agressiveness", 0.5, "undeclared"),
    ],
)
def test_a_refused_change_says_why(bench, name, value, reason):
    result = bench.graph.set(NODE, name, value)
    assert not result.successful and reason in result.reason


def test_the_debug_image_shows_all_views(bench):
    images = bench.graph.listen(Image, f"{NODE}/debug_image", qos.SENSOR_IN)
    bench.graph.until(lambda: images, what="a debug image")
    assert images[0].encoding == "rgb8" and images[0].width > 2 * images[0].height // 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"spoil": {0: lambda image: setattr(image, "encoding", "16UC1")}}, "'16UC1' is not supported"),
        ({"spoil": {"pose": lambda pose: setattr(pose.pose.position, "x", NAN)}}, "not finite"),
        ({"finger": NAN}, "position of fr3_finger_joint1 is nan"),
        ({"silent": {1}}, "image of view 2 (/camera/wrist/color/image_raw) is"),
        ({"silent": {"pose"}}, "robot state (/franka_robot_state_broadcaster/current_pose) is"),
        ({"silent": {"joints"}}, "/joint_states: the newest message is"),
    ],
)
def test_a_bad_or_missing_input_stops_the_actions_until_it_is_good_again(bench, fault, reason):
    for name, value in fault.items():
        setattr(bench.robot, name, value)
    bench.until_held_because(reason)
    bench.robot.heal()
    bench.until_moving()


@pytest.mark.parametrize(
    ("task", "reason"),
    [("nan", "values that are not finite"), ("raise", "the model broke"), ("", "no instruction")],
)
def test_a_broken_policy_or_no_task_stops_the_actions(bench, task, reason):
    bench.say(task)
    bench.until_held_because(reason)
    bench.say("move")
    bench.until_moving()


def test_a_new_instruction_starts_without_memory(bench):
    def remembers():
        return bench.statuses and bench.statuses[-1].used_last_attention

    bench.graph.until(remembers, what="an inference with memory")
    bench.chunks.clear()
    bench.say("move away")
    bench.graph.until(lambda: any(chunk.instruction == "move away" for chunk in bench.chunks), what="a new chunk")
    first = next(chunk.chunk_id for chunk in bench.chunks if chunk.instruction == "move away")
    of_first = bench.graph.until(lambda: [status for status in bench.statuses if status.chunk_id == first])
    assert not of_first[0].used_last_attention
    bench.graph.until(remembers, what="an inference that remembers the new task")


def test_diagnostics_name_rates_and_counts(bench):
    bench.graph.until(lambda: bench.reason() == "", what="diagnostics of a moving node")
    values = {pair.key: pair.value for status in bench.diagnostics[-1].status for pair in status.values}
    assert 3 < float(values["control rate [Hz]"]) < 60  # it makes up for a pause of the machine
    assert 3 < float(values["/camera/wrist/color/image_raw rate [Hz]"]) < 60
    assert values["tokens kept"] == "384" and int(values["commands"]) > 0


def test_simulated_time_drives_the_node_also_when_it_jumps_back(graph):
    clock = SimulatedTime(graph)
    bench = Bench(graph, clock, use_sim_time=True, instruction="move")
    bench.until_moving()
    clock.now_ns += 60_000_000_000
    bench.until_moving()
    assert convert.stamp_ns(bench.actions[-1].header, "") > 60_000_000_000
    clock.now_ns = 5_000_000_000
    bench.actions.clear()
    early = graph.until(
        lambda: [a for a in bench.actions if a.header.stamp.sec < 60][3:], what="actions after the jump"
    )
    assert convert.stamp_ns(early[-1].header, "") >= 5_000_000_000


def test_the_pose_may_come_from_joints_and_the_robot_description(graph):
    bench = Bench(graph, robot__state_source="joints", instruction="move")
    bench.robot.silent = {"pose"}
    bench.until_held_because("/robot_description: no robot description yet")
    graph.node.create_publisher(String, "/robot_description", qos.LATCHED).publish(String(data=robot_urdf()))
    bench.until_moving()
    graph.until(lambda: bench.statuses and bench.statuses[-1].ee_linear == 0.0, what="a measured motion")


def test_a_clock_that_stands_still_is_named(graph):
    bench = Bench(graph, use_sim_time=True, instruction="move")
    bench.until_held_because("/clock")


@pytest.fixture
def terminal():
    """Started with SIGHUP ignored, as by nohup, a node goes on ignoring it: here it is started from a terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "task"), [(signal.SIGTERM, "move"), (signal.SIGINT, "hang"), (signal.SIGHUP, "move")]
)
def test_the_last_message_is_a_stop(graph, number, task, terminal):
    bench = Bench(graph, instruction="move")
    bench.until_moving()
    if task == "hang":
        bench.say(task)
        graph.until(lambda: "inference" in bench.reason(), what="holding")
    bench.process.signal(number)
    assert bench.process.wait() == 0
    graph.until(lambda: bench.actions and stands_still(bench.actions[-1]), what="a stop")
    graph.spin(0.3)
    assert stands_still(bench.actions[-1]) and bench.actions[-1].gripper == GRIPPER


def stands_still(action):
    return all(getattr(part, axis) == 0.0 for part in (action.translation, action.rotation) for axis in "xyz")


def test_parameters_that_cannot_be_used_end_the_start(graph):
    unknown = graph.start_stub(pruning__agressiveness=0.5)
    views = graph.start_stub(topics__images="[/only_one]")
    assert unknown.wait() == 1 and views.wait() == 1
    assert "unknown parameter 'pruning.agressiveness'; did you mean pruning.aggressiveness" in unknown.text()
    assert "topics.images: 1 topics for a policy with 2 views" in views.text()
    assert "Traceback" not in unknown.text() + views.text()
