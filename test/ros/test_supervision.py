"""An armed arm on a live graph that does not do what it is told: the node disarms, says which way, and stays
disarmed."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, TwistStamped
from ros_helpers import Graph
from ros_rig import PoseWatch, Rig, Watch

INTERFACES = {
    "action": (Watch, {}),
    "servo_twist": (
        partial(Watch, kind=TwistStamped, topic="/servo_node/delta_twist_cmds"),
        {"output__interface": "servo_twist", "output__switch_servo": False, "output__gripper": "topic"},
    ),
    "target_pose": (
        partial(PoseWatch, kind=PoseStamped, topic="/target_pose"),
        {"output__interface": "target_pose", "output__gripper": "topic"},
    ),
}


def frozen(robot):
    robot.frozen = True


def pushed(robot):
    """By a hand that is stronger than the controller."""
    robot.frozen = True
    robot.push = np.array([0.0, 0.2, 0.0])


def jumped(robot):
    robot.frozen = True
    robot.x = robot.x + 0.3


def turned(robot):
    robot.frozen = True
    robot.place(robot.position, (np.cos(0.3), np.sin(0.3), 0.0, 0.0))


WRONG = {
    frozen: "does not follow",
    pushed: "end effector ",  # moves without being told, or does not follow: whichever shows first
    jumped: "the pose has not been possible",
    turned: "the pose has not been possible",
}


@pytest.fixture(scope="module", params=INTERFACES)
def shared(request, tmp_path_factory):
    watch, parameters = INTERFACES[request.param]
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield Rig(graph, watch=watch, instruction="move", **parameters)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_an_arm_that_does_not_do_what_it_is_told_is_disarmed(shared, wrong):
    shared.robot.heal()
    shared.robot.place(shared.robot.START)
    shared.graph.spin(1.2)
    shared.arm()
    shared.until_moving(12)
    shared.safety.clear()
    wrong(shared.robot)
    shared.graph.until(lambda: any("disarmed" in text.data for text in shared.safety), what="disarming")
    shared.watch.forbid()
    text = next(text.data for text in shared.safety if "disarmed" in text.data)
    assert WRONG[wrong] in text, text
    shared.assert_silence(0.5)
    shared.robot.heal()
    shared.assert_silence(0.5)
    assert len(shared.safety) == 1, "it does not arm itself again"
