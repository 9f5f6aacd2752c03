"""What the policy node sees and shows on a live graph: any number of views, compressed images, TF, presets, debug
images, diagnostics."""

import importlib.util

import cv2
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pictures import seen
from rcl_interfaces.srv import GetParameters
from ros_helpers import Graph, Robot
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from specprune_ros.config import PRESETS
from specprune_ros.msg import Action, PruningStatus
from specprune_ros.observe.inputs import view_names
from specprune_ros.ros import convert, qos

NODE = "/policy_node"
HAS_TF2 = importlib.util.find_spec("tf2_ros") is not None


class Cameras:
    """Cameras of any number, raw or compressed, at 20 Hz."""

    def __init__(self, graph, topics, compressed=False):
        self._node, self._compressed, self._frame = graph.node, compressed, 0
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        self._publishers = [graph.node.create_publisher(kind, topic + suffix, qos.SENSOR_OUT) for topic in topics]
        graph.node.create_timer(0.05, self._publish)

    def _publish(self):
        stamp = convert.header(self._node.get_clock().now().nanoseconds, "")
        self._frame += 1
        for view, publisher in enumerate(self._publishers):
            pixels = seen(16, 16, 10 * self._frame + view)
            publisher.publish(jpeg(pixels, stamp) if self._compressed else convert.image(pixels, stamp))


def jpeg(pixels, stamp):
    data = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    return CompressedImage(header=stamp, format="rgb8; jpeg compressed bgr8", data=data)


def start(graph, topics, compressed=False, **parameters):
    """A moving node with these cameras: (its statuses, its actions)."""
    robot = Robot(graph)
    robot.silent = {0, 1}
    Cameras(graph, topics, compressed)
    statuses, actions = graph.listen(PruningStatus, f"{NODE}/status"), graph.listen(Action, f"{NODE}/action")
    images = f"[{', '.join(topics)}]"
    graph.start_stub(topics__images=images, policy__views=len(topics), instruction="move", **parameters)
    graph.until(lambda: statuses and len(actions) > 3, what="a flow of actions")
    return statuses, actions


@pytest.mark.parametrize("views", [1, 3])
def test_one_view_and_three_views_drive_the_arm(graph, views):
    topics = [f"/camera/{name}/image" for name in ("left", "right", "wrist")[:views]]
    statuses, _ = start(graph, topics)
    assert statuses[0].views == list(view_names(tuple(topics))) and statuses[0].tokens_total == 256 * views
    assert len(statuses[0].kept_static_per_view) == views
    name = view_names(tuple(topics))[-1]
    pictures = graph.listen(Image, f"{NODE}/debug_image/{name}", qos.SENSOR_IN)
    graph.until(lambda: pictures, what=f"the debug image of {name}")
    assert name == ("view1" if views == 1 else "wrist")


def test_compressed_images_drive_the_arm(graph):
    topics = ["/camera/third_person/color/image_raw", "/camera/wrist/color/image_raw"]
    statuses, _ = start(graph, topics, compressed=True, topics__image_transport="compressed")
    assert list(statuses[0].views) == ["third_person", "wrist"]
    wrist = graph.listen(Image, f"{NODE}/debug_image/wrist", qos.SENSOR_IN)
    both = graph.listen(Image, f"{NODE}/debug_image", qos.SENSOR_IN)
    graph.until(lambda: wrist and both, what="debug images")
    assert (wrist[0].encoding, both[0].encoding) == ("rgb8", "rgb8") and wrist[0].width < both[0].width
    assert {"/camera/wrist/color/image_raw"} < set(dict(graph.node.get_topic_names_and_types()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One healthy node that moves."""
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        robot = Robot(graph)
        graph.statuses = graph.listen(PruningStatus, f"{NODE}/status")
        graph.actions = graph.listen(Action, f"{NODE}/action")
        graph.reports = graph.listen(DiagnosticArray, "/diagnostics")
        graph.task = graph.node.create_publisher(String, f"{NODE}/instruction", qos.EVENTS)
        graph.robot = robot
        graph.start_stub(instruction="move")
        graph.until(lambda: graph.statuses and len(graph.actions) > 3, what="a flow of actions")
        yield graph


def values_of(graph, *names):
    answer = graph.call(GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=names))
    return [value.string_value or value.double_value for value in answer.values]


def test_a_preset_is_echoed_and_shows_in_the_values_it_sets(shared):
    assert shared.set(NODE, "pruning.preset", "aggressive").successful
    assert values_of(shared, "pruning.preset", "pruning.aggressiveness") == ["aggressive", 0.8]
    shared.until(lambda: shared.statuses[-1].preset == "aggressive", what="the echo")
    assert shared.statuses[-1].aggressiveness == pytest.approx(0.8)
    assert shared.set(NODE, "pruning.aggressiveness", 0.3).successful
    assert values_of(shared, "pruning.preset") == ["custom"]
    shared.until(lambda: shared.statuses[-1].preset == "custom", what="the echo")
    refused = shared.set(NODE, "pruning.preset", "wild")
    assert not refused.successful and "not one of conservative, paper, aggressive, custom" in refused.reason


def test_a_change_is_whole_at_the_next_inference(shared):
    """Whatever is set while an inference runs: each status is of one configuration, and the last one wins."""
    shared.statuses.clear()
    presets = ["conservative", "aggressive", "paper"] * 4
    for preset in presets:
        assert shared.set(NODE, "pruning.preset", preset).successful
    shared.until(lambda: len(shared.statuses) > 3 and shared.statuses[-1].preset == "paper", what="the last preset")
    for status in shared.statuses:
        if status.preset != "custom":  # left over from before
            expected = PRESETS[status.preset]["pruning.aggressiveness"]
            assert status.aggressiveness == pytest.approx(expected)
            assert status.tokens_kept == round(512 * (1 - 0.5 * expected))


def test_a_running_inference_keeps_the_configuration_it_began_with(shared):
    assert shared.set(NODE, "pruning.preset", "paper").successful
    shared.task.publish(String(data="slow"))
    shared.statuses.clear()
    shared.spin(0.5)  # in the middle of an inference
    assert shared.set(NODE, "pruning.preset", "aggressive").successful
    shared.until(lambda: len(shared.statuses) > 1 and shared.statuses[-1].preset == "aggressive", what="the echo")
    pairs = {(status.preset, round(float(status.aggressiveness), 3)) for status in shared.statuses}
    assert pairs == {("paper", 0.5), ("aggressive", 0.8)}
    shared.task.publish(String(data="move"))
    shared.set(NODE, "pruning.preset", "paper")


def test_the_speed_is_in_the_status_and_the_diagnostics(shared):
    shared.until(lambda: shared.statuses[-1].ee_linear_speed == 0.0, what="a measured speed")
    report(shared, "control", lambda part: "end effector [m/s]" in values(part))


def values(part):
    return {pair.key: pair.value for pair in part.values}


def report(graph, name, condition):
    """The next report of a part of the node that meets the condition."""

    def found():
        parts = [part for message in graph.reports for part in message.status if part.name == f"{NODE}: {name}"]
        return next((part for part in parts if condition(part)), None)

    graph.reports.clear()
    return graph.until(found, what=f"diagnostics of {name}")


def test_diagnostics_name_what_a_person_needs(shared):
    shared.task.publish(String(data="move"))
    control = values(report(shared, "control", lambda part: part.level == DiagnosticStatus.OK))
    wanted = {"control rate [Hz]", "safety", "safety reason", "deadline_misses", "limited", "limits", "hold reason"}
    assert wanted < set(control) and control["safety"] == "armed"
    assert any(key.startswith("limit ") for key in control)
    inference = values(report(shared, "inference", lambda part: part.level == DiagnosticStatus.OK))
    assert inference["preset"] == "paper" and inference["tokens kept"] == "384" and inference["failures"].isdigit()
    inputs = values(report(shared, "inputs", lambda part: part.level == DiagnosticStatus.OK))
    for topic in ("/camera/wrist/color/image_raw", "/franka_robot_state_broadcaster/current_pose", "/joint_states"):
        assert {f"{topic} rate [Hz]", f"{topic} age [s]"} <= set(inputs)


def test_a_silent_input_and_a_hold_are_warnings(shared):
    shared.robot.silent = {0}
    inputs = report(shared, "inputs", lambda part: part.level == DiagnosticStatus.WARN)
    assert inputs.message == "nothing on /camera/third_person/color/image_raw"
    control = report(shared, "control", lambda part: part.level == DiagnosticStatus.WARN)
    assert control.message.startswith("holding: image of view 1")
    shared.robot.heal()


@pytest.mark.parametrize(("task", "text"), [("raise", "the model broke"), ("nan", "not finite")])
def test_a_failing_inference_is_an_error_until_one_succeeds(shared, task, text):
    shared.task.publish(String(data=task))
    part = report(shared, "inference", lambda part: part.level == DiagnosticStatus.ERROR)
    assert text in part.message and int(values(part)["failures"]) > 0
    shared.task.publish(String(data="move"))
    report(shared, "inference", lambda part: part.level == DiagnosticStatus.OK and "tokens" in part.message)


def test_an_emergency_stop_is_an_error(shared):
    assert shared.call(Trigger, f"{NODE}/estop", Trigger.Request()).success
    part = report(shared, "control", lambda part: part.level == DiagnosticStatus.ERROR)
    assert part.message == "emergency stop: ~/estop was called"
    assert shared.call(Trigger, f"{NODE}/reset_estop", Trigger.Request()).success
    report(shared, "control", lambda part: part.level != DiagnosticStatus.ERROR)


@pytest.mark.skipif(not HAS_TF2, reason="tf2_ros is not installed")
def test_the_pose_may_come_from_tf(graph):
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    robot = Robot(graph)
    robot.silent = {"pose"}
    publisher = graph.node.create_publisher(TFMessage, "/tf", 10)

    def say():
        transform = TransformStamped(child_frame_id="fr3_hand_tcp")
        transform.header = convert.header(graph.node.get_clock().now().nanoseconds, "fr3_link0")
        transform.transform.translation.x, transform.transform.translation.z = 0.4, 0.3
        transform.transform.rotation.x, transform.transform.rotation.w = 1.0, 0.0
        publisher.publish(TFMessage(transforms=[transform]))

    graph.node.create_timer(0.02, say)
    statuses, actions = graph.listen(PruningStatus, f"{NODE}/status"), graph.listen(Action, f"{NODE}/action")
    graph.start_stub(instruction="move", robot__state_source="tf")
    graph.until(lambda: len(actions) > 3 and statuses[-1].ee_linear == 0.0, what="actions and a measured motion")


@pytest.mark.skipif(HAS_TF2, reason="tf2_ros is installed")
def test_tf_without_tf2_ends_the_start_with_the_remedy(graph):
    process = graph.start_stub(robot__state_source="tf")
    assert process.wait() == 1
    assert "robot.state_source: tf needs the package tf2_ros" in process.text() and "Traceback" not in process.text()
