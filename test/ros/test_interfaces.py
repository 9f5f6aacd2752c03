"""MoveIt Servo's twists, target poses and grippers on a live graph; control_msgs and moveit_msgs only where they are
installed."""

import importlib
import signal
from functools import partial

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, TwistStamped
from ros_rig import NODE, PoseWatch, Rig, Watch
from std_msgs.msg import Float64

from specprune_ros.ros import qos

TWISTS, POSES = "/servo_node/delta_twist_cmds", "/target_pose"
TwistWatch = partial(Watch, kind=TwistStamped, topic=TWISTS)
TargetWatch = partial(PoseWatch, kind=PoseStamped, topic=POSES)
SERVO = {"output__interface": "servo_twist", "output__switch_servo": False, "output__gripper": "topic"}
POSE = {"output__interface": "target_pose", "output__gripper": "topic"}


def test_twists_are_velocities_and_end_with_three_zeros(graph):
    rig = Rig(graph, watch=TwistWatch, instruction="move", **SERVO)
    rig.arm()
    rig.until_moving(8)
    fastest = max(abs(message.twist.linear.x) for _, _, message in rig.watch.seen)
    assert 0.05 < fastest <= 0.1, "0.01 m in 0.05 s was wanted, 0.1 m/s is allowed"
    rig.stop("estop")
    rig.assert_silence()
    assert rig.watch.assert_at_rest() == 3
    assert not graph.node.count_publishers(f"{NODE}/action"), "one way out only"


def test_the_gripper_is_told_only_of_changes_and_again_after_arming(graph):
    gripper = graph.listen(Float64, f"{NODE}/gripper", qos.LATCHED)
    rig = Rig(graph, watch=TwistWatch, instruction="move", **SERVO)
    rig.arm()
    rig.until_moving(12)
    assert [message.data for message in gripper] == [0.0], "0.25 open is closed; said once"
    rig.say("open")
    graph.until(lambda: len(gripper) > 1, what="another gripper command")
    rig.until_moving(8)
    assert [message.data for message in gripper[1:]] == [0.04]
    rig.stop("disarm")
    rig.arm()
    graph.until(lambda: len(gripper) > 2, what="the gripper's command after arming")
    assert gripper[-1].data == 0.04, "somebody may have moved it meanwhile"


def test_a_stop_holds_the_last_target_and_arming_starts_from_the_measured_pose(graph):
    rig = Rig(graph, watch=TargetWatch, instruction="move", **POSE)
    rig.robot.sag = np.array([0.0, 0.0, -0.01])
    rig.arm()
    first = rig.robot.position.copy()
    rig.until_moving(20)
    rig.stop("disarm")
    rig.assert_silence()
    assert rig.watch.assert_at_rest() == 1, "a controller that holds needs to be told once"
    poses = [message.pose.position for _, _, message in rig.watch.seen]
    assert poses[-1].z == pytest.approx(poses[-2].z, abs=1e-9), "the last target, not the measured pose"
    assert poses[0].z == pytest.approx(first[2], abs=0.006), "the first target is where the arm was measured"
    graph.spin(0.5)
    rig.arm()
    second = rig.robot.position.copy()
    count = len(rig.watch.seen)
    rig.until_moving(1)
    assert rig.watch.seen[count][2].pose.position.z == pytest.approx(second[2], abs=0.006)


def test_a_load_does_not_let_the_arm_down_at_every_stop(graph):
    """Fault 1: with 2 cm of sag, eight gaps in the images took the arm from 0.296 m to below the table."""
    rig = Rig(graph, watch=TargetWatch, instruction="still", **POSE)
    rig.robot.sag = np.array([0.0, 0.0, -0.02])
    graph.spin(1.0)
    rig.arm()
    graph.until(lambda: len(rig.watch.seen) > 5, what="targets")
    height = rig.watch.target.position_m[2]
    for _ in range(8):
        rig.robot.silent = {0}
        graph.spin(0.7)
        rig.robot.silent = set()
        count = len(rig.watch.seen)
        graph.until(lambda: len(rig.watch.seen) > count + 3, what="targets after the gap")  # noqa: B023
        assert rig.watch.target.position_m[2] == pytest.approx(height, abs=1e-6)
    assert "armed" in rig.safety[-1].data and rig.robot.position[2] > height - 0.03


def test_a_pose_that_jumps_never_becomes_a_target(graph):
    rig = Rig(graph, watch=TargetWatch, instruction="move", **POSE)
    rig.arm()
    rig.until_moving()

    def elsewhere(message):
        message.pose.position.x = 1.4

    rig.robot.spoil = {"pose": elsewhere}
    rig.until_state("disarmed: the pose has not been possible for 0.2")
    rig.watch.forbid()
    rig.assert_silence()
    rig.robot.heal()
    rig.arm()
    rig.until_moving()
    rig.process.signal(signal.SIGINT)
    assert rig.process.wait() == 0
    graph.spin(0.3)
    rig.watch.assert_at_rest()


def installed(package):
    try:
        return bool(importlib.import_module(package))
    except ImportError:
        return False


@pytest.mark.parametrize(
    ("package", "parameters", "text"),
    [
        (
            "control_msgs",
            POSE | {"output__gripper": "action"},
            "output.gripper: 'action' needs the package control_msgs",
        ),
        ("moveit_msgs", SERVO | {"output__switch_servo": True}, "output.switch_servo: needs moveit_msgs"),
    ],
)
def test_a_message_package_that_is_missing_ends_the_start_with_the_remedy(graph, package, parameters, text):
    if installed(package):
        pytest.skip(f"{package} is installed")
    process = graph.start_stub(**parameters)
    assert process.wait() == 1 and text in process.text() and "apt install" in process.text()
    assert "Traceback" not in process.text()
