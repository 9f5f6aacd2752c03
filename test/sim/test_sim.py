"""The simulator: robot description, episodes, control, cameras and expert, each against an independent oracle."""

import colorsys
import math
import os
import runpy
import sys
from itertools import pairwise
from types import MappingProxyType
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from properties import given

pytest.importorskip("mujoco")

from specprune_ros import rotation
from specprune_ros.sim import env as tabletop
from specprune_ros.sim import gl, osc, panda, scene
from specprune_ros.sim.env import TabletopEnv
from specprune_ros.sim.expert import expert_action
from specprune_ros.sim.gl import mujoco

OPEN, CLOSE = 1.0, 0.0
TWO_TO_FOUR = {2, 3, 4}


def vectors(longest):
    return st.tuples(*[st.floats(-longest, longest)] * 3).map(np.array)


rotvecs = vectors(3.6)


@pytest.fixture(scope="module")
def env():
    """An environment without pictures; every test resets it."""
    with TabletopEnv(render=False) as env:
        yield env


@pytest.fixture(scope="module")
def camera_env():
    with TabletopEnv() as env:
        yield env


def action(*, at=(), value=0.0, gripper=OPEN):
    """(7,) with ``value`` at the indices ``at``."""
    result = np.zeros(7)
    result[list(at)], result[6] = value, gripper
    return result


def numbers(state):
    """Everything in a SimState but its colours, as one vector."""
    return np.concatenate(
        [
            [state.time_s],
            state.ee_position_m,
            state.ee_quaternion_xyzw,
            state.joint_positions_rad,
            state.joint_velocities,
            state.finger_positions_m,
            *state.cubes.values(),
        ]
    )


def assert_same(a, b):
    assert (tuple(a.cubes), a.target) == (tuple(b.cubes), b.target)
    np.testing.assert_array_equal(numbers(a), numbers(b))


def angle(a_xyzw, b_xyzw):
    """The angle [rad] between two orientations; accurate for small ones."""
    sign = math.copysign(1, a_xyzw @ b_xyzw)
    return 4 * math.asin(min(1.0, np.linalg.norm(a_xyzw - sign * b_xyzw) / 2))


# --- rotation.py ---


def rodrigues(rotvec):
    """Rotation matrix (3, 3) of a rotation vector, by Rodrigues' formula."""
    theta = np.linalg.norm(rotvec)
    if theta == 0:
        return np.eye(3)
    x, y, z = rotvec / theta
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(theta) * cross + (1 - math.cos(theta)) * cross @ cross


def rotate(q_xyzw, vector):
    """q v q* for a pure quaternion v, written out with dot and cross products."""
    u, w = q_xyzw[:3], q_xyzw[3]
    return 2 * (u @ vector) * u + (w * w - u @ u) * vector + 2 * w * np.cross(u, vector)


def matrix(q_xyzw):
    """Rotation matrix (3, 3) of a unit quaternion: its columns are the turned axes."""
    return np.column_stack([rotate(q_xyzw, axis) for axis in np.eye(3)])


@given(rotvecs)
def test_from_rotvec_is_rodrigues(rotvec):
    q = rotation.from_rotvec(rotvec)
    assert np.linalg.norm(q) == pytest.approx(1.0)
    np.testing.assert_allclose(matrix(q), rodrigues(rotvec), atol=1e-8)


@given(rotvecs, rotvecs)
def test_multiply_and_conjugate_are_matrix_product_and_transpose(a, b):
    product = rotation.multiply(rotation.from_rotvec(a), rotation.from_rotvec(b))
    np.testing.assert_allclose(matrix(product), rodrigues(a) @ rodrigues(b), atol=1e-8)
    np.testing.assert_allclose(matrix(rotation.conjugate(product)), (rodrigues(a) @ rodrigues(b)).T, atol=1e-8)


@given(rotvecs, st.sampled_from((1, -1)))
def test_rotation_vectors_are_the_same_rotation_whatever_the_quaternions_sign(rotvec, sign):
    q = sign * rotation.from_rotvec(rotvec)
    shortest, forward = rotation.to_rotvec(q), rotation.to_rotvec_x_positive(q)
    for result in (shortest, forward):
        np.testing.assert_allclose(rodrigues(result), rodrigues(rotvec), atol=1e-7)
    assert np.linalg.norm(shortest) <= math.pi + 1e-12
    assert forward[0] >= 0 and np.linalg.norm(forward) <= 2 * math.pi + 1e-12
    if np.linalg.norm(rotvec) < math.pi - 1e-6:
        np.testing.assert_allclose(shortest, rotvec, atol=1e-8)


@given(rotvecs, rotvecs)
def test_difference_turns_one_into_the_other(to, start):
    turn = rotation.difference(rotation.from_rotvec(to), rotation.from_rotvec(start))
    np.testing.assert_allclose(rodrigues(turn) @ rodrigues(start), rodrigues(to), atol=1e-7)
    assert np.linalg.norm(turn) <= math.pi + 1e-12


@given(vectors(1.2), vectors(1e-4))
def test_proprio_rotation_is_continuous_around_top_down(tilt, nudge):
    """The shortest rotation vector would jump between +pi and -pi here."""
    pose = rotation.multiply(rotation.from_rotvec(tilt), rotation.TOP_DOWN_XYZW)
    nudged = rotation.multiply(rotation.from_rotvec(nudge), pose)
    gap = rotation.to_rotvec_x_positive(pose) - rotation.to_rotvec_x_positive(nudged)
    assert np.linalg.norm(gap) < 20 * np.linalg.norm(nudge) + 1e-9


def test_top_down_points_down_with_the_fingers_along_y():
    x, y, z = matrix(rotation.TOP_DOWN_XYZW).T
    np.testing.assert_array_equal([x, y, z], [[1, 0, 0], [0, -1, 0], [0, 0, -1]])


# --- panda.py: one table, two descriptions ---


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


# --- gl.py ---


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


# --- Episodes ---


def test_an_episode_is_what_its_seed_says(env):
    instruction, begun = env.reset(3), env.state()
    moved = [env.step(action(at=[0, 5], value=0.3)) for _ in range(3)]
    env.reset(4)
    env.step(action(gripper=CLOSE))
    fresh = TabletopEnv(render=False)
    for again in (env, fresh):
        assert again.reset(3) == instruction == f"pick up the {begun.target} cube"
        assert_same(again.state(), begun)
        for expected in moved:
            assert_same(again.step(action(at=[0, 5], value=0.3)), expected)


def test_the_same_seed_looks_the_same(camera_env):
    pictures = {}
    for seed in (3, 4, 3):
        camera_env.reset(seed)
        seen = np.stack([camera_env.render(camera) for camera in camera_env.CAMERAS])
        np.testing.assert_array_equal(pictures.setdefault(seed, seen), seen)
    assert (pictures[3] != pictures[4]).mean() > 0.01


def test_seeds_draw_different_episodes_within_the_task(env):
    starts, counts, targets = [], set(), set()
    for seed in range(25):
        env.reset(seed)
        state = env.state()
        starts.append(numbers(state)[:22])
        counts.add(len(state.cubes))
        targets.add(state.target)
        assert state.target in state.cubes and set(state.cubes) <= set(tabletop.COLOURS)
        assert np.all(np.abs(state.ee_position_m - tabletop.EE_START_M) <= tabletop.EE_START_SPREAD_M + 1e-5)
        assert angle(state.ee_quaternion_xyzw, rotation.TOP_DOWN_XYZW) < 0.6
        np.testing.assert_array_equal(state.finger_positions_m, panda.FINGER_OPEN_M)
        places = np.stack(list(state.cubes.values()))
        assert np.all((places[:, :2] >= (0.40, -0.20)) & (places[:, :2] <= (0.65, 0.20)))
        np.testing.assert_array_equal(places[:, 2], scene.CUBE_HALF_M)
        gaps = np.linalg.norm(places[:, None] - places, axis=-1) + np.eye(len(places))
        assert gaps.min() >= 0.10
    assert len(np.unique(starts, axis=0)) == 25 and counts == TWO_TO_FOUR and len(targets) >= 5


def test_scattered_starts_are_inside_their_box_and_clear_of_the_cubes(env):
    heights = []
    for seed in range(25):
        env.reset(seed, scattered=True)
        state = env.state()
        position = state.ee_position_m
        low, high = tabletop.SCATTER_M
        assert np.all((position >= low - 1e-5) & (position <= high + 1e-5))
        gaps = [np.linalg.norm((cube - position)[:2]) for cube in state.cubes.values()]
        assert position[2] > tabletop.CLEAR_HEIGHT_M - 1e-5 or min(gaps) > tabletop.CLEAR_M - 1e-5
        hand = {env._model.body(f"fr3_{part}").id for part in ("hand", "leftfinger", "rightfinger")}
        assert not hand & set(env._model.geom_bodyid[env._data.contact.geom].flat)
        heights.append(position[2])
        if seed < 3:
            env.reset(seed)
            assert state.target == env.state().target
            np.testing.assert_array_equal(list(state.cubes.values()), list(env.state().cubes.values()))
    assert min(heights) < 0.05 and max(heights) > 0.2


def test_a_step_before_reset_says_so():
    with pytest.raises(RuntimeError, match=r"has not started; call reset\(seed\) before stepping"):
        TabletopEnv(render=False).hold()


def test_a_state_is_a_copy(env):
    env.reset(0)
    state = env.state()
    with pytest.raises(TypeError):
        state.cubes["red"] = np.zeros(3)
    for array in (state.ee_position_m, state.joint_positions_rad, state.finger_positions_m, state.cubes[state.target]):
        array += 1.0
    assert abs(numbers(env.state()) - numbers(state)).max() == 1.0


def test_proprio_is_the_state_in_liberos_layout(env):
    for seed in (0, 1):
        env.reset(seed)
        state, proprio = env.step(action(at=[3, 4, 5], value=0.5, gripper=CLOSE)), env.proprio()
        assert proprio.shape == (8,) and proprio.dtype == np.float32
        np.testing.assert_allclose(proprio[:3], state.ee_position_m, atol=1e-6)
        np.testing.assert_allclose(rodrigues(proprio[3:6].astype(float)), matrix(state.ee_quaternion_xyzw), atol=1e-5)
        assert proprio[3] > 0
        np.testing.assert_allclose(proprio[6:], state.finger_positions_m * (1, -1), atol=1e-6)


# --- Snapshots ---


def test_restore_continues_bit_for_bit(env):
    """Through a grasp, where contacts and the solver's warm start matter."""
    env.reset(1)
    state = env.state()
    for _ in range(30):
        state = env.step(expert_action(state))
    assert state.finger_positions_m.mean() < 0.025
    before = env.snapshot()
    expected = [env.step(expert_action(env.state())) for _ in range(6)] + [env.hold()]
    env.step_pose((0.5, 0.1, 0.3), rotation.TOP_DOWN_XYZW, True)
    assert_same(env.restore(before), state)
    assert_same(env.state(), state)
    again = [env.step(expert_action(env.state())) for _ in range(6)] + [env.hold()]
    for a, b in zip(again, expected, strict=True):
        assert_same(a, b)


def test_restore_brings_back_pictures_and_progress(camera_env):
    env = camera_env
    env.reset(2)
    state = env.state()
    for _ in range(3):
        lift(env, [state.target])
    before, seen = env.snapshot(), [env.render(camera) for camera in env.CAMERAS]
    for _ in range(3):
        env.step(action(at=[0, 1, 2], value=-0.5))
    assert any((env.render(c) != picture).any() for c, picture in zip(env.CAMERAS, seen, strict=True))
    env.restore(before)
    for camera, picture in zip(env.CAMERAS, seen, strict=True):
        np.testing.assert_array_equal(env.render(camera), picture)
    lift(env, [state.target])
    assert not env.success()
    lift(env, [state.target])
    assert env.success()


def test_the_wrist_camera_is_fixed_to_the_hand(env):
    def in_hand():
        hand, camera = env._data.body("fr3_hand"), env._data.cam("wrist")
        to_hand = hand.xmat.reshape(3, 3).T
        return np.column_stack([to_hand @ camera.xmat.reshape(3, 3), to_hand @ (camera.xpos - hand.xpos)])

    env.reset(0)
    mounted, before = in_hand(), env.snapshot()
    y = np.array([0.966, 0, 0.259]) / math.hypot(0.966, 0.259)
    expected = np.column_stack([[0, 1, 0], y, np.cross([0, 1, 0], y), [0.085, 0, -0.005]])
    np.testing.assert_allclose(mounted, expected, atol=1e-6)
    for change in (
        lambda: env.step(action(at=range(6), value=0.4)),
        lambda: env.step(action(at=range(6), value=-0.7, gripper=CLOSE)),
        env.hold,
        lambda: env.restore(before),
        lambda: env.reset(5, scattered=True),
    ):
        change()
        np.testing.assert_allclose(in_hand(), mounted, atol=1e-9)


# --- Control ---

REMEDY = r"give \[dx, dy, dz, rx, ry, rz, gripper\] in action units"


@pytest.mark.parametrize(
    "bad, text",
    [
        (action(at=[1], value=math.nan), r"action \[0.0, nan, .*\] has values that are not finite; "),
        (action(gripper=math.inf), r"action \[.* inf\] has values that are not finite; "),
        (np.zeros(6), r"action has shape \(6,\), expected \(7,\); "),
        (np.zeros((1, 7)), r"action has shape \(1, 7\), expected \(7,\); "),
        (0.5, r"action has shape \(\), expected \(7,\); "),
        (None, r"action has shape \(\), expected \(7,\); "),
        ("up", "action 'up' is not numeric; "),
        ({"x": 1}, "action {'x': 1} is not numeric; "),
        ([0, [1], 2, 3, 4, 5, 6], "action .* is not numeric; "),
    ],
)
def test_bad_actions_name_the_value_and_the_remedy_and_move_nothing(env, bad, text):
    env.reset(0)
    before = env.state()
    with pytest.raises(ValueError, match=text + REMEDY):
        env.step(bad)
    assert_same(env.state(), before)


@pytest.mark.parametrize(
    "position, quaternion, text",
    [
        ((0.5, math.nan, 0.2), (1, 0, 0, 0), r"position \[0.5, nan, 0.2\] .* not finite; give x, y, z in metres"),
        ((0.5, 0.2), (1, 0, 0, 0), r"position has shape \(2,\), expected \(3,\); give x, y, z"),
        ((0.5, 0, 0.2), np.eye(3), r"quaternion has shape \(3, 3\), expected \(4,\); give x, y, z, w"),
        ((0.5, 0, 0.2), (0, 0, 0, 0), r"quaternion \[0.0, 0.0, 0.0, 0.0\] has length 0.0000; give a unit quaternion"),
        ((0.5, 0, 0.2), (1, 1, 0, 0), r"has length 1.4142; give a unit quaternion \(x, y, z, w\)"),
    ],
)
def test_bad_poses_name_the_value_and_the_remedy_and_move_nothing(env, position, quaternion, text):
    env.reset(0)
    before = env.state()
    with pytest.raises(ValueError, match=text):
        env.step_pose(position, quaternion, True)
    assert_same(env.state(), before)


@pytest.mark.parametrize("axis", range(6))
def test_a_constant_command_moves_by_as_much_each_step_and_hold_stays(env, axis):
    env.reset(1)
    command = action(at=[axis], value=0.2)
    states = [env.step(command) for _ in range(9)]
    for before, after in pairwise(states[5:]):
        moved = np.concatenate(
            [
                after.ee_position_m - before.ee_position_m,
                rotation.difference(after.ee_quaternion_xyzw, before.ee_quaternion_xyzw),
            ]
        )
        np.testing.assert_allclose(moved / osc.ACTION_SCALE, command[:6], atol=0.005)  # 0.25 mm, 2.5 mrad
        assert after.time_s - before.time_s == pytest.approx(osc.PERIOD_S)
    held = [env.hold() for _ in range(6)][-1]
    assert np.linalg.norm(held.ee_position_m - states[-1].ee_position_m) < 0.002  # no overshoot to speak of,
    assert angle(held.ee_quaternion_xyzw, states[-1].ee_quaternion_xyzw) < 0.02
    later = [env.hold() for _ in range(3)][-1]
    assert np.linalg.norm(later.ee_position_m - held.ee_position_m) < 2e-4  # and then it stands
    assert angle(later.ee_quaternion_xyzw, held.ee_quaternion_xyzw) < 2e-3


def test_actions_are_clipped_to_one_unit(env):
    reached = []
    for value in (1.0, 40.0):
        env.reset(0)
        reached.append(numbers(env.step(action(at=[0, 1, 5], value=value))))
    np.testing.assert_array_equal(*reached)


@pytest.mark.parametrize("sign", [1, -1])
def test_step_pose_reaches_a_pose_at_a_limited_speed(env, sign):
    env.reset(1)
    states = [env.state()]
    position = np.array([0.55, -0.25, 0.2])
    quaternion = rotation.multiply(rotation.from_rotvec((0.0, 0.2, 1.0)), rotation.TOP_DOWN_XYZW)
    assert np.linalg.norm(position - states[0].ee_position_m) > 0.2  # four periods at least
    states += [env.step_pose(position, sign * quaternion, True) for _ in range(20)]
    np.testing.assert_allclose(states[-1].ee_position_m, position, atol=1e-3)
    assert angle(states[-1].ee_quaternion_xyzw, quaternion) < 5e-3
    for periods, state in enumerate(states):
        # The target moves 0.05 m and 0.5 rad per period; the arm may catch up and overshoot by a part of a period.
        assert np.linalg.norm(state.ee_position_m - states[0].ee_position_m) < 0.05 * periods + 0.015
        assert angle(state.ee_quaternion_xyzw, states[0].ee_quaternion_xyzw) < 0.5 * periods + 0.1


@pytest.mark.parametrize("goal", [(0.1, 0.5, 0.8), (0.1, -0.5, -0.1), (0.9, 0.0, 0.3)])
def test_poses_outside_the_workspace_end_at_its_border(env, goal):
    env.reset(1)
    reached = [env.step_pose(goal, rotation.TOP_DOWN_XYZW, True) for _ in range(22)][-1].ee_position_m
    np.testing.assert_allclose(reached, np.clip(goal, [0.28, -0.35, 0.0125], [0.72, 0.35, 0.55]), atol=2e-3)


def test_actions_stop_at_the_workspaces_border_and_come_back_at_once(env):
    env.reset(1)
    pushed = [env.step(action(at=[0], value=1.0)) for _ in range(12)][-1]
    assert pushed.ee_position_m[0] == pytest.approx(0.72, abs=2e-3)
    back = [env.step(action(at=[0], value=-0.5)) for _ in range(4)][-1]
    assert back.ee_position_m[0] == pytest.approx(0.72 - 4 * 0.025, abs=5e-3)  # nothing had wound up


def test_a_blocked_arm_does_not_leap_when_it_is_released(env):
    env.reset(1)
    start, joints = env.state(), env._data.qpos[env._arm].copy()
    for _ in range(6):
        env.step(action(at=[0, 5], value=1.0))
        env._data.qpos[env._arm], env._data.qvel[env._arm] = joints, 0.0
        mujoco.mj_forward(env._model, env._data)
    released = [env.hold() for _ in range(8)]
    for state in released:
        assert np.linalg.norm(state.ee_position_m - start.ee_position_m) < 1.1 * osc.LEASH_M
        assert angle(state.ee_quaternion_xyzw, start.ee_quaternion_xyzw) < 1.1 * osc.LEASH_RAD
    assert np.linalg.norm(released[-1].ee_position_m - start.ee_position_m) > 0.9 * osc.LEASH_M


def test_the_gripper_closes_and_opens_at_its_speed(env):
    env.reset(0)
    steps = [env.step(action(gripper=gripper)).finger_positions_m for gripper in [0.4] * 11 + [0.6] * 11]
    closed, opened = steps[10], steps[-1]
    np.testing.assert_allclose(closed, 0.0, atol=5e-4)
    np.testing.assert_allclose(opened, panda.FINGER_OPEN_M, atol=5e-4)
    openings = np.array([[panda.FINGER_OPEN_M] * 2, *steps])
    assert np.abs(np.diff(openings, axis=0)).max() < 0.1 * 0.05 * 1.1  # finger speed times period
    np.testing.assert_allclose(openings[:, 0], openings[:, 1], atol=5e-4)
    env.step(action(gripper=CLOSE))
    assert env.hold().finger_positions_m.max() < 0.035  # hold keeps closing
    assert env.step_pose((0.5, 0, 0.3), rotation.TOP_DOWN_XYZW, False).finger_positions_m.max() < 0.03


# --- Success ---


def lift(env, colours, height=0.3):
    """One control period with these cubes in the air beside the robot and the others where they are."""
    for i, colour in enumerate(env.state().cubes):
        if colour in colours:
            cube = env._data.joint(f"cube{i}")
            cube.qpos[:3], cube.qvel[:] = (0.65, 0.32 if i % 2 else -0.32, height), 0
    return env.hold()


def three_cubes(env):
    """(target, another colour) of an episode with three cubes."""
    env.reset(1)
    colours = tuple(env.state().cubes)
    assert len(colours) == 3
    target = env.state().target
    return target, next(colour for colour in colours if colour != target)


def test_success_is_the_named_cube_held_up_long_enough(env):
    target, _ = three_cubes(env)
    outcomes = []
    for _ in range(env.success_steps + 1):
        lift(env, [target])
        outcomes.append(env.success())
    assert outcomes == [False] * (env.success_steps - 1) + [True] * 2
    lift(env, [target], height=scene.CUBE_HALF_M)
    assert not env.success()
    for _ in range(env.success_steps - 1):
        lift(env, [target])
    assert not env.success()  # counted from the start again
    lift(env, [target])
    assert env.success()
    env.reset(1)
    assert not env.success()


@pytest.mark.parametrize("which", ["another", "both", "too low"])
def test_nothing_else_is_success(env, which):
    target, another = three_cubes(env)
    colours = {"another": [another], "both": [target, another], "too low": [target]}[which]
    for _ in range(env.success_steps + 2):
        lift(env, colours, height=scene.CUBE_HALF_M + 0.055 if which == "too low" else 0.3)
        assert not env.success()


# --- Cameras ---


def hue_and_saturation(image):
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    top, low = image.max(axis=-1).astype(float), image.min(axis=-1).astype(float)
    span = np.maximum(top - low, 1e-9)
    sector = np.select([top == red, top == green], [(green - blue) / span % 6, 2 + (blue - red) / span])
    hue = np.where((top == blue) & (top != red) & (top != green), 4 + (red - green) / span, sector) / 6
    return hue, (top - low) / np.maximum(top, 1e-9)


def coloured_pixels(image):
    """(H, W, 6) bool: pixels that have each cube's hue; everything else in the scene is nearly grey."""
    hue, saturation = hue_and_saturation(image)
    hues = np.array([colorsys.rgb_to_hsv(*rgba[:3])[0] for rgba in scene.RGBA.values()])
    away = np.abs((hue[..., None] - hues + 0.5) % 1 - 0.5)
    nearest = away.argmin(axis=-1)[..., None] == np.arange(len(hues))
    return nearest & (saturation > 0.4)[..., None]


def cover_by_hue(image, patch):
    """What ``render_cover`` says, counted patch by patch from the picture alone."""
    coloured = coloured_pixels(image)
    side = len(image) // patch
    cover = np.zeros((side * side, coloured.shape[-1]), int)
    for row in range(side):
        for column in range(side):
            square = coloured[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            cover[row * side + column] = np.rint(255 * square.mean(axis=(0, 1)))
    return cover


@pytest.mark.parametrize("seed", [0, 3])
def test_cover_is_where_the_colours_are(camera_env, seed):
    """Also with the hand in front of the cubes and a cube between the pads."""
    camera_env.reset(seed)
    state = camera_env.state()
    cube = state.cubes[state.target]
    for down in (False, True):
        if down:
            state = [camera_env.step_pose(cube, rotation.TOP_DOWN_XYZW, True) for _ in range(12)][-1]
            assert np.linalg.norm(state.ee_position_m - cube) < 0.01
        for camera in camera_env.CAMERAS:
            image, cover = camera_env.render(camera), camera_env.render_cover(camera)
            assert image.shape == (224, 224, 3) and image.dtype == np.uint8 and image.std() > 10
            assert cover.shape == (256, 6) and cover.dtype == np.uint8
            assert cover.sum(axis=1, dtype=int).max() <= 255
            np.testing.assert_array_equal(cover, cover_by_hue(image, 14))
            absent = [i for i, colour in enumerate(tabletop.COLOURS) if colour not in state.cubes]
            assert not cover[:, absent].any()
        assert camera_env.render_cover("wrist")[:, tabletop.COLOURS.index(state.target)].any()
    assert cover.max() == 255  # the wrist camera is close to the cube
    assert camera_env.render_cover("wrist", patch=28).shape == (64, 6)


def test_the_third_person_camera_shows_the_cubes_where_they_are(camera_env):
    """A pinhole with the numbers of the scene's description puts each cube's centre in the middle of its pixels."""
    camera_env.reset(1)
    x, y = np.array([0, 1, 0]), np.array([-0.766, 0, 0.643]) / math.hypot(0.766, 0.643)
    focal_px = 112 / math.tan(math.radians(20.8) / 2)
    coloured = coloured_pixels(camera_env.render("third_person"))
    for colour, cube in camera_env.state().cubes.items():
        right, up, back = np.stack([x, y, np.cross(x, y)]) @ (cube - (1.291, 0, 1.109))
        expected = np.array([112 - focal_px * up / -back, 112 + focal_px * right / -back])
        rows, columns = np.nonzero(coloured[..., tabletop.COLOURS.index(colour)])
        np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], expected, atol=1.5)


def test_bad_requests_for_pictures_say_what_to_do(env, camera_env):
    with pytest.raises(RuntimeError, match="does not render; make it with render=True"):
        env.render("wrist")
    for render in (camera_env.render, camera_env.render_cover):
        with pytest.raises(ValueError, match="camera 'left' is not known; use one of third_person, wrist"):
            render("left")
    with pytest.raises(ValueError, match="patch 15 does not divide the image size 224; use one of its divisors"):
        camera_env.render_cover("wrist", patch=15)


# --- Expert ---


@pytest.mark.parametrize("seed, scattered", [(0, False), (1, False), (2, False), (3, True)])
def test_the_expert_succeeds_and_depends_on_nothing_but_the_state(env, seed, scattered):
    env.reset(seed, scattered)
    states, actions = [env.state()], []
    while not env.success() and len(actions) < env.max_steps:
        actions.append(expert_action(states[-1]))
        states.append(env.step(actions[-1]))
    assert env.success(), f"not lifted within {env.max_steps} steps"
    for state, expected in zip(states[-2::-1], actions[::-1], strict=True):  # backwards: no memory of what came before
        before = numbers(state)
        np.testing.assert_array_equal(expert_action(state), expected)
        np.testing.assert_array_equal(numbers(state), before)
    for _ in range(4):
        env.hold()
    assert env.success()


@given(vectors(0.4), vectors(1.0), st.floats(0, 0.04), vectors(0.2))
def test_the_experts_actions_stay_within_their_limits(offset, tilt, finger, place):
    position = place + (0.5, 0.0, 0.25)
    assume(position[2] > 0)
    state = tabletop.SimState(
        time_s=0.0,
        ee_position_m=position,
        ee_quaternion_xyzw=rotation.multiply(rotation.from_rotvec(tilt), rotation.TOP_DOWN_XYZW),
        joint_positions_rad=np.zeros(7),
        joint_velocities=np.zeros(7),
        finger_positions_m=np.array([finger, finger]),
        cubes=MappingProxyType({"red": position + offset, "blue": np.zeros(3)}),
        target="red",
    )
    result = expert_action(state)
    assert result.shape == (7,) and result.dtype == np.float64 and np.isfinite(result).all()
    assert np.linalg.norm(result[:3]) <= 0.6 + 1e-9 and np.linalg.norm(result[3:6]) <= 0.12 + 1e-9
    assert result[6] in (OPEN, CLOSE)
    assert result[:2] @ offset[:2] >= 0  # never away from the cube
    assert result[3:6] @ tilt <= 1e-9  # and always back to top-down
    np.testing.assert_array_equal(expert_action(state), result)
