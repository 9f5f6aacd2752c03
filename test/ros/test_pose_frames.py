"""The frame that poses are stamped with, on a live graph: franka_ros2's `base` is the base frame, `map` is not."""

import pytest

pytest.importorskip("rclpy")

from ros_rig import Rig

from specprune_ros.ros import convert
from specprune_ros.types import BadInput


def stamped(frame):
    def stamp(message):
        message.header.frame_id = frame

    return stamp


@pytest.mark.parametrize("parameters", [{}, {"robot__pose_frame": "base"}], ids=["defaults", "franka.yaml"])
def test_an_arm_whose_poses_are_stamped_base_is_moved_and_one_in_another_frame_held(graph, parameters):
    rig = Rig(graph, instruction="move", **parameters)
    rig.robot.spoil = {"pose": stamped("base")}
    rig.arm()
    rig.until_moving()
    rig.robot.spoil = {"pose": stamped("map")}
    rig.until_held_because("the pose is in frame 'map', expected 'fr3_link0' or 'base'")
    rig.robot.spoil = {}
    rig.until_moving()


def test_other_names_of_the_frame_are_whole_names():
    message = convert.pose(convert.end_effector(_pose("b"), "b", "/pose"), "b")
    for frame in ("", "bas", "base", "fr3_link"):
        message.header.frame_id = frame
        with pytest.raises(BadInput, match="only if it is the same frame by another name, set robot.pose_frame"):
            convert.end_effector(message, "fr3_link0", "/pose", ("bases",))


def _pose(frame):
    from geometry_msgs.msg import PoseStamped

    message = PoseStamped()
    message.header.frame_id, message.header.stamp.sec = frame, 5
    return message
