"""The arm in Gazebo: its description, and the copy of it that Gazebo itself gets.

Gazebo cannot run in a test. The oracle is the MuJoCo scene: the same arm must stand in the same place.
"""

import numpy as np
import pytest
from gazebo_files import chain, inside, joints, links, numbers, placed, policy, robot, simulated, spawned, urdf

from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.sim import gazebo, panda
from specprune_ros.sim.gl import mujoco
from specprune_ros.sim.tasks import LIFTED_M
from specprune_ros.sim.world import POSTURE_RAD

# The arm.


def test_the_description_is_one_tree_on_the_world():
    names = list(links(robot()))
    assert len(names) == len(set(names))
    parents = {child: parent for child, (parent, _, _) in chain(robot()).items()}
    assert set(names) - set(parents) == {"world"}
    assert set(parents) | {"world"} == set(names) and set(parents.values()) <= set(names)
    named = [joint.get("name") for joint in robot().findall("joint")]
    assert len(named) == len(set(named))


def test_mujoco_reads_the_description_with_its_masses_and_limits():
    model = mujoco.MjModel.from_xml_string(urdf())
    expected = sum(link.mass for link in panda.LINKS[1:])  # MuJoCo makes the base a part of the world
    assert model.body_mass.sum() == pytest.approx(expected, rel=1e-3)
    for link in panda.LINKS:
        if link.joint:
            assert model.joint(link.joint.name).range == pytest.approx([link.joint.lower, link.joint.upper])


def test_every_moving_link_has_mass_inertia_and_limits():
    # Gazebo leaves out a link without inertia, and with it the joint
    for joint in robot().findall("joint"):
        if joint.get("type") != "fixed":
            inertial = links(robot())[joint.find("child").get("link")].find("inertial")
            assert float(inertial.find("mass").get("value")) > 0
            inertia = inertial.find("inertia")
            matrix = [[float(inertia.get(f"i{''.join(sorted(a + b))}")) for b in "xyz"] for a in "xyz"]
            assert (np.linalg.eigvalsh(matrix) > 0).all()
            limit = joint.find("limit").attrib
            assert {"lower", "upper", "velocity", "effort"} <= set(limit)
            assert float(limit["lower"]) < float(limit["upper"])


def test_the_policys_kinematics_find_the_hand_where_the_simulator_has_it():
    model, _ = simulated()
    data = mujoco.MjData(model)
    for name, angle in zip(panda.ARM_JOINTS, POSTURE_RAD, strict=True):
        data.joint(name).qpos = angle
    mujoco.mj_kinematics(model, data)
    kinematics = ForwardKinematics(urdf(), policy().robot.ee_frame, policy().robot.base_frame)
    pose = kinematics.pose(panda.ARM_JOINTS, POSTURE_RAD, stamp_ns=0)
    assert pose.position_m == pytest.approx(data.site(panda.TCP).xpos, abs=1e-6)


def test_the_arm_starts_above_the_table_within_the_workspace():
    start = {}
    for joint in robot().find("ros2_control").findall("joint"):
        [value] = joint.findall("state_interface/param[@name='initial_value']")
        start[joint.get("name")] = float(value.text)
    assert set(start) == {*panda.ARM_JOINTS, *panda.FINGER_JOINTS}
    assert [start[name] for name in panda.ARM_JOINTS] == pytest.approx(POSTURE_RAD, abs=1e-3)
    assert [start[name] for name in panda.FINGER_JOINTS] == [panda.FINGER_OPEN_M] * 2
    pose = ForwardKinematics(urdf(), panda.TCP, "fr3_link0").pose(list(start), list(start.values()), stamp_ns=0)
    assert inside(pose.position_m)
    assert pose.position_m[2] > LIFTED_M


# Gazebo's own copy.


def test_gazebos_copy_differs_only_where_running_it_said_so():
    """What was seen in gz-sim 8.14.0: a joint at its velocity limit ran away, and a grasp slid out of fingers that
    push alike; the true limits stay in the description that everybody else reads."""
    ours, copy = joints(robot()), joints(spawned())
    assert list(ours) == list(copy)
    for name, joint in copy.items():
        expected = dict(ours[name].find("limit").attrib) if joint.get("type") != "fixed" else None
        if expected is None:
            continue
        assert float(joint.find("limit").get("velocity")) >= 100 * float(expected["velocity"])
        expected |= {"velocity": joint.find("limit").get("velocity")}
        if name in panda.FINGER_JOINTS:
            expected["effort"] = joint.find("limit").get("effort")
        assert joint.find("limit").attrib == expected
    driven, mimic = (float(copy[name].find("limit").get("effort")) for name in panda.FINGER_JOINTS)
    assert (driven, mimic) == (30.0, 100.0)
    elements = [[element.tag for element in root.iter()] for root in (robot(), spawned())]
    assert elements[0] == elements[1]


def test_the_description_for_everybody_has_the_arms_true_limits():
    for link in panda.LINKS:
        if link.joint:
            limit = joints(robot())[link.joint.name].find("limit").attrib
            assert float(limit["velocity"]) == link.joint.velocity and float(limit["effort"]) == link.joint.effort


def test_colours_of_the_copy_are_linear_light():
    pairs = list(zip(robot().iter("color"), spawned().iter("color"), strict=True))
    assert len(pairs) > 20
    for screen, light in pairs:
        *given, alpha = numbers(screen.get("rgba"))
        expected = [*(((c + 0.055) / 1.055) ** 2.4 for c in given), alpha]
        assert min(given) > 0.04045, "else the formula has another branch"
        assert numbers(light.get("rgba")) == pytest.approx(expected, abs=1e-6)
    assert gazebo.linear(0.04) == pytest.approx(0.04 / 12.92) and gazebo.linear(1.0) == pytest.approx(1.0)


def test_the_camera_on_the_wrist_has_the_housing_that_the_other_camera_sees():
    model, data = simulated()
    hand = model.body("fr3_hand").id
    camera_m = model.cam("wrist").pos
    boxes = [
        (model.geom_pos[geom], 2 * model.geom_size[geom], model.geom_rgba[geom])
        for geom in range(model.ngeom)
        if model.geom_bodyid[geom] == hand and abs(model.geom_pos[geom][0] - camera_m[0]) < 0.04
    ]
    assert len(boxes) == 2
    _, position, rotation = chain(robot())["wrist_link"]
    found = []
    for visual in links(robot())["wrist_link"].findall("visual"):
        offset, turn = placed(visual)
        assert rotation @ turn == pytest.approx(np.eye(3), abs=1e-6), "upright in the hand's frame"
        size, colour = visual.find("geometry/box").get("size"), visual.find("material/color").get("rgba")
        found.append((position + rotation @ offset, numbers(size), numbers(colour)))
    for expected, seen in zip(boxes, found, strict=True):
        for value, given in zip(expected, seen, strict=True):
            assert given == pytest.approx(value, abs=1e-5)
