"""What the Gazebo files say, read once, and the MuJoCo scene that they must agree with."""

import functools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml

from specprune_ros.config import Config, flattened
from specprune_ros.sim import gazebo, scene
from specprune_ros.sim.gl import mujoco

ROOT = Path(__file__).parents[2]
GAZEBO = ROOT / "config" / "gazebo"
CAMERAS = dict(zip(scene.CAMERAS, Config().topics.images, strict=True))
"""Camera -> image topic."""


@functools.cache
def urdf():
    return gazebo.robot_description(GAZEBO)


@functools.cache
def robot():
    """The description for everybody."""
    return ElementTree.fromstring(urdf())


@functools.cache
def spawned():
    """Gazebo's own copy of it."""
    return ElementTree.fromstring(gazebo.spawned_description(urdf()))


@functools.cache
def world():
    root = ElementTree.parse(GAZEBO / "tabletop.sdf").getroot()
    assert root.tag == "sdf"
    [world] = root.findall("world")
    return world


@functools.cache
def simulated():
    """(model, data) of the MuJoCo scene, everything at its start."""
    model = scene.compile_scene(64)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@functools.cache
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


def placed(element):
    """(position, rotation) of an element with an <origin>."""
    origin = element.find("origin")
    given = {} if origin is None else origin.attrib
    return numbers(given.get("xyz", "0 0 0")), turned(*numbers(given.get("rpy", "0 0 0")))


def links(robot):
    return {link.get("name"): link for link in robot.findall("link")}


def joints(robot):
    return {joint.get("name"): joint for joint in robot.findall("joint")}


def chain(robot):
    """{child link: (parent link, position, rotation)} of all joints, at zero."""
    return {
        joint.find("child").get("link"): (joint.find("parent").get("link"), *placed(joint))
        for joint in robot.findall("joint")
    }


def inside(position_m):
    limits = policy().limits
    return (position_m > limits.workspace_min).all() and (position_m < limits.workspace_max).all()


def sensors():
    """{name: camera sensor} of world and robot."""
    return {sensor.get("name"): sensor for root in (world(), robot()) for sensor in root.iter("sensor")}
