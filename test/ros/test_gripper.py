"""The gripper's ROS side on live servers: Franka's own actions, the common one, and the topic.

control_msgs and franka_msgs are not on PyPI: where they are missing, what needs them is skipped."""

import pytest

pytest.importorskip("rclpy")

from functools import partial

from fake_franka import BASE, FakeHand, actions
from geometry_msgs.msg import PoseStamped
from ros_rig import PoseWatch
from ros_rig import Rig as NodeRig
from std_msgs.msg import Float64

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.hand import MOST_TRIES
from specprune_ros.ros import qos
from specprune_ros.ros.gripper import GripperOutput

with_common = pytest.mark.skipif(not actions("control_msgs"), reason="control_msgs is not installed (not on PyPI)")
with_own = pytest.mark.skipif(not actions("franka_msgs"), reason="franka_msgs is not installed (not on PyPI)")


class Rig:
    """A gripper that is told a wish in every period, as the node does."""

    def __init__(self, graph, **output):
        settings = {"output.gripper": "action"} | {f"output.{name}": value for name, value in output.items()}
        self.graph = graph
        self.gripper = GripperOutput(graph.node, Config.from_mapping(settings))

    @property
    def state(self):
        return self.gripper.state()

    def want(self, opening, reached):
        self.gripper.want(opening, 0.1)
        self.graph.until(lambda: self.state.reached == reached, what=f"{reached}; {self.state}")

    def until_error(self, text):
        self.graph.until(lambda: text in self.state.error, what=f"{text!r}; {self.state}")


def sent(hand, action):
    return [goal for name, goal in hand.goals if name == action]


@with_own
def test_a_franka_grasps_an_object_of_any_thickness_and_opens_to_what_it_reaches(graph):
    hand, rig = FakeHand(graph.node), Rig(graph)
    hand.object = 0.055
    rig.want(0.0, "closed")
    [grasp] = sent(hand, "grasp")
    assert (grasp.width, grasp.speed, grasp.force) == (0.0, 0.1, 20.0)
    assert grasp.epsilon.outer > 0.1 and not sent(hand, "gripper_action"), "the better server is used"
    rig.want(1.0, "open")
    assert [goal.width for goal in sent(hand, "move")] == [0.08, pytest.approx(0.076)], "0.0797 is as far as it goes"
    rig.want(0.0, "closed")
    rig.want(1.0, "open")
    assert sent(hand, "move")[-1].width == pytest.approx(0.076) and len(sent(hand, "move")) == 3
    assert rig.state.error == ""


@with_own
def test_a_hand_that_was_not_homed_is_said_with_the_command_that_homes_it(graph):
    hand, rig = FakeHand(graph.node), Rig(graph)
    hand.homed = False
    rig.gripper.want(1.0, 0.1)
    rig.until_error("given up")
    assert len(sent(hand, "move")) == MOST_TRIES
    assert (
        "opening to 0.038 m a finger was aborted (/franka_gripper/move: libfranka gripper: Command" in rig.state.error
    )
    assert "ros2 action send_goal /franka_gripper/homing franka_msgs/action/Homing {}" in rig.state.error


@with_own
def test_homing_is_done_before_arming_and_once(graph):
    hand, rig = FakeHand(graph.node), Rig(graph, gripper_homing=True)
    hand.homed = False
    assert "is being homed" in rig.gripper.obstacle() and rig.gripper.preparing
    graph.until(lambda: rig.gripper.obstacle() is None, what="homing")
    rig.want(1.0, "open")
    assert len(sent(hand, "homing")) == 1 and not rig.gripper.preparing


@with_own
def test_one_call_of_arm_homes_the_hand_first_and_says_when_nothing_can(graph):
    watch = partial(PoseWatch, kind=PoseStamped, topic="/target_pose")
    parameters = {"output__interface": "target_pose", "output__gripper_homing": True}
    rig = NodeRig(graph, watch=watch, instruction="move", **parameters)
    refusals = []

    def refused():
        refusals.append(rig.trigger("arm"))
        return "homing is not possible: no server of /franka_gripper/homing" in refusals[-1][1]

    graph.until(refused, what="a refusal with the reason")
    assert not any(success for success, _ in refusals)
    hand = FakeHand(graph.node)
    hand.homed = False
    rig.arm()
    assert hand.homed and hand.goals[0][0] == "homing"
    rig.until_moving(8)
    rig.stop("disarm")
    rig.arm()
    assert len(sent(hand, "homing")) == 1, "once is enough"


@with_common
def test_through_the_common_action_a_thick_object_is_a_failed_grasp_and_the_remedy_is_said(graph):
    hand, rig = FakeHand(graph.node, own=False), Rig(graph)
    hand.object = 0.055
    rig.gripper.want(0.0, 0.1)
    rig.until_error("given up")
    assert [goal.command.position for goal in sent(hand, "gripper_action")] == [0.0] * MOST_TRIES
    for part in (
        "position 0.0550 m",
        "reached_goal false, stalled false",
        "default_grasp_epsilon.outer",
        "franka_msgs",
    ):
        assert part in rig.state.error
    hand.object = 0.003
    rig.want(1.0, "open")
    assert [goal.command.position for goal in sent(hand, "gripper_action")[2:]] == [0.04, pytest.approx(0.038)]
    rig.want(0.0, "closed")
    assert sent(hand, "gripper_action")[-1].command.max_effort == 20.0 and rig.state.error == ""


@with_common
def test_a_goal_that_is_refused_or_hangs_is_said_and_a_changed_wish_cancels_it(graph):
    hand, rig = FakeHand(graph.node, own=False), Rig(graph)
    hand.refuses = True
    rig.gripper.want(0.0, 0.1)
    rig.until_error("was rejected (/franka_gripper/gripper_action); given up")
    hand.refuses, hand.hangs = False, True
    rig.gripper.want(1.0, 0.1)
    graph.until(lambda: len(hand.goals) == 1, what="the goal")
    assert "opening, try 1 of 2, accepted" in rig.state.doing or "sent" in rig.state.doing
    rig.gripper.want(0.0, 0.1)
    graph.until(lambda: len(hand.goals) == 2, what="the next goal, when the first was canceled")
    hand.hangs = False
    graph.until(lambda: rig.state.reached == "closed", what="closed")
    assert rig.state.error == ""


@with_common
def test_a_server_that_is_missing_or_vanishes_is_said_and_waited_for(graph):
    rig = Rig(graph)
    rig.gripper.want(0.0, 0.1)
    rig.until_error(f"no server of {BASE}/gripper_action")
    hand = FakeHand(graph.node, own=False)
    graph.until(lambda: rig.state.reached == "closed", what="closed, once there is a server")
    hand.hangs = True
    rig.gripper.want(1.0, 0.1)
    graph.until(lambda: len(hand.goals) == 2, what="the goal")
    graph.spin(0.3)
    hand.hangs = False
    hand.vanish()
    rig.until_error("the server vanished (no server of")
    hand = FakeHand(graph.node, own=False)
    graph.until(lambda: rig.state.reached == "open", what="open, once there is a server again")


@with_common
def test_the_node_follows_the_policys_wish_and_says_in_the_diagnostics_what_went_wrong(graph):
    hand = FakeHand(graph.node, own=False)
    watch = partial(PoseWatch, kind=PoseStamped, topic="/target_pose")
    rig = NodeRig(graph, watch=watch, instruction="move", output__interface="target_pose", topics__franka_gripper="''")
    rig.arm()
    rig.until_moving(8)
    graph.until(lambda: rig.value("reached", "gripper") == "closed", what="a closed gripper")
    assert [goal.command.position for goal in sent(hand, "gripper_action")] == [0.0], "0.25 open is closed; said once"
    hand.homed = False
    rig.say("open")
    graph.until(lambda: "given up" in rig.value("error", "gripper"), what="the reason")
    assert "opening to 0.038 m a finger was aborted" in rig.process.text()
    hand.homed = True
    rig.stop("disarm")
    rig.arm()
    graph.until(lambda: rig.value("reached", "gripper") == "open", what="another try, after arming")


def test_the_topic_is_told_only_of_changes_and_again_after_release(graph):
    heard = graph.listen(Float64, "/test/gripper", qos.LATCHED)
    rig = Rig(graph, gripper="topic")
    for count, openings in enumerate(((0.2, 0.3), (0.9, 0.8), (0.9,)), start=1):
        if count == 3:
            rig.gripper.release()
        for opening in openings:
            rig.gripper.want(opening, 0.1)
        graph.until(lambda wanted=count: len(heard) >= wanted, what="a command")
    graph.spin(0.2)
    assert [message.data for message in heard] == [0.0, 0.04, 0.04]


def test_none_moves_nothing_and_knows_it(graph):
    rig = Rig(graph, gripper="none")
    rig.gripper.want(0.9, 0.1)
    assert rig.gripper.obstacle() is None and rig.state.error == ""
    assert not graph.node.count_publishers("/test/gripper")


@pytest.mark.skipif(bool(actions("control_msgs")), reason="control_msgs is installed")
def test_an_action_without_its_package_is_refused_with_the_remedy(graph):
    with pytest.raises(ConfigError, match=r"output.gripper: 'action' needs .*control_msgs.*apt install"):
        Rig(graph)
