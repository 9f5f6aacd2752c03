"""Perturbed episodes: nothing at strength 0, the same for the same seed, and each axis changes what it says alone."""

import numpy as np
import pytest
from sim_helpers import action, assert_same, numbers

from specprune_ros.config import ConfigError
from specprune_ros.sim import scene
from specprune_ros.sim.env import TabletopEnv
from specprune_ros.sim.expert import expert_action
from specprune_ros.sim.perturb import Perturbation
from specprune_ros.sim.settings import PERTURBATIONS
from specprune_ros.sim.wording import reworded

SEED, SUITE = 7, "goal"


def seen(axes, strength, seed=SEED, suite=SUITE, steps=0):
    """(instruction, state, pictures, model) of the beginning of an episode, or after some steps."""
    with TabletopEnv(56, perturbation=Perturbation(axes, strength)) as env:
        env.reset(seed + 1, suite=suite)  # what an earlier episode changed must not stay
        instruction = env.reset(seed, suite=suite)
        for _ in range(steps):
            env.step(action(at=(0, 1), value=0.3))
        pictures = [env.render(camera) for camera in env.CAMERAS]
        return instruction, env.state(), pictures, env._world.model


@pytest.fixture(scope="module")
def plain():
    with TabletopEnv(56) as env:
        instruction = env.reset(SEED, suite=SUITE)
        return instruction, env.state(), [env.render(camera) for camera in env.CAMERAS], env._world.model


def test_strength_0_is_the_plain_episode_bit_for_bit(plain):
    instruction, state, pictures, model = seen(PERTURBATIONS, 0)
    assert instruction == plain[0] and model.nq == plain[3].nq and model.ntex == plain[3].ntex
    assert_same(state, plain[1])
    np.testing.assert_array_equal(pictures, plain[2])


@pytest.mark.parametrize("axis", PERTURBATIONS)
def test_a_seed_repeats_and_another_seed_differs(axis):
    one, again = seen((axis,), 2, steps=3), seen((axis,), 2, steps=3)
    assert one[0] == again[0]
    assert_same(one[1], again[1])
    np.testing.assert_array_equal(one[2], again[2])
    draws = [np.concatenate([np.ravel(p) for p in seen((axis,), 2, seed)[2]]) for seed in (SEED, SEED + 2)]
    assert (draws[0] != draws[1]).any()


LIGHT = ("light_diffuse", "light_dir")
CAMERA = ("cam_pos", "cam_quat")


@pytest.mark.parametrize("strength", [1, 3])
@pytest.mark.parametrize("axis", PERTURBATIONS)
def test_each_axis_changes_what_it_says_and_nothing_else(plain, axis, strength):
    instruction, state, pictures, model = seen((axis,), strength)
    assert (instruction != plain[0]) == (axis == "wording")
    assert (numbers(state) != numbers(plain[1])).any() == (axis == "start")
    for name, thing in state.things.items():
        np.testing.assert_array_equal(thing.position_m, plain[1].things[name].position_m)
    assert state.goals == plain[1].goals
    for fields, owner in ((LIGHT, "light"), (CAMERA, "camera")):
        same = all((getattr(model, field) == getattr(plain[3], field)).all() for field in fields)
        assert same == (axis != owner)
    headlight, usual = model.vis.headlight, plain[3].vis.headlight
    assert (headlight.diffuse == usual.diffuse).all() == (axis != "light")
    assert (model.geom("table").rgba == plain[3].geom("table").rgba).all() == (axis != "texture")
    assert (model.nq > plain[3].nq) == (axis == "distractors")
    differs = [(one != other).any() for one, other in zip(pictures, plain[2], strict=True)]
    assert all(differs) if axis in ("camera", "light", "noise", "texture", "start") else not differs[1] or differs[0]
    assert any(differs) == (axis != "wording")


def test_an_axis_draws_the_same_beside_others():
    alone, together = seen(("camera",), 2), seen(("camera", "texture", "start", "light"), 2)
    np.testing.assert_array_equal(alone[3].cam_pos, together[3].cam_pos)
    start = seen(("start",), 2)
    np.testing.assert_array_equal(start[1].ee_position_m, together[1].ee_position_m)


def test_more_strength_is_further_away(plain):
    noise, moved = [], []
    for strength in (1, 2, 3):
        _, _, pictures, model = seen(("noise",), strength)
        noise.append(np.abs(np.int16(pictures[0]) - plain[2][0]).mean())
        moved.append(np.abs(seen(("camera",), strength)[3].cam_pos - plain[3].cam_pos).max())
    assert noise == sorted(noise) and noise[2] > 3 * noise[0]
    assert moved == sorted(moved) and moved[2] > 2 * moved[0]


def test_noise_is_new_in_every_picture_and_the_same_when_asked_again():
    with TabletopEnv(56, perturbation=Perturbation(("noise",), 2)) as env:
        env.reset(SEED)
        first = env.render("third_person")
        np.testing.assert_array_equal(first, env.render("third_person"))
        env.hold()
        assert (first != env.render("third_person")).mean() > 0.5


@pytest.mark.parametrize("suite", ["goal", "object"])
def test_what_the_instruction_names_stays_in_the_picture_of_a_moved_camera(suite):
    with TabletopEnv(224, perturbation=Perturbation(("camera",), 3)) as env:
        for seed in range(12):
            env.reset(seed, suite=suite)
            cover = dict(zip(env.state().things, env.render_cover("third_person").sum(0) / 255, strict=True))
            for goal in env.state().goals:
                assert all(cover[name] > 0.4 for name in goal.names), (seed, cover)


def test_distractors_lie_free_and_the_expert_gets_around_them():
    count = 0
    with TabletopEnv(render=False, perturbation=Perturbation(("distractors",), 3)) as env:
        for suite in ("goal", "object", "pick"):
            for seed in range(4):
                env.reset(seed, suite=suite)
                model, data = env._world.model, env._world.data
                shown = [i for i in range(len(scene.DISTRACTORS)) if model.geom(f"distractor{i}").rgba[3]]
                places = [data.joint(f"distractor{i}").qpos[:2].copy() for i in shown]
                count += len(shown)
                for i, place in enumerate(places):
                    others = [thing.position_m[:2] for thing in env.state().things.values()] + places[:i]
                    assert min(np.linalg.norm(place - other) for other in others) >= 0.1
                for _ in range(env.max_steps):
                    env.step(expert_action(env.state()))
                    if env.success():
                        break
                assert env.success(), (suite, seed)
    assert count > 30


def test_the_arm_can_begin_wherever_it_is_sent():
    with TabletopEnv(render=False, perturbation=Perturbation(("start",), 3)) as env:
        for seed in range(40):
            env.reset(seed)
            assert env.state().ee_position_m[2] > 0.19


def test_other_words_are_known_ones():
    rng = np.random.default_rng(0)
    plain = "put the red cube on the plate and pick up the can"
    assert {reworded(plain, rng, 1, lambda text: True) for _ in range(60)} >= {
        "place the red cube on the plate then lift the can",
        "move the red cube on the plate and pick up the can",
    }
    assert reworded(plain, rng, 1, lambda text: "take" in text and "then" not in text).endswith("take the can")
    assert reworded(plain, rng, 3, lambda text: False) == plain


def test_words_of_every_suite_stay_within_the_bundled_tokenizer():
    pytest.importorskip("torch")
    from tokenizers import Tokenizer

    from specprune_ros.model.prompt import PromptEncoder
    from specprune_ros.model.small import tokenizer_json

    encoder = PromptEncoder(Tokenizer.from_str(tokenizer_json()), None)
    with TabletopEnv(render=False, perturbation=Perturbation(("wording",), 3)) as env:
        for suite in ("pick", "spatial", "goal", "long"):
            for seed in range(8):
                encoder.encode(env.reset(seed, suite=suite))


@pytest.mark.parametrize(
    ("axes", "strength", "text"), [(("fog",), 1, "'fog' is not one of camera"), ((), 4, "4 is not")]
)
def test_what_there_is_not_is_named(axes, strength, text):
    with pytest.raises(ConfigError, match=text):
        Perturbation(axes, strength)
