"""The world in Gazebo: cameras, table, cubes, light and the bridge to ROS.

Gazebo cannot run in a test. The oracle is the MuJoCo scene: the same things must stand in the same places.
"""

import importlib

import numpy as np
import pytest
import yaml
from gazebo_files import (
    CAMERAS,
    GAZEBO,
    chain,
    inside,
    links,
    numbers,
    policy,
    robot,
    sensors,
    simulated,
    turned,
    urdf,
    world,
)

from specprune_ros.observe.kinematics import skeleton
from specprune_ros.sim import gazebo, panda, scene
from specprune_ros.sim.gl import mujoco

OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Columns: axes of an optical frame (x right, y down, z forward) in a camera link that looks along its x (REP 103)."""

MUJOCO_TO_OPTICAL = np.diag([1, -1, -1])
"""MuJoCo's cameras look along -z, y up."""

# Cameras.


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_stands_where_the_simulators_stands(name):
    _, data = simulated()
    if name == "wrist":
        parent, position, rotation = chain(robot())["wrist_link"]
        hand = data.body(parent)
        expected = hand.xmat.reshape(3, 3).T
        expected_position = expected @ (data.cam(name).xpos - hand.xpos)
        expected_rotation = expected @ data.cam(name).xmat.reshape(3, 3)
        [holder] = [element for element in robot().findall("gazebo") if element.find("sensor") is not None]
        assert holder.get("reference") == "wrist_link" and holder.find("sensor/pose") is None
    else:
        pose = numbers(world().find("model[@name='third_person_camera']/pose").text)
        position, rotation = pose[:3], turned(*pose[3:])
        expected_position, expected_rotation = data.cam(name).xpos, data.cam(name).xmat.reshape(3, 3)
    assert position == pytest.approx(expected_position, abs=1e-6)
    assert rotation @ OPTICAL == pytest.approx(expected_rotation @ MUJOCO_TO_OPTICAL, abs=1e-3)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_sees_as_much_as_the_simulators(name):
    sensor = sensors()[name]
    camera = sensor.find("camera")
    width, height = (int(camera.find(f"image/{side}").text) for side in ("width", "height"))
    assert width == height == 224  # square, so that both fields of view are the same
    [vertical_degrees] = np.atleast_1d(simulated()[0].cam(name).fovy)
    assert float(camera.find("horizontal_fov").text) == pytest.approx(np.radians(vertical_degrees), abs=1e-4)
    assert camera.find("image/format").text == "R8G8B8"
    assert sensor.get("type") == "camera" and sensor.find("always_on").text == "true"


@pytest.mark.parametrize(("name", "topic"), CAMERAS.items())
def test_a_camera_publishes_what_the_policy_reads(name, topic):
    sensor = sensors()[name]
    assert topic in policy().topics.images
    assert sensor.find("topic").text == topic
    assert sensor.find("camera/camera_info_topic").text == topic.replace("image_raw", "camera_info")
    assert float(sensor.find("update_rate").text) == policy().control.rate, "more is rendered for nobody"
    frame = sensor.find("camera/optical_frame_id").text
    assert frame == f"{name}_color_optical_frame" and frame in links(robot())


def test_the_optical_frames_look_where_the_cameras_do():
    model = mujoco.MjModel.from_xml_string(skeleton(urdf()))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    link, optical = (data.body(name).xmat.reshape(3, 3) for name in ("wrist_link", "wrist_color_optical_frame"))
    assert optical == pytest.approx(link @ OPTICAL, abs=1e-6)
    pose = numbers(world().find("model[@name='third_person_camera']/pose").text)
    third = data.body("third_person_color_optical_frame")
    assert third.xpos == pytest.approx(pose[:3], abs=1e-6)
    assert third.xmat.reshape(3, 3) == pytest.approx(turned(*pose[3:]) @ OPTICAL, abs=1e-3)


# The world.


def material(model):
    """RGBA of a model's one visual, in linear light."""
    [visual] = model.findall("link/visual")
    ambient, diffuse = (numbers(visual.find(f"material/{kind}").text) for kind in ("ambient", "diffuse"))
    assert (ambient == diffuse).all()
    return diffuse


AMBIENT, SUN = 0.67, 1.43
"""With this light, the pictures come closest to MuJoCo's: see tabletop.sdf."""


def linear(rgba):
    return [*(gazebo.linear(value) for value in rgba[:3]), rgba[3]]


def test_light_and_colours_are_chosen_for_linear_light():
    model, _ = simulated()
    for name in ("table", "floor"):
        assert material(world().find(f"model[@name='{name}']")) == pytest.approx(
            linear(model.geom(name).rgba), abs=1e-4
        )
    assert numbers(world().find("scene/ambient").text) == pytest.approx([*[AMBIENT] * 3, 1])
    [sun] = world().findall("light")
    assert numbers(sun.find("diffuse").text) == pytest.approx([*[SUN] * 3, 1])
    assert numbers(sun.find("direction").text) == pytest.approx([-0.25, -0.2, -1.0]), "as in sim/scene.py"
    assert world().find("scene/shadows").text == sun.find("cast_shadows").text == "false"


def test_table_and_floor_are_the_simulators():
    model, data = simulated()
    for kind in ("collision", "visual"):
        size = numbers(world().find(f"model[@name='table']/link/{kind}/geometry/box/size").text)
        assert size == pytest.approx(2 * model.geom("table").size)
    assert numbers(world().find("model[@name='table']/pose").text)[:3] == pytest.approx(data.geom("table").xpos)
    assert numbers(world().find("model[@name='floor']/pose").text)[:3] == pytest.approx(data.geom("floor").xpos)


def test_cubes_are_the_simulators_and_within_reach():
    model, _ = simulated()
    places = []
    cubes = [element for element in world().findall("model") if element.get("name").endswith("_cube")]
    assert 2 <= len(cubes) <= scene.CUBES
    for cube in cubes:
        colour = cube.get("name").removesuffix("_cube")
        assert material(cube) == pytest.approx(linear(scene.RGBA[colour]), abs=1e-4)
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
        assert inside(place)
        places.append(place)
    apart = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]]
    assert min(apart) > 0.1
    assert policy().instruction in {f"pick up the {cube.get('name').removesuffix('_cube')} cube" for cube in cubes}


def test_the_world_has_the_systems_that_cameras_spawning_and_physics_need():
    plugins = {plugin.get("filename"): plugin.get("name") for plugin in world().findall("plugin")}
    assert plugins == {
        "gz-sim-physics-system": "gz::sim::systems::Physics",
        "gz-sim-user-commands-system": "gz::sim::systems::UserCommands",
        "gz-sim-scene-broadcaster-system": "gz::sim::systems::SceneBroadcaster",
        "gz-sim-sensors-system": "gz::sim::systems::Sensors",
    }


def test_names_in_the_world_are_unique():
    names = [model.get("name") for model in world().findall("model")]
    assert len(names) == len(set(names)) and panda.LINKS[0].name not in names and "fr3" not in names


# The bridge.

GAZEBO_TYPES = {
    "rosgraph_msgs/msg/Clock": "gz.msgs.Clock",
    "sensor_msgs/msg/Image": "gz.msgs.Image",
    "sensor_msgs/msg/CameraInfo": "gz.msgs.CameraInfo",
}
"""Pairs that ros_gz_bridge converts (its README)."""


def test_the_bridge_brings_clock_and_cameras_to_ros():
    bridged = {}
    for entry in yaml.safe_load((GAZEBO / "bridge.yaml").read_text()):
        assert set(entry) == {"topic_name", "ros_type_name", "gz_type_name", "direction"}
        assert entry["direction"] == "GZ_TO_ROS", "another way round, ROS could stop Gazebo's clock"
        assert GAZEBO_TYPES[entry["ros_type_name"]] == entry["gz_type_name"]
        bridged[entry["topic_name"]] = entry["ros_type_name"]
    expected = {"/clock": "rosgraph_msgs/msg/Clock"}
    for sensor in sensors().values():
        expected[sensor.find("topic").text] = "sensor_msgs/msg/Image"
        expected[sensor.find("camera/camera_info_topic").text] = "sensor_msgs/msg/CameraInfo"
    assert bridged == expected


@pytest.mark.parametrize("name", GAZEBO_TYPES)
def test_the_bridges_ros_types_exist(name):
    package, _, kind = name.split("/")
    pytest.importorskip(package, reason="message packages come with ROS")
    assert hasattr(importlib.import_module(f"{package}.msg"), kind)
