"""Names in config/franka.yaml, and our defaults, against what the sources of Franka's and RealSense's packages say."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from specprune_ros.config import Config, flattened
from specprune_ros.sim import panda

ROOT = Path(__file__).parents[2]
FACTS = yaml.safe_load((ROOT / "test" / "facts" / "franka_ros2.yaml").read_text())
DRIVER, ARM = FACTS["franka_ros2"], FACTS["franka_description"]


def of_file(name):
    [content] = yaml.safe_load((ROOT / "config" / name).read_text()).values()
    return Config.from_mapping(dict(flattened(content["ros__parameters"])))


CONFIGURATIONS = {"defaults": Config(), "franka.yaml": of_file("franka.yaml")}
each = pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


@each
def test_topics_are_those_of_the_driver(config):
    topics = config.topics
    assert topics.ee_pose == DRIVER["pose"]["topic"]
    assert topics.joint_states == DRIVER["joint_states"]["topic"]
    assert topics.robot_description == DRIVER["robot_description"]["topic"]
    assert topics.franka_robot_state == DRIVER["robot_state"]["topic"]


@each
def test_poses_are_believed_in_the_frame_that_the_driver_stamps_them_with(config):
    assert DRIVER["pose"]["frame"] == "root of the URDF"
    joint = ARM["base_joint"]
    assert joint["parent"] == ARM["root"] and joint["child"] == config.robot.base_frame
    assert not any([*joint["xyz"], *joint["rpy"]]), "two names of one frame"
    assert ARM["root"] in (config.robot.base_frame, *config.robot.same_frames)


def test_a_frame_of_the_same_name_on_another_robot_is_not_taken_for_its_base():
    """`base` and `base_link` of a Universal Robots arm are turned by 180 degrees against each other."""
    assert Config.from_mapping({"robot.base_frame": "base_link"}).robot.same_frames == ()
    assert Config.from_mapping({"robot.base_frame": "left_fr3_link0"}).robot.same_frames == ("base",)
    assert Config.from_mapping({"robot.base_frame": "base"}).robot.same_frames == ()
    given = {"robot.base_frame": "base_link", "robot.pose_frame": "arm_base"}
    assert Config.from_mapping(given).robot.same_frames == ("arm_base",)


@each
def test_joints_and_frames_are_those_of_the_arm(config):
    assert list(panda.ARM_JOINTS) == ARM["arm_joints"]
    assert list(config.robot.finger_joints) == DRIVER["gripper"]["finger_joints"] == list(panda.FINGER_JOINTS)
    assert config.robot.ee_frame == ARM["end_effector"] == panda.TCP


@each
def test_the_gripper_is_that_of_the_driver(config):
    actions, node = DRIVER["gripper"]["actions"], config.topics.franka_gripper
    assert node == DRIVER["gripper"]["node"]
    assert actions[config.topics.gripper_action] == "control_msgs/action/GripperCommand"
    for name in ("grasp", "move", "homing"):
        assert actions[f"{node}/{name}"] == f"franka_msgs/action/{name.capitalize()}"


@each
def test_image_topics_are_what_realsense_makes_of_the_camera_names(config):
    pattern = re.sub("<[a-z_]+>", "{}", FACTS["realsense_ros"]["image"]["topic"])
    namespace = FACTS["realsense_ros"]["image"]["defaults"]["camera_namespace"]
    names = [pattern.format(namespace, name) for name in ("third_person", "wrist")]
    assert list(config.topics.images) == names, "camera_name is what docs/how_to/franka.md says to set"


@pytest.mark.parametrize("name", ["Grasp", "Move", "Homing"])
def test_goals_and_results_have_the_fields_that_the_sources_have(name):
    actions = pytest.importorskip("franka_msgs.action", reason="franka_msgs is not installed (not on PyPI)")
    kind, fields = getattr(actions, name), DRIVER["gripper"]["fields"][name]
    assert set(kind.Goal.get_fields_and_field_types()) == set(fields["goal"])
    assert set(kind.Result.get_fields_and_field_types()) == set(fields["result"])


def test_robot_modes_are_numbered_as_in_the_sources():
    messages = pytest.importorskip("franka_msgs.msg", reason="franka_msgs is not installed (not on PyPI)")
    for name, number in DRIVER["robot_state"]["modes"].items():
        assert getattr(messages.FrankaRobotState, f"ROBOT_MODE_{name}") == number
    modes = importlib.import_module("specprune_ros.control.franka_mode").MODES
    assert set(modes) == set(DRIVER["robot_state"]["modes"].values())
