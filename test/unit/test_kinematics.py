"""Forward kinematics: a planar arm in closed form, the Franka against its published home pose, and clear errors."""

import math

import numpy as np
import pytest

pytest.importorskip("mujoco")

from specprune_ros.observe.kinematics import ForwardKinematics, skeleton  # noqa: E402
from specprune_ros.types import BadInput  # noqa: E402

PLANAR = """<?xml version="1.0"?>
<robot name="planar">
  <link name="world"/>
  <link name="base">
    <visual><geometry><mesh filename="package://nowhere/base.stl"/></geometry></visual>
    <inertial><mass value="1"/><inertia ixx="0" iyy="0" izz="9" ixy="0" ixz="0" iyz="0"/></inertial>
  </link>
  <link name="upper"/> <link name="lower"/> <link name="tip"/> <link name="finger"/>
  <joint name="mount" type="fixed"><parent link="world"/><child link="base"/><origin xyz="5 6 7" rpy="0 0 1.5"/></joint>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><origin xyz="0 0 0.3"/>
    <axis xyz="0 0 1"/><limit lower="-0.1" upper="0.1" effort="1" velocity="1"/></joint>
  <joint name="elbow" type="continuous"><parent link="upper"/><child link="lower"/><origin xyz="0.5 0 0"/>
    <axis xyz="0 0 1"/></joint>
  <joint name="slide" type="prismatic"><parent link="lower"/><child link="tip"/><origin xyz="0.4 0 0"/>
    <axis xyz="1 0 0"/></joint>
  <joint name="grip" type="prismatic"><parent link="tip"/><child link="finger"/><axis xyz="0 1 0"/></joint>
  <transmission name="t"/>
</robot>"""


def planar(ee="tip", base="base"):
    return ForwardKinematics(PLANAR, ee, base)


@pytest.mark.parametrize("shoulder, elbow, slide", [(0, 0, 0), (0.7, -1.1, 0.05), (3.0, 2.0, -0.2)])
def test_planar_arm_in_closed_form(shoulder, elbow, slide):
    pose = planar().pose(["grip", "slide", "elbow", "shoulder"], [9.0, slide, elbow, shoulder], 42)
    both = shoulder + elbow
    x = 0.5 * math.cos(shoulder) + (0.4 + slide) * math.cos(both)
    y = 0.5 * math.sin(shoulder) + (0.4 + slide) * math.sin(both)
    np.testing.assert_allclose(pose.position_m, [x, y, 0.3], atol=1e-12)
    expected = np.array([0, 0, math.sin(both / 2), math.cos(both / 2)])
    assert abs(pose.quaternion_xyzw @ expected) == pytest.approx(1.0)
    assert pose.stamp_ns == 42


def test_only_the_joints_between_the_frames_are_needed():
    assert planar().joints == ("shoulder", "elbow", "slide")
    assert planar(base="world").joints == ("shoulder", "elbow", "slide")
    assert planar("finger", "lower").joints == ("slide", "grip")
    reversed_chain = planar("upper", "tip")
    assert reversed_chain.joints == ("elbow", "slide")
    pose = reversed_chain.pose(["elbow", "slide"], [0.0, 0.1], 0)
    np.testing.assert_allclose(pose.position_m, [-1.0, 0, 0], atol=1e-12)


def test_the_mount_of_the_base_does_not_matter():
    from_base = planar().pose(["shoulder", "elbow", "slide"], [0.1, 0.2, 0.0], 0)
    from_world = planar(base="world").pose(["shoulder", "elbow", "slide"], [0.1, 0.2, 0.0], 0)
    assert np.linalg.norm(from_base.position_m - from_world.position_m) > 1


def test_message_layout_may_change():
    arm = planar()
    a = arm.pose(("shoulder", "elbow", "slide"), (0.1, 0.2, 0.3), 0)
    b = arm.pose(("slide", "other", "elbow", "shoulder"), (0.3, 8.0, 0.2, 0.1), 0)
    np.testing.assert_allclose(a.position_m, b.position_m)


@pytest.mark.parametrize(
    "names, positions, text",
    [
        (["shoulder", "elbow"], [0, 0], "joint state: no joint named 'slide'.*There are: shoulder, elbow"),
        (["Shoulder", "elbow", "slide"], [0, 0, 0], "no joint named 'shoulder'; did you mean Shoulder"),
        (["shoulder", "elbow", "slide"], [0, math.nan, 0], "joint elbow is at nan, not finite"),
        (["shoulder", "elbow", "slide"], [], "3 names and 0 positions"),
    ],
)
def test_bad_joint_states(names, positions, text):
    with pytest.raises(BadInput, match=text):
        planar().pose(names, positions, 0)


@pytest.mark.parametrize(
    "urdf, text",
    [
        ("", "not XML.*publish the URDF, after xacro"),
        ("<mujoco/>", "is a <mujoco> document"),
        (PLANAR.replace('<link name="tip"/>', ""), "robot description cannot be used"),
        (PLANAR.replace("prismatic", "floating"), "joint slide .*'floating', expected one of"),
    ],
)
def test_bad_descriptions(urdf, text):
    with pytest.raises(BadInput, match=text):
        ForwardKinematics(urdf, "tip", "base")


def test_missing_frames_name_what_exists():
    with pytest.raises(BadInput, match="robot.ee_frame: no link named 'tool'; .*There are: world, base, upper"):
        planar(ee="tool")
    with pytest.raises(BadInput, match="robot.base_frame: no link named 'bases'; did you mean base"):
        planar(base="bases")


def test_skeleton_has_no_meshes_or_inertias():
    text = skeleton(PLANAR)
    assert "mesh" not in text and "inertial" not in text and "limit" not in text and "transmission" not in text


def test_franka():
    panda = pytest.importorskip("specprune_ros.sim.panda")
    arm = ForwardKinematics(panda.robot_urdf(), panda.TCP, "fr3_link0")
    assert arm.joints == panda.ARM_JOINTS
    q = [0.1, -0.785, 0.2, -2.356, -0.3, 1.571, 0.785]
    pose = arm.pose(panda.ARM_JOINTS, q, 0)
    expected = franka_by_hand(q)
    np.testing.assert_allclose(pose.position_m, expected[:3, 3], atol=1e-9)
    np.testing.assert_allclose(rotation_matrix(pose.quaternion_xyzw), expected[:3, :3], atol=1e-9)


def franka_by_hand(q):
    """Product of the published modified Denavit-Hartenberg transforms (a, d, alpha)."""
    half_pi = math.pi / 2
    table = [
        (0, 0.333, 0), (0, 0, -half_pi), (0, 0.316, half_pi), (0.0825, 0, half_pi),
        (-0.0825, 0.384, -half_pi), (0, 0, half_pi), (0.088, 0, half_pi),
    ]  # fmt: skip
    total = np.eye(4)
    for (a, d, alpha), theta in zip(table, q, strict=True):
        total = total @ denavit_hartenberg(a, d, alpha, theta)
    return total @ denavit_hartenberg(0, 0.107 + 0.1034, 0, -math.pi / 4)


def denavit_hartenberg(a, d, alpha, theta):
    ct, st, ca, sa = math.cos(theta), math.sin(theta), math.cos(alpha), math.sin(alpha)
    return np.array(
        [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -d * sa],
            [st * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    )


def rotation_matrix(q):
    x, y, z, w = q
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew
