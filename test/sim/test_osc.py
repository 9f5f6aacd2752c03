"""Control of the simulated arm: actions, absolute poses, the gripper, at every rate."""

import math
from itertools import pairwise

import numpy as np
import pytest
from sim_helpers import CLOSE, action, angle, assert_same, numbers

from specprune_ros import rotation
from specprune_ros.sim import osc, panda
from specprune_ros.sim.env import TabletopEnv
from specprune_ros.sim.expert import expert_action
from specprune_ros.sim.gl import mujoco

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
    start, joints = env.state(), env._world.data.qpos[env._world.arm].copy()
    for _ in range(6):
        env.step(action(at=[0, 5], value=1.0))
        world = env._world
        world.data.qpos[world.arm], world.data.qvel[world.arm] = joints, 0.0
        mujoco.mj_forward(world.model, world.data)
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


# Control rates


RATES_HZ = (5.0, 7.0, 30.0, 50.0, 100.0)


@pytest.fixture(scope="module", params=RATES_HZ, ids="{:g} Hz".format)
def rated(request):
    with TabletopEnv(render=False, control_rate=request.param) as env:
        yield env


def test_an_action_is_a_displacement_per_period_at_every_rate(rated):
    """Steps of the same speed in m/s and rad/s, so that no rate is asked for more than the arm can do."""
    for axis, speed in ((0, 0.1), (2, -0.1), (5, 0.4)):
        rated.reset(1)
        each = speed * rated.period_s / osc.ACTION_SCALE[axis]
        states = [rated.step(action(at=[axis], value=each)) for _ in range(math.ceil(0.8 * rated.control_rate))]
        late = states[len(states) // 2 :]
        moved = np.concatenate(
            [
                late[-1].ee_position_m - late[0].ee_position_m,
                rotation.difference(late[-1].ee_quaternion_xyzw, late[0].ee_quaternion_xyzw),
            ]
        )
        expected = np.zeros(6)
        expected[axis] = each * osc.ACTION_SCALE[axis] * (len(late) - 1)
        np.testing.assert_allclose(moved, expected, atol=0.004)
        assert states[-1].time_s == pytest.approx(len(states) / rated.control_rate)


def test_poses_and_fingers_move_in_seconds_at_every_rate(rated):
    rated.reset(1)
    goal = rated.state().ee_position_m + (0.0, 0.2, 0.0)
    steps = math.ceil(0.12 * rated.control_rate)
    early = [rated.step_pose(goal, rotation.TOP_DOWN_XYZW, False) for _ in range(steps)][-1]
    assert np.linalg.norm(goal - early.ee_position_m) > 0.18 - early.time_s * osc.POSE_SPEED_MPS
    np.testing.assert_allclose(early.finger_positions_m, panda.FINGER_OPEN_M - 0.1 * early.time_s, atol=4e-3)
    late = [rated.step_pose(goal, rotation.TOP_DOWN_XYZW, False) for _ in range(math.ceil(0.8 * rated.control_rate))][
        -1
    ]
    np.testing.assert_allclose(late.ee_position_m, goal, atol=2e-3)


def test_the_expert_succeeds_at_every_rate_and_in_the_same_time(rated, env):
    """Seconds, not periods."""
    took_s = []
    for world in (rated, env):
        world.reset(3)
        for _ in range(world.max_steps):
            world.step(expert_action(world.state(), world.period_s))
            if world.success():
                break
        assert world.success(), f"not lifted within {world.max_steps} periods at {world.control_rate} Hz"
        took_s.append(world.state().time_s)
    assert took_s[0] == pytest.approx(took_s[1], rel=0.35)


@pytest.mark.parametrize("rate", [0.0, 4.9, 100.1, -20.0, math.nan, math.inf])
def test_a_rate_that_the_arm_cannot_follow_is_refused(rate):
    with pytest.raises(ValueError, match=r"control rate: .* Hz is out of range; .* at 5 .. 100 Hz"):
        TabletopEnv(render=False, control_rate=rate)
