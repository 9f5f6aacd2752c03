"""Episodes of the pick task: what a seed decides, snapshots, success."""

import math

import numpy as np
import pytest
from sim_helpers import CLOSE, action, angle, assert_same, matrix, numbers, rodrigues

from specprune_ros import rotation
from specprune_ros.sim import env as tabletop
from specprune_ros.sim import panda, scene
from specprune_ros.sim.env import TabletopEnv
from specprune_ros.sim.expert import expert_action

TWO_TO_FOUR = {2, 3, 4}


def places(state):
    """Where the things are (3,), in their order."""
    return [thing.position_m for thing in state.things.values()]


def test_an_episode_is_what_its_seed_says(env):
    instruction, begun = env.reset(3), env.state()
    moved = [env.step(action(at=[0, 5], value=0.3)) for _ in range(3)]
    env.reset(4)
    env.step(action(gripper=CLOSE))
    fresh = TabletopEnv(render=False)
    for again in (env, fresh):
        assert again.reset(3) == instruction == f"pick up the {begun.goal.thing}"
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
        counts.add(len(state.things))
        targets.add(state.goal.thing)
        assert state.goal.verb == "pick" and state.goal.thing in state.things
        assert all(name == f"{thing.colour} cube" for name, thing in state.things.items())
        assert np.all(np.abs(state.ee_position_m - tabletop.EE_START_M) <= tabletop.EE_START_SPREAD_M + 1e-5)
        assert angle(state.ee_quaternion_xyzw, rotation.TOP_DOWN_XYZW) < 0.6
        np.testing.assert_array_equal(state.finger_positions_m, panda.FINGER_OPEN_M)
        places = np.stack([thing.position_m for thing in state.things.values()])
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
        gaps = [np.linalg.norm((cube - position)[:2]) for cube in places(state)]
        assert position[2] > tabletop.CLEAR_HEIGHT_M - 1e-5 or min(gaps) > tabletop.CLEAR_M - 1e-5
        hand = {env._world.model.body(f"fr3_{part}").id for part in ("hand", "leftfinger", "rightfinger")}
        assert not hand & set(env._world.model.geom_bodyid[env._world.data.contact.geom].flat)
        heights.append(position[2])
        if seed < 3:
            env.reset(seed)
            assert state.goals == env.state().goals
            np.testing.assert_array_equal(places(state), places(env.state()))
    assert min(heights) < 0.05 and max(heights) > 0.2


def test_a_step_before_reset_says_so():
    with pytest.raises(RuntimeError, match=r"has not started; call reset\(seed\) before stepping"):
        TabletopEnv(render=False).hold()


def test_a_state_is_a_copy(env):
    env.reset(0)
    state = env.state()
    with pytest.raises(TypeError):
        state.things["red cube"] = None
    arrays = (state.ee_position_m, state.joint_positions_rad, state.finger_positions_m, *places(state))
    for array in arrays:
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
        lift(env, [state.goal.thing])
    before, seen = env.snapshot(), [env.render(camera) for camera in env.CAMERAS]
    for _ in range(3):
        env.step(action(at=[0, 1, 2], value=-0.5))
    assert any((env.render(c) != picture).any() for c, picture in zip(env.CAMERAS, seen, strict=True))
    env.restore(before)
    for camera, picture in zip(env.CAMERAS, seen, strict=True):
        np.testing.assert_array_equal(env.render(camera), picture)
    lift(env, [state.goal.thing])
    assert not env.success()
    lift(env, [state.goal.thing])
    assert env.success()


def test_the_wrist_camera_is_fixed_to_the_hand(env):
    def in_hand():
        hand, camera = env._world.data.body("fr3_hand"), env._world.data.cam("wrist")
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


def lift(env, names, height=0.3):
    """One control period with these cubes in the air beside the robot and the others where they are."""
    for i, name in enumerate(env.state().things):
        if name in names:
            cube = env._world.data.joint(f"cube{i}")
            cube.qpos[:3], cube.qvel[:] = (0.65, 0.32 if i % 2 else -0.32, height), 0
    return env.hold()


def three_cubes(env):
    """(the cube that is meant, another one) of an episode with three cubes."""
    env.reset(1)
    names = tuple(env.state().things)
    assert len(names) == 3
    target = env.state().goal.thing
    return target, next(name for name in names if name != target)


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
    names = {"another": [another], "both": [target, another], "too low": [target]}[which]
    for _ in range(env.success_steps + 2):
        lift(env, names, height=scene.CUBE_HALF_M + 0.055 if which == "too low" else 0.3)
        assert not env.success()
