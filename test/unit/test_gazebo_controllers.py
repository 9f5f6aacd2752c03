"""The controllers of the arm in Gazebo and MoveIt Servo: what one writes, the next one reads."""

import importlib.util
from xml.etree import ElementTree

import pytest
import yaml
from gazebo_files import GAZEBO, ROOT, policy, robot, world

from specprune_ros.config import Config
from specprune_ros.sim import panda
from specprune_ros.sim.world import POSTURE_RAD


@pytest.fixture(scope="module")
def launch_file():
    spec = importlib.util.spec_from_file_location("gazebo_launch", ROOT / "launch" / "gazebo.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def controllers():
    nodes = yaml.safe_load((GAZEBO / "controllers.yaml").read_text())
    return {name: content["ros__parameters"] for name, content in nodes.items()}


@pytest.fixture(scope="module")
def servo():
    content = yaml.safe_load((GAZEBO / "servo.yaml").read_text())
    assert list(content) == [Config().topics.servo_node.removeprefix("/")]
    return content["servo_node"]["ros__parameters"]


def interfaces(joint, kind):
    [found] = [element for element in robot().find("ros2_control").findall("joint") if element.get("name") == joint]
    return [interface.get("name") for interface in found.findall(f"{kind}_interface")]


def test_controllers_use_interfaces_that_the_robot_has(controllers, launch_file):
    manager = controllers["controller_manager"]
    loaded = {name: value["type"] for name, value in manager.items() if isinstance(value, dict)}
    assert set(loaded) == set(launch_file.CONTROLLERS)
    assert set(controllers) - {"controller_manager"} <= set(loaded)
    arm, gripper = controllers["fr3_arm_controller"], controllers["franka_gripper"]
    assert loaded["fr3_arm_controller"] == "joint_trajectory_controller/JointTrajectoryController"
    assert arm["joints"] == list(panda.ARM_JOINTS)
    for joint in arm["joints"]:
        assert arm["command_interfaces"] == interfaces(joint, "command")
        assert arm["state_interfaces"] == interfaces(joint, "state")
    assert loaded["franka_gripper"] == "position_controllers/GripperActionController"
    assert interfaces(gripper["joint"], "command") == ["position"]


def test_the_second_finger_mimics_the_first_and_is_not_commanded(controllers):
    first, second = panda.FINGER_JOINTS
    [joint] = [joint for joint in robot().findall("joint") if joint.get("name") == second]
    assert joint.find("mimic").get("joint") == first == controllers["franka_gripper"]["joint"]
    assert interfaces(second, "command") == []


def test_the_controller_manager_runs_once_per_physics_step(controllers):
    step_s = float(world().find("physics/max_step_size").text)
    assert controllers["controller_manager"]["update_rate"] * step_s == 1.0


def test_servo_takes_the_policys_twists_to_the_arm_controller(servo, controllers):
    settings = servo["moveit_servo"]
    node = policy().topics.servo_node
    assert policy().output.interface == "servo_twist" and policy().output.switch_servo
    assert settings["cartesian_command_in_topic"].replace("~", node) == policy().topics.servo_twist
    assert settings["status_topic"].replace("~", node) == f"{node}/status"
    assert settings["command_in_type"] == "speed_units"
    assert settings["command_out_topic"] == "/fr3_arm_controller/joint_trajectory"
    assert settings["command_out_type"] == "trajectory_msgs/JointTrajectory"
    assert settings["publish_joint_velocities"]
    assert controllers["fr3_arm_controller"]["allow_nonzero_velocity_at_trajectory_end"]
    assert settings["joint_topic"] == policy().topics.joint_states
    assert settings["incoming_command_timeout"] > 2.0 / policy().control.rate
    assert settings["publish_period"] < 1.0 / policy().control.rate


def test_servos_group_is_the_chain_the_policy_speaks_of(servo):
    semantics = ElementTree.parse(GAZEBO / "fr3.srdf").getroot()
    assert semantics.get("name") == robot().get("name")
    [group] = semantics.findall("group")
    assert group.get("name") == servo["moveit_servo"]["move_group_name"]
    assert group.get("name") in servo["robot_description_kinematics"], (
        "Servo refuses twists for a group without a solver"
    )
    ends = group.find("chain").attrib
    assert ends == {"base_link": policy().robot.base_frame, "tip_link": policy().robot.ee_frame}
    ready = {joint.get("name"): float(joint.get("value")) for joint in semantics.findall("group_state/joint")}
    assert [ready[name] for name in panda.ARM_JOINTS] == pytest.approx(POSTURE_RAD, abs=1e-3)


def test_the_gripper_action_is_the_one_the_policy_calls():
    assert policy().output.gripper == "action"
    assert (
        policy().topics.gripper_action == "/franka_gripper/gripper_cmd"
    )  # <controller>/gripper_cmd, by GripperActionController
    assert policy().output.gripper_width <= panda.FINGER_OPEN_M
