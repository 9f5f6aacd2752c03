"""The robot description: one table, two descriptions; and which OpenGL is chosen."""

import os
import runpy
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from specprune_ros.sim import gl, panda, scene
from specprune_ros.sim.gl import mujoco


@pytest.fixture(scope="module")
def urdf_model():
    """The URDF as MuJoCo reads it, with its fixed links kept as bodies."""
    keep = '<mujoco><compiler fusestatic="false"/></mujoco>'
    return mujoco.MjModel.from_xml_string(panda.robot_urdf().replace("</robot>", keep + "</robot>"))


@pytest.fixture(scope="module")
def mjcf_model():
    return scene.compile_scene(28)


def test_urdf_and_mjcf_put_the_tcp_at_the_same_pose(urdf_model, mjcf_model):
    urdf, mjcf = mujoco.MjData(urdf_model), mujoco.MjData(mjcf_model)
    rng = np.random.default_rng(0)
    for _ in range(50):
        for name in panda.ARM_JOINTS + panda.FINGER_JOINTS:
            angle = rng.uniform(*urdf_model.joint(name).range)
            urdf.joint(name).qpos = mjcf.joint(name).qpos = angle
        mujoco.mj_kinematics(urdf_model, urdf)
        mujoco.mj_kinematics(mjcf_model, mjcf)
        site = mjcf.site(panda.TCP)
        np.testing.assert_allclose(urdf.body(panda.TCP).xpos, site.xpos, atol=1e-9)
        np.testing.assert_allclose(urdf.body(panda.TCP).xmat, site.xmat, atol=1e-9)
        for finger in ("fr3_leftfinger", "fr3_rightfinger"):
            np.testing.assert_allclose(urdf.body(finger).xpos, mjcf.body(finger).xpos, atol=1e-9)


def test_urdf_and_mjcf_have_the_same_masses_and_limits(urdf_model, mjcf_model):
    for link in panda.LINKS:
        ours, theirs = mjcf_model.body(link.name), urdf_model.body(link.name)
        for quantity in ("mass", "ipos", "inertia"):
            np.testing.assert_allclose(getattr(theirs, quantity), getattr(ours, quantity), rtol=1e-6, atol=1e-12)
    for name in panda.ARM_JOINTS + panda.FINGER_JOINTS:
        np.testing.assert_allclose(urdf_model.joint(name).range, mjcf_model.joint(name).range)


def test_urdf_has_frankas_names_and_no_meshes():
    robot = ElementTree.fromstring(panda.robot_urdf())
    assert robot.tag == "robot" and not list(robot.iter("mesh"))
    links = [link.get("name") for link in robot.findall("link")]
    hand = ["fr3_hand", "fr3_hand_tcp", "fr3_leftfinger", "fr3_rightfinger"]
    assert sorted(links) == sorted([f"fr3_link{i}" for i in range(9)] + hand)
    joints = {joint.get("name"): joint for joint in robot.findall("joint")}
    assert {name for name, joint in joints.items() if joint.get("type") == "revolute"} == {
        f"fr3_joint{i}" for i in range(1, 8)
    }
    assert {name for name, joint in joints.items() if joint.get("type") == "prismatic"} == set(panda.FINGER_JOINTS)
    assert joints["fr3_finger_joint2"].find("mimic").get("joint") == "fr3_finger_joint1"
    assert {"fr3_joint8", "fr3_hand_joint", "fr3_hand_tcp_joint"} <= set(joints)
    children = [joint.find("child").get("link") for joint in joints.values()]
    assert sorted(children) == sorted(set(links) - {"fr3_link0"})  # a tree with one root
    assert {joint.find("parent").get("link") for joint in joints.values()} <= set(links)


@pytest.mark.parametrize(
    "before, after",
    [
        ({}, "egl"),
        ({"MUJOCO_GL": "osmesa"}, "osmesa"),
        ({"DISPLAY": ":0"}, "egl"),
        ({"WAYLAND_DISPLAY": "w"}, "egl"),
        ({"MUJOCO_GL": "glfw", "DISPLAY": ":0"}, "egl"),
        ({"MUJOCO_GL": "nonsense"}, "egl"),
        ({"PYOPENGL_PLATFORM": "glx"}, "egl"),
    ],
)
def test_rendering_needs_no_display_whatever_the_shell_says(monkeypatch, before, after):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "environ", dict(before))
    runpy.run_path(gl.__file__)
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == after
