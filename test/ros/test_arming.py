"""Nothing moves the arm that was not asked to: lifecycle, arming, emergency stop, on a live graph with every command
judged."""

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from ros_helpers import Graph
from ros_rig import NODE, Rig

from specprune_ros.msg import Action
from specprune_ros.ros import qos


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield Rig(graph)


@pytest.fixture
def rig(shared):
    """The shared node: healthy, disarmed and planning."""
    shared.begin_again()
    shared.say("move")
    shared.trigger("reset_estop")
    shared.stop("disarm")
    shared.chunks.clear()
    shared.graph.until(lambda: shared.chunks, what="a chunk")
    return shared


def test_nothing_is_commanded_before_arming_though_chunks_are_planned(tmp_path):
    with Graph(tmp_path) as graph:
        rig = Rig(graph, instruction="move")
        graph.until(lambda: len(rig.chunks) > 2, what="chunks")
        rig.until_state("disarmed: not armed yet; call ~/arm")
        assert rig.watch.seen == []
        rig.arm()
        rig.until_moving()


def test_the_first_command_comes_from_a_chunk_that_was_planned_after_arming(rig):
    for _ in range(3):
        begin = len(rig.watch.seen)
        before = rig.chunks[-1].chunk_id
        rig.arm()
        rig.until_moving(1)
        first = next(message for _, motion, message in rig.watch.seen[begin:] if motion.any())
        assert first.chunk_id > before
        rig.stop("disarm")
        rig.chunks.clear()
        rig.graph.until(lambda: rig.chunks, what="a chunk")


def test_disarming_rests_at_once_and_is_told(rig):
    assert rig.arm() == "armed: armed"
    rig.until_state("armed")
    rig.until_moving()
    assert rig.stop("disarm") == "disarmed: disarmed by ~/disarm; call ~/arm"
    rig.assert_silence()
    assert rig.watch.assert_at_rest() == 3, "safety.stop_cycles messages of rest, then silence"
    rig.until_state("disarmed by ~/disarm")
    rig.until_held_because("disarmed by ~/disarm")


def test_the_emergency_stop_latches(rig):
    rig.arm()
    rig.until_moving()
    rig.stop("estop")
    rig.until_state("estopped: ~/estop was called")
    success, why = rig.trigger("arm")
    assert not success and "the emergency stop is latched" in why and "~/reset_estop" in why
    rig.stop("disarm")
    rig.assert_silence()
    assert rig.trigger("reset_estop")[0]
    rig.until_state("disarmed: the emergency stop was reset; call ~/arm")
    rig.assert_silence()
    success, why = rig.trigger("reset_estop")
    assert not success and "not latched" in why
    rig.arm()
    rig.until_moving()


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"silent": {0}}, "image of view 1 (/camera/third_person/color/image_raw) is"),
        ({"silent": {"pose"}}, "robot state"),
    ],
)
def test_arming_needs_fresh_inputs(rig, spoilt, reason):
    for name, value in spoilt.items():
        setattr(rig.robot, name, value)
    rig.until_held_because("disarmed")
    rig.graph.until(lambda: reason in refused(rig), what=f"a refusal because {reason}")


def test_arming_needs_an_instruction(rig):
    rig.say("")
    rig.graph.until(lambda: "no instruction" in refused(rig), what="a refusal without a task")


def refused(rig):
    """Why arming was refused, empty when it was not; disarmed in any case."""
    rig.watch.allow()
    success, why = rig.trigger("arm")
    rig.stop("disarm")
    return "" if success else why


def test_another_publisher_blocks_arming_and_disarms(rig):
    rig.arm()
    rig.until_moving()
    rival = rig.graph.node.create_publisher(Action, f"{NODE}/action", qos.EVENTS)
    rig.until_state(f"disarmed: 1 other publisher on {NODE}/action: /test; stop it first")
    rig.watch.forbid()
    rig.assert_silence()
    success, why = rig.trigger("arm")
    assert not success and "1 other publisher" in why
    rig.graph.node.destroy_publisher(rival)
    rig.arm()
    rig.until_moving()


def test_a_long_hold_disarms(rig):
    assert rig.graph.set(NODE, "safety.hold_timeout", 0.5).successful
    rig.arm()
    rig.until_moving()
    rig.robot.silent = {1}
    rig.until_state("disarmed: held for 0.")
    rig.watch.forbid()
    assert "safety.hold_timeout 0.5 s): image of view 2" in rig.safety[-1].data
    rig.robot.heal()
    rig.assert_silence(0.6)
    assert rig.graph.set(NODE, "safety.hold_timeout", 30.0).successful
    rig.arm()
    rig.until_moving()


def test_an_arm_that_is_suddenly_elsewhere_must_be_armed_again(rig):
    assert rig.graph.set(NODE, "safety.hold_timeout", 1.0).successful
    rig.arm()
    rig.until_moving()
    rig.robot.x = 0.7
    rig.until_state("disarmed: the pose has not been possible for 0.2")
    rig.watch.forbid()
    assert "the end effector moved by 0." in rig.safety[-1].data and "limits.linear_speed" in rig.safety[-1].data
    success, why = rig.trigger("arm")
    # It may be looked at before the jump is: then it is the speed that the jump seems to have.
    assert not success and ("m are possible" in why or "stop whatever moves it" in why), why
    assert rig.graph.set(NODE, "safety.hold_timeout", 30.0).successful
    rig.graph.until(lambda: rig.trigger("arm")[0], what="arming, when the arm was there for SETTLED_S")
    rig.stop("disarm")


def test_limits_are_counted_in_the_diagnostics(rig):
    rig.say("wild")
    rig.arm()
    rig.until_moving(8)
    rig.graph.until(
        lambda: all(int(rig.value(f"limit {name}") or 0) > 0 for name in ("range", "speed", "acceleration")),
        what="counts of limits",
    )
    # What limits at this moment: an action in range may have come between two diagnostics.
    rig.graph.until(lambda: "out of range: " in rig.value("limits"), what="the limit with its value")


def test_the_lifecycle_can_be_gone_through_again_and_again(tmp_path):
    with Graph(tmp_path) as graph:
        rig = Rig(graph, auto_activate=False, instruction="move")

        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert graph.call(ChangeState, f"{NODE}/change_state", request).success
            return graph.call(GetState, f"{NODE}/get_state", GetState.Request()).current_state.id

        def refuses(text):
            success, why = rig.trigger("arm")
            assert not success and text in why, why

        refuses("unconfigured; configure the node")
        for _ in range(2):
            assert change(Transition.TRANSITION_CONFIGURE) == State.PRIMARY_STATE_INACTIVE
            refuses("inactive; activate the node")
            for _ in range(2):
                assert change(Transition.TRANSITION_ACTIVATE) == State.PRIMARY_STATE_ACTIVE
                rig.watch.forbid()
                rig.chunks.clear()
                graph.until(lambda: rig.chunks, what="a chunk while disarmed")
                rig.arm()
                rig.until_moving()
                assert change(Transition.TRANSITION_DEACTIVATE) == State.PRIMARY_STATE_INACTIVE
                rig.watch.forbid()
                rig.until_state("disarmed: the node was deactivated")
                rig.assert_silence(0.2)
                assert rig.watch.assert_at_rest() == 3
                refuses("inactive; activate the node")
            assert change(Transition.TRANSITION_CLEANUP) == State.PRIMARY_STATE_UNCONFIGURED
            refuses("unconfigured; configure the node")
        change(Transition.TRANSITION_CONFIGURE)
        change(Transition.TRANSITION_ACTIVATE)
        rig.arm()
        rig.until_moving()
        assert change(Transition.TRANSITION_ACTIVE_SHUTDOWN) == State.PRIMARY_STATE_FINALIZED
        rig.watch.forbid()
        rig.assert_silence(0.2)
        rig.process.signal()
        assert rig.process.wait() == 0
