"""The Gazebo files: Gazebo cannot run in a test, but what it is given agrees with our simulator, with itself and with the policy.

The oracle is the MuJoCo scene: the same table, cubes, cameras and arm must stand in the same places.
"""

import importlib
import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from specprune_ros.config import Config, flattened
from specprune_ros.observe.kinematics import ForwardKinematics, skeleton
from specprune_ros.sim import panda, scene
from specprune_ros.sim.env import LIFTED_M, POSTURE_RAD
from specprune_ros.sim.gl import mujoco

ROOT = Path(__file__).parents[2]
GAZEBO = ROOT / "config" / "gazebo"
CAMERAS = dict(zip(scene.CAMERAS, Config().topics.images, strict=True))
"""Camera -> image topic."""

OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Columns: axes of an optical frame (x right, y down, z forward) in a camera link that looks along its x, z up (REP 103)."""

MUJOCO_TO_OPTICAL = np.diag([1, -1, -1])
"""MuJoCo's cameras look along -z, y up."""


@pytest.fixture(scope="module")
def launch_file():
    spec = importlib.util.spec_from_file_location("gazebo_launch", ROOT / "launch" / "gazebo.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def urdf(launch_file):
    return launch_file.robot_description()


@pytest.fixture(scope="module")
def robot(urdf):
    return ElementTree.fromstring(urdf)


@pytest.fixture(scope="module")
def world():
    root = ElementTree.parse(GAZEBO / "tabletop.sdf").getroot()
    assert root.tag == "sdf"
    [world] = root.findall("world")
    return world


@pytest.fixture(scope="module")
def simulated():
    """(model, data) of the MuJoCo scene, everything at its start."""
    model = scene.compile_scene(64)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture(scope="module")
def policy():
    [content] = yaml.safe_load((ROOT / "config" / "gazebo.yaml").read_text()).values()
    return Config.from_mapping(dict(flattened(content["ros__parameters"])))


def numbers(text):
    return np.array([float(part) for part in text.split()])


def turned(roll, pitch, yaw):
    """Rotation matrix of extrinsic roll, pitch, yaw, as in SDF and URDF."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return z @ y @ x


def links(robot):
    return {link.get("name"): link for link in robot.findall("link")}


def chain(robot):
    """{child link: (parent link, position, rotation)} of all joints, at zero."""
    placed = {}
    for joint in robot.findall("joint"):
        origin = joint.find("origin")
        given = {} if origin is None else origin.attrib
        xyz, rpy = numbers(given.get("xyz", "0 0 0")), numbers(given.get("rpy", "0 0 0"))
        placed[joint.find("child").get("link")] = joint.find("parent").get("link"), xyz, turned(*rpy)
    return placed


def inside(position_m, policy):
    limits = policy.limits
    return (position_m > limits.workspace_min).all() and (position_m < limits.workspace_max).all()


def cameras(world, robot):
    return {sensor.get("name"): sensor for root in (world, robot) for sensor in root.iter("sensor")}


# The arm.


def test_the_description_is_one_tree_on_the_world(robot):
    names = list(links(robot))
    assert len(names) == len(set(names))
    parents = {child: parent for child, (parent, _, _) in chain(robot).items()}
    assert set(names) - set(parents) == {"world"}
    assert set(parents) | {"world"} == set(names) and set(parents.values()) <= set(names)
    joints = [joint.get("name") for joint in robot.findall("joint")]
    assert len(joints) == len(set(joints))


def test_mujoco_reads_the_description_with_its_masses_and_limits(urdf):
    model = mujoco.MjModel.from_xml_string(urdf)
    expected = sum(link.mass for link in panda.LINKS[1:])  # MuJoCo makes the base a part of the world
    assert model.body_mass.sum() == pytest.approx(expected, rel=1e-3)
    for link in panda.LINKS:
        if link.joint:
            assert model.joint(link.joint.name).range == pytest.approx([link.joint.lower, link.joint.upper])


def test_every_moving_link_has_mass_inertia_and_limits(robot):
    # Gazebo leaves out a link without inertia, and with it the joint
    for joint in robot.findall("joint"):
        if joint.get("type") != "fixed":
            inertial = links(robot)[joint.find("child").get("link")].find("inertial")
            assert float(inertial.find("mass").get("value")) > 0
            inertia = inertial.find("inertia")
            matrix = [[float(inertia.get(f"i{''.join(sorted(a + b))}")) for b in "xyz"] for a in "xyz"]
            assert (np.linalg.eigvalsh(matrix) > 0).all()
            limit = joint.find("limit").attrib
            assert {"lower", "upper", "velocity", "effort"} <= set(limit)
            assert float(limit["lower"]) < float(limit["upper"])


def test_the_policys_kinematics_find_the_hand_where_the_simulator_has_it(urdf, policy, simulated):
    model, _ = simulated
    data = mujoco.MjData(model)
    for name, angle in zip(panda.ARM_JOINTS, POSTURE_RAD, strict=True):
        data.joint(name).qpos = angle
    mujoco.mj_kinematics(model, data)
    kinematics = ForwardKinematics(urdf, policy.robot.ee_frame, policy.robot.base_frame)
    pose = kinematics.pose(panda.ARM_JOINTS, POSTURE_RAD, stamp_ns=0)
    assert pose.position_m == pytest.approx(data.site(panda.TCP).xpos, abs=1e-6)


def test_the_arm_starts_above_the_table_within_the_workspace(urdf, robot, policy):
    start = {}
    for joint in robot.find("ros2_control").findall("joint"):
        [value] = joint.findall("state_interface/param[@name='initial_value']")
        start[joint.get("name")] = float(value.text)
    assert set(start) == {*panda.ARM_JOINTS, *panda.FINGER_JOINTS}
    assert [start[name] for name in panda.ARM_JOINTS] == pytest.approx(POSTURE_RAD, abs=1e-3)
    assert [start[name] for name in panda.FINGER_JOINTS] == [panda.FINGER_OPEN_M] * 2
    pose = ForwardKinematics(urdf, panda.TCP, "fr3_link0").pose(list(start), list(start.values()), stamp_ns=0)
    assert inside(pose.position_m, policy)
    assert pose.position_m[2] > LIFTED_M


# Controllers: what one writes, the next one reads.


@pytest.fixture(scope="module")
def controllers():
    nodes = yaml.safe_load((GAZEBO / "controllers.yaml").read_text())
    return {name: content["ros__parameters"] for name, content in nodes.items()}


@pytest.fixture(scope="module")
def servo():
    content = yaml.safe_load((GAZEBO / "servo.yaml").read_text())
    assert list(content) == [Config().topics.servo_node.removeprefix("/")]
    return content["servo_node"]["ros__parameters"]


def interfaces(robot, joint, kind):
    [found] = [element for element in robot.find("ros2_control").findall("joint") if element.get("name") == joint]
    return [interface.get("name") for interface in found.findall(f"{kind}_interface")]


def test_controllers_use_interfaces_that_the_robot_has(robot, controllers, launch_file):
    manager = controllers["controller_manager"]
    loaded = {name: value["type"] for name, value in manager.items() if isinstance(value, dict)}
    assert set(loaded) == set(launch_file.CONTROLLERS)
    assert set(controllers) - {"controller_manager"} <= set(loaded)
    arm, gripper = controllers["fr3_arm_controller"], controllers["franka_gripper"]
    assert loaded["fr3_arm_controller"] == "joint_trajectory_controller/JointTrajectoryController"
    assert arm["joints"] == list(panda.ARM_JOINTS)
    for joint in arm["joints"]:
        assert arm["command_interfaces"] == interfaces(robot, joint, "command")
        assert arm["state_interfaces"] == interfaces(robot, joint, "state")
    assert loaded["franka_gripper"] == "position_controllers/GripperActionController"
    assert interfaces(robot, gripper["joint"], "command") == ["position"]


def test_the_second_finger_mimics_the_first_and_is_not_commanded(robot, controllers):
    first, second = panda.FINGER_JOINTS
    [joint] = [joint for joint in robot.findall("joint") if joint.get("name") == second]
    assert joint.find("mimic").get("joint") == first == controllers["franka_gripper"]["joint"]
    assert interfaces(robot, second, "command") == []


def test_the_controller_manager_runs_once_per_physics_step(world, controllers):
    step_s = float(world.find("physics/max_step_size").text)
    assert controllers["controller_manager"]["update_rate"] * step_s == 1.0


def test_servo_takes_the_policys_twists_to_the_arm_controller(servo, controllers, policy):
    settings = servo["moveit_servo"]
    node = policy.topics.servo_node
    assert policy.output.interface == "servo_twist" and policy.output.switch_servo
    assert settings["cartesian_command_in_topic"].replace("~", node) == policy.topics.servo_twist
    assert settings["status_topic"].replace("~", node) == f"{node}/status"
    assert settings["command_in_type"] == "speed_units"
    assert settings["command_out_topic"] == "/fr3_arm_controller/joint_trajectory"
    assert settings["command_out_type"] == "trajectory_msgs/JointTrajectory"
    assert settings["publish_joint_velocities"]
    assert controllers["fr3_arm_controller"]["allow_nonzero_velocity_at_trajectory_end"]
    assert settings["joint_topic"] == policy.topics.joint_states
    assert settings["incoming_command_timeout"] > 2.0 / policy.control.rate
    assert settings["publish_period"] < 1.0 / policy.control.rate


def test_servos_group_is_the_chain_the_policy_speaks_of(servo, robot, policy):
    semantics = ElementTree.parse(GAZEBO / "fr3.srdf").getroot()
    assert semantics.get("name") == robot.get("name")
    [group] = semantics.findall("group")
    assert group.get("name") == servo["moveit_servo"]["move_group_name"]
    assert group.get("name") in servo["robot_description_kinematics"], (
        "Servo refuses twists for a group without a solver"
    )
    ends = group.find("chain").attrib
    assert ends == {"base_link": policy.robot.base_frame, "tip_link": policy.robot.ee_frame}
    ready = {joint.get("name"): float(joint.get("value")) for joint in semantics.findall("group_state/joint")}
    assert [ready[name] for name in panda.ARM_JOINTS] == pytest.approx(POSTURE_RAD, abs=1e-3)


def test_the_gripper_action_is_the_one_the_policy_calls(policy):
    assert policy.output.gripper == "action"
    assert (
        policy.topics.gripper_action == "/franka_gripper/gripper_cmd"
    )  # <controller>/gripper_cmd, by GripperActionController
    assert policy.output.gripper_width <= panda.FINGER_OPEN_M


# Cameras.


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_stands_where_the_simulators_stands(world, robot, simulated, name):
    _, data = simulated
    if name == "wrist":
        parent, position, rotation = chain(robot)["wrist_link"]
        hand = data.body(parent)
        expected = hand.xmat.reshape(3, 3).T
        expected_position = expected @ (data.cam(name).xpos - hand.xpos)
        expected_rotation = expected @ data.cam(name).xmat.reshape(3, 3)
        [holder] = [element for element in robot.findall("gazebo") if element.find("sensor") is not None]
        assert holder.get("reference") == "wrist_link" and holder.find("sensor/pose") is None
    else:
        pose = numbers(world.find("model[@name='third_person_camera']/pose").text)
        position, rotation = pose[:3], turned(*pose[3:])
        expected_position, expected_rotation = data.cam(name).xpos, data.cam(name).xmat.reshape(3, 3)
    assert position == pytest.approx(expected_position, abs=1e-6)
    assert rotation @ OPTICAL == pytest.approx(expected_rotation @ MUJOCO_TO_OPTICAL, abs=1e-3)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_sees_as_much_as_the_simulators(world, robot, simulated, name):
    sensor = cameras(world, robot)[name]
    camera = sensor.find("camera")
    width, height = (int(camera.find(f"image/{side}").text) for side in ("width", "height"))
    assert width == height == 224  # square, so that both fields of view are the same
    [vertical_degrees] = np.atleast_1d(simulated[0].cam(name).fovy)
    assert float(camera.find("horizontal_fov").text) == pytest.approx(np.radians(vertical_degrees), abs=1e-4)
    assert camera.find("image/format").text == "R8G8B8"
    assert sensor.get("type") == "camera" and sensor.find("always_on").text == "true"


@pytest.mark.parametrize(("name", "topic"), CAMERAS.items())
def test_a_camera_publishes_what_the_policy_reads(world, robot, policy, name, topic):
    sensor = cameras(world, robot)[name]
    assert topic in policy.topics.images
    assert sensor.find("topic").text == topic
    assert sensor.find("camera/camera_info_topic").text == topic.replace("image_raw", "camera_info")
    assert float(sensor.find("update_rate").text) >= policy.control.rate
    frame = sensor.find("camera/optical_frame_id").text
    assert frame == f"{name}_color_optical_frame" and frame in links(robot)


def test_the_optical_frames_look_where_the_cameras_do(world, robot, urdf):
    model = mujoco.MjModel.from_xml_string(skeleton(urdf))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    link, optical = (data.body(name).xmat.reshape(3, 3) for name in ("wrist_link", "wrist_color_optical_frame"))
    assert optical == pytest.approx(link @ OPTICAL, abs=1e-6)
    pose = numbers(world.find("model[@name='third_person_camera']/pose").text)
    third = data.body("third_person_color_optical_frame")
    assert third.xpos == pytest.approx(pose[:3], abs=1e-6)
    assert third.xmat.reshape(3, 3) == pytest.approx(turned(*pose[3:]) @ OPTICAL, abs=1e-3)


# The world.


def test_table_and_floor_are_the_simulators(world, simulated):
    model, data = simulated
    for kind in ("collision", "visual"):
        size = numbers(world.find(f"model[@name='table']/link/{kind}/geometry/box/size").text)
        assert size == pytest.approx(2 * model.geom("table").size)
    assert numbers(world.find("model[@name='table']/pose").text)[:3] == pytest.approx(data.geom("table").xpos)
    assert numbers(world.find("model[@name='floor']/pose").text)[:3] == pytest.approx(data.geom("floor").xpos)


def test_cubes_are_the_simulators_and_within_reach(world, simulated, policy):
    model, _ = simulated
    places = []
    cubes = [element for element in world.findall("model") if element.get("name").endswith("_cube")]
    assert 2 <= len(cubes) <= scene.CUBES
    for cube in cubes:
        colour = cube.get("name").removesuffix("_cube")
        assert numbers(cube.find("link/visual/material/diffuse").text) == pytest.approx(scene.RGBA[colour])
        for kind in ("collision", "visual"):
            assert numbers(cube.find(f"link/{kind}/geometry/box/size").text) == pytest.approx(
                [2 * scene.CUBE_HALF_M] * 3
            )
        mass = float(cube.find("link/inertial/mass").text)
        assert mass == pytest.approx(model.body("cube0").mass[0])
        for axes in ("ixx", "iyy", "izz"):
            moment = float(cube.find(f"link/inertial/inertia/{axes}").text)
            assert moment == pytest.approx(mass * (2 * scene.CUBE_HALF_M) ** 2 / 6)
        assert cube.find("static") is None
        place = numbers(cube.find("pose").text)[:3]
        assert place[2] == scene.CUBE_HALF_M, "on the table"
        assert inside(place, policy)
        places.append(place)
    apart = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]]
    assert min(apart) > 0.1
    assert policy.instruction in {f"pick up the {cube.get('name').removesuffix('_cube')} cube" for cube in cubes}


def test_the_world_has_the_systems_that_cameras_spawning_and_physics_need(world):
    plugins = {plugin.get("filename"): plugin.get("name") for plugin in world.findall("plugin")}
    assert plugins == {
        "gz-sim-physics-system": "gz::sim::systems::Physics",
        "gz-sim-user-commands-system": "gz::sim::systems::UserCommands",
        "gz-sim-scene-broadcaster-system": "gz::sim::systems::SceneBroadcaster",
        "gz-sim-sensors-system": "gz::sim::systems::Sensors",
    }


def test_names_in_the_world_are_unique(world):
    names = [model.get("name") for model in world.findall("model")]
    assert len(names) == len(set(names)) and panda.LINKS[0].name not in names and "fr3" not in names


# The bridge.

GAZEBO_TYPES = {
    "rosgraph_msgs/msg/Clock": "gz.msgs.Clock",
    "sensor_msgs/msg/Image": "gz.msgs.Image",
    "sensor_msgs/msg/CameraInfo": "gz.msgs.CameraInfo",
}
"""Pairs that ros_gz_bridge converts (its README)."""


def test_the_bridge_brings_clock_and_cameras_to_ros(world, robot):
    bridged = {}
    for entry in yaml.safe_load((GAZEBO / "bridge.yaml").read_text()):
        assert set(entry) == {"topic_name", "ros_type_name", "gz_type_name", "direction"}
        assert entry["direction"] == "GZ_TO_ROS", "another way round, ROS could stop Gazebo's clock"
        assert GAZEBO_TYPES[entry["ros_type_name"]] == entry["gz_type_name"]
        bridged[entry["topic_name"]] = entry["ros_type_name"]
    expected = {"/clock": "rosgraph_msgs/msg/Clock"}
    for sensor in cameras(world, robot).values():
        expected[sensor.find("topic").text] = "sensor_msgs/msg/Image"
        expected[sensor.find("camera/camera_info_topic").text] = "sensor_msgs/msg/CameraInfo"
    assert bridged == expected


@pytest.mark.parametrize("name", GAZEBO_TYPES)
def test_the_bridges_ros_types_exist(name):
    package, _, kind = name.split("/")
    pytest.importorskip(package, reason="message packages come with ROS")
    assert hasattr(importlib.import_module(f"{package}.msg"), kind)
