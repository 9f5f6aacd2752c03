"""Faults on a live graph. Whatever happens, the arm is told to rest and nothing unsafe is commanded: every message is
judged by ros_rig.Watch.

The limits are those of a first day on a real arm. One node serves most cases, so each also shows that the one before
left no trace."""

import itertools
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from ros_helpers import NAN, Graph, SimulatedTime
from ros_rig import NODE, Rig

from specprune_ros.msg import Action
from specprune_ros.ros import convert, qos

WRIST = "image of view 2 (/camera/wrist/color/image_raw)"
THIRD = "image of view 1 (/camera/third_person/color/image_raw)"
POSE = "robot state (/franka_robot_state_broadcaster/current_pose)"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield Rig(graph)


@pytest.fixture
def rig(shared):
    """The shared node, healthy, armed and moving."""
    shared.begin_again()
    shared.say("move")
    shared.arm()
    shared.until_moving()
    return shared


def of_size(height, width):
    """The upper left part of each picture."""

    def spoil(message):
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)[:height, :width]
        message.height, message.width, message.step, message.data = height, width, 3 * width, pixels.tobytes()

    return spoil


def changed(**values):
    """Overwrites fields of a message."""

    def spoil(message):
        for name, value in values.items():
            setattr(message, name, value)

    return spoil


def older(seconds):
    """Stamped so much earlier."""

    def spoil(message):
        stamp_ns = convert.stamp_ns(message.header, "") - round(seconds * 1e9)
        message.header.stamp = convert.header(stamp_ns, "").stamp

    return spoil


def frozen():
    """The stamp of the first message, for ever."""
    first = []

    def spoil(message):
        first.append(message.header.stamp)
        message.header.stamp = first[0]

    return spoil


def shortened(message):
    del message.data[-1:]


def at(**place):
    def spoil(message):
        for name, value in place.items():
            setattr(message.pose.position, name, value)

    return spoil


def in_turns():
    """Two places, one after the other."""
    turns = itertools.count()
    return lambda message: at(x=0.4 + next(turns) % 2)(message)


def turned(message):
    message.pose.orientation.w = 1.0


def lost(message):
    message.header.stamp = convert.header(0, "").stamp


FAULTS = {
    "third camera dropped": ({"silent": {0}}, f"{THIRD} is"),
    "wrist camera dropped": ({"silent": {1}}, f"{WRIST} is"),
    "third camera frozen": ({0: frozen()}, f"{THIRD} is"),
    "wrist camera frozen": ({1: frozen()}, f"{WRIST} is"),
    "third camera delayed": ({0: older(0.6)}, f"{THIRD} is 0."),
    "wrist camera delayed": ({1: older(0.6)}, f"{WRIST} is 0."),
    "camera ahead of time": ({0: older(-5.0)}, "in the future"),
    "camera without stamps": ({1: lost}, "no time stamp"),
    "wrong encoding": ({0: changed(encoding="16UC1")}, "'16UC1' is not supported"),
    "short buffer": ({1: shortened}, "the image has 767 bytes; 16 rows of 48 bytes need 768"),
    "wrong step": ({0: changed(step=47)}, "a row step of 47 bytes is too small for 16 pixels"),
    "absurd size": ({1: changed(width=2**31, step=2**31)}, "row step of 2147483648 bytes is too small"),
    "empty image": ({0: changed(width=0)}, "the image is empty"),
    "state dropped": ({"silent": {"pose"}}, f"{POSE} is"),
    "state frozen": ({"pose": frozen()}, f"{POSE} is"),
    "state not finite": ({"pose": at(y=NAN)}, "not finite"),
    "state infinite": ({"pose": at(z=float("inf"))}, "not finite"),
    "no rotation": ({"pose": turned}, "quaternion has norm 1.414"),
    "wrong frame": (
        {"pose": lambda pose: changed(frame_id="world")(pose.header)},
        "in frame 'world', expected 'fr3_link0'",
    ),
    "fingers dropped": ({"silent": {"joints"}}, "/joint_states: the newest message is"),
    "fingers not finite": ({"joints": lambda joints: joints.position.__setitem__(-1, NAN)}, "fr3_finger_joint2 is nan"),
    "fingers unnamed": ({"joints": changed(name=[])}, "/joint_states: the newest message is"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_input_brings_the_arm_to_rest_until_it_is_good_again(rig, name):
    fault, reason = FAULTS[name]
    rig.robot.silent = fault.get("silent", set())
    rig.robot.spoil = {stream: spoil for stream, spoil in fault.items() if stream != "silent"}
    rig.until_held_because(reason)
    assert "armed" in rig.safety[-1].data, "a fault that passes does not disarm"
    rig.robot.heal()
    rig.until_moving()


def test_a_pose_whose_stamps_go_back_disarms(rig):
    """Nothing can be compared with what was commanded before."""
    rig.robot.spoil = {"pose": older(0.6)}
    rig.until_state("disarmed: the stamps of the robot state went back by 0.")
    rig.watch.forbid()
    rig.assert_silence()
    rig.robot.heal()
    rig.arm()
    rig.until_moving()


@pytest.mark.parametrize("name", ["state jumps", "two drivers disagree"])
def test_a_pose_that_cannot_be_disarms(rig, name):
    rig.robot.spoil = {"pose": at(x=1.4) if name == "state jumps" else in_turns()}
    rig.until_state("disarmed: the pose has not been possible for 0.2")
    rig.watch.forbid()
    rig.assert_silence()
    rig.robot.heal()
    rig.graph.spin(0.5)
    rig.assert_silence()
    rig.arm()
    rig.until_moving()


@pytest.mark.parametrize(
    "spoil",
    [
        {0: of_size(8, 16)},
        {1: of_size(16, 8)},
        {0: changed(encoding="bgr8")},
    ],
)
def test_an_image_of_another_size_or_order_is_an_image(rig, spoil):
    rig.robot.spoil = spoil
    rig.until_moving(12)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("raise", "the model broke"),
        ("nan", "values that are not finite"),
        ("short", "action chunk has shape (7, 7), the policy promised 8 steps"),
        ("slow", "has been running for"),
        ("", "no instruction"),
    ],
)
def test_a_broken_policy_brings_the_arm_to_rest(rig, task, reason):
    rig.say(task)
    rig.until_held_because(reason)
    rig.say("move")
    rig.until_moving()


def test_wild_numbers_are_limited_and_nothing_else(rig):
    rig.say("wild")
    rig.until_moving(30)
    assert any(abs(motion[:3]).max() > 0.002 for _, motion, _ in rig.watch.seen[-30:])


def test_at_a_wall_the_arm_goes_no_further(rig):
    rig.say("wild")
    for x in (0.2001, 0.7999):
        rig.stop("disarm")  # moved there by somebody else
        rig.robot.x = x
        rig.graph.spin(1.5)  # until it is believed there
        rig.arm()
        rig.until_moving(12)
    rig.graph.until(lambda: int(rig.value("limit workspace") or 0) > 0, what="a workspace limit")


def test_the_old_task_moves_nothing_after_the_new_one(rig):
    for task, sign in (("back", -1.0), ("move", 1.0)) * 3:
        rig.say(task)
        begin = len(rig.watch.seen)
        seen = lambda begin=begin, sign=sign: [m for _, m, _ in rig.watch.seen[begin:] if sign * m[0] > 0]  # noqa: E731
        rig.graph.until(seen, what=f"motion of {task}")
        after = [sign * motion[0] > 0 for _, motion, _ in rig.watch.seen[begin:] if motion.any()]
        assert after == sorted(after), "old, then new, never mixed"
        rig.until_moving()


def test_a_storm_of_parameters_leaves_a_valid_configuration_and_motion(rig):
    good = {
        "pruning.aggressiveness": [0.0, 0.3, 1.0],
        "control.blend_steps": [0, 2, 4],
        "limits.linear_speed": [0.02, 0.05, 0.1],
    }
    bad = {
        "limits.linear_speed": [-1.0, NAN, 99.0],
        "control.lead_steps": [200],
        "pruning.aggressiveness": [2.0],
        "nonsense": [1],
    }
    choices = [(name, value) for table in (good, bad) for name, values in table.items() for value in values]
    client = rig.graph.node.create_client(SetParameters, f"{NODE}/set_parameters")
    rig.graph.until(client.service_is_ready, what="the parameter service")
    moves = len(rig.watch.moves())
    asked = []  # not all at once: a service's queue has 10 places
    for name, value in itertools.islice(itertools.cycle(choices), 200):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        asked.append((name, value, client.call_async(request)))
        rig.graph.until(lambda: sum(not future.done() for _, _, future in asked) < 8, what="answers")
    rig.graph.until(lambda: all(future.done() for _, _, future in asked), what="200 answers")
    for name, value, future in asked:
        [result] = future.result().results
        assert result.successful == (value in good.get(name, [])), (name, value, result.reason)
        assert result.successful or result.reason
    rig.graph.until(lambda: len(rig.watch.moves()) > moves + 12, what="motion")
    names = list(good)
    values = rig.graph.call(GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=names)).values
    for name, value in zip(names, values, strict=True):
        assert (value.double_value or value.integer_value) in good[name]
    assert rig.graph.set(NODE, "limits.linear_speed", 0.1).successful


def test_a_second_publisher_stops_the_arm(rig):
    rival = rig.graph.node.create_publisher(Action, f"{NODE}/action", qos.EVENTS)
    rig.until_state("disarmed: 1 other publisher")
    rig.watch.forbid()
    rig.assert_silence()
    rig.graph.node.destroy_publisher(rival)
    rig.assert_silence()


def test_a_model_that_hangs_is_given_up_and_the_node_still_answers(rig):
    """The last case of the shared node: it does not come back from this."""
    assert rig.graph.set(NODE, "safety.hold_timeout", 1.0).successful
    rig.say("hang")
    rig.until_state("disarmed: held for 1.")
    rig.watch.forbid()
    rig.until_held_because("disarmed: held for 1.")
    assert "has been running for" in rig.safety[-1].data
    rig.say("move")
    rig.stop("estop")
    rig.assert_silence()
    rig.process.signal(signal.SIGTERM)
    assert rig.process.wait() == 0
    rig.watch.assert_at_rest()


def test_a_killed_node_starts_disarmed(graph):
    rig = Rig(graph, instruction="move")
    rig.arm()
    rig.until_moving()
    rig.process.signal(signal.SIGKILL)
    rig.process.wait()
    graph.processes.remove(rig.process)
    rig.watch.forbid()
    rig.watch.start_anew()
    rig.chunks.clear()
    rig.start()
    rig.safety.clear()
    graph.until(lambda: len(rig.chunks) > 3, what="chunks of the new one")
    rig.until_state("disarmed: not armed yet")
    # Killed in the middle of a motion, silent since.
    assert rig.watch.moves() == rig.watch.seen[-len(rig.watch.moves()) :]
    rig.watch.allow()
    success, why = rig.trigger("arm")
    assert success, f"discovery still lists the killed node's publisher, and nothing else may be in the way: {why}"


def test_a_crash_of_the_node_ends_with_a_stop(graph):
    rig = Rig(graph, instruction="move")
    rig.arm()
    rig.until_moving()
    rig.say("crash")
    assert rig.process.wait() != 0 and "nobody has thought of" in rig.process.text()
    graph.processes.remove(rig.process)
    graph.until(lambda: not rig.watch.seen[-1][1].any(), what="a stop")
    rig.assert_silence()


@pytest.mark.parametrize("jump_s", [60.0, -60.0])
def test_a_clock_that_jumps_brings_the_arm_to_rest_first(graph, jump_s):
    clock = SimulatedTime(graph)
    clock.now_ns = 100 * convert.NANOSECONDS
    rig = Rig(graph, clock, use_sim_time=True, instruction="move")
    rig.arm()
    rig.until_moving()
    before = clock.now_ns
    rig.watch.forward = jump_s > 0
    clock.now_ns += round(jump_s * 1e9)
    if jump_s < 0:  # what is measured from now on cannot be compared with what was commanded before
        rig.until_state("disarmed: ")
        assert "went back by 60.0" in rig.safety[-1].data or "went back by 59.9" in rig.safety[-1].data
        rig.watch.forbid()
        rig.assert_silence()
        rig.arm()
    rig.until_moving()
    after = [entry for entry in rig.watch.seen if abs(entry[0] - before) > 30e9]
    assert not after[0][1].any(), "the first message after the jump is rest"
