"""The suites of tasks: what is drawn, what counts as done, and that the expert does it, also after a slip."""

import math
from collections import Counter
from types import MappingProxyType

import numpy as np
import pytest
from sim_helpers import CLOSE, OPEN, action, assert_same

from specprune_ros.config import ConfigError
from specprune_ros.sim import scene, suites, tasks
from specprune_ros.sim.env import SimState, TabletopEnv
from specprune_ros.sim.expert import expert_action, focus, waypoint
from specprune_ros.sim.suites import SUITES
from specprune_ros.sim.tasks import Goal, Thing

SEEDS = 60
NEW = ("object", "spatial", "goal", "long")


@pytest.fixture(scope="module")
def drawn():
    """Suite -> the scenes of some seeds."""
    return {name: [suite.draw(np.random.default_rng(seed)) for seed in range(SEEDS)] for name, suite in SUITES.items()}


# What is drawn


@pytest.mark.parametrize("suite", SUITES)
def test_things_lie_on_the_table_with_room_between_them(drawn, suite):
    for drawn_scene in drawn[suite]:
        things = list(drawn_scene.things.values())
        assert all(count <= scene.EACH for kind, count in Counter(t.kind for t in things).items() if suite != "pick")
        for thing in things:
            x, y, _ = thing.position_m
            assert 0.40 <= x <= 0.65 and -0.20 <= y <= (0.11 if drawn_scene.edge else 0.20)
        for i, one in enumerate(things):
            for other in things[:i]:
                gap = math.dist(one.position_m[:2], other.position_m[:2])
                kinds = {one.kind, other.kind}
                least = 0.135 if "plate" in kinds else 0.10
                assert gap >= least, (one, other)


@pytest.mark.parametrize("suite", SUITES)
def test_every_word_of_an_instruction_is_known_to_the_bundled_tokenizer(drawn, suite):
    pytest.importorskip("torch")
    from tokenizers import Tokenizer

    from specprune_ros.model.prompt import PromptEncoder
    from specprune_ros.model.small import tokenizer_json

    encoder = PromptEncoder(Tokenizer.from_str(tokenizer_json()), None)
    for drawn_scene in drawn[suite]:
        prompt = encoder.encode(drawn_scene.instruction)
        assert prompt.task[1] - prompt.task[0] == len(drawn_scene.instruction.split())


def test_the_named_object_is_the_only_one_that_looks_so_and_both_words_are_needed(drawn):
    counts = set()
    for drawn_scene in drawn["object"]:
        [goal] = drawn_scene.goals
        meant, *others = drawn_scene.things.values()
        assert drawn_scene.instruction == f"pick up the {meant.colour} {meant.kind}"
        assert goal == Goal("pick", f"{meant.colour} {meant.kind}")
        assert all((t.kind, t.colour) != (meant.kind, meant.colour) for t in others)
        assert any(t.kind == meant.kind for t in others) and any(t.colour == meant.colour for t in others)
        counts.add(len(others))
    assert min(counts) == 2 and max(counts) == 6


def test_only_its_place_tells_the_meant_thing_from_its_twin(drawn):
    """The words are checked against the pictures' directions, from the instruction alone."""
    seen = set()
    for drawn_scene in drawn["spatial"]:
        things = list(drawn_scene.things.values())
        meant, twin, landmark = (thing.position_m for thing in things[:3])
        assert (things[0].kind, things[0].colour) == (things[1].kind, things[1].colour)
        look = f"{things[0].colour} {things[0].kind}"
        before, _, after = drawn_scene.instruction.partition(look)
        assert before == "pick up the " and after.endswith(f" the {things[2].colour} {things[2].kind}")
        assert Counter((t.kind, t.colour) for t in things)[(things[2].kind, things[2].colour)] == 1
        relation = after.removesuffix(f" the {things[2].colour} {things[2].kind}").strip()
        seen.add(relation)
        holds = {
            "left of": lambda p: p[1] < landmark[1],  # noqa: B023
            "right of": lambda p: p[1] > landmark[1],  # noqa: B023
            "behind": lambda p: p[0] < landmark[0],  # noqa: B023
            "in front of": lambda p: p[0] > landmark[0],  # noqa: B023
        }.get(relation)
        if holds:
            assert holds(meant) and not holds(twin)
        else:
            assert relation == "nearest to"
            assert math.dist(meant[:2], landmark[:2]) + 0.05 < math.dist(twin[:2], landmark[:2])
    assert len(seen) == 5


def test_left_in_the_words_is_left_in_the_third_person_picture(camera_env):
    for seed in range(40):
        if "left of" in camera_env.reset(seed, suite="spatial"):
            break
    meant, twin = list(camera_env.state().things)[:2]
    cover = camera_env.render_cover("third_person").reshape(16, 16, -1)
    column = [np.average(np.arange(16), weights=cover[:, :, i].sum(axis=0) + 1e-9) for i in range(2)]
    assert meant in camera_env.state().goal.names and twin.startswith("other ") and column[0] < column[1]


def test_goals_have_every_verb_and_long_tasks_two_of_them(drawn):
    assert {s.goals[0].verb for s in drawn["goal"]} == {"pick", "place", "stack", "push", "press"}
    assert all(len(s.goals) == 1 and s.edge for s in drawn["goal"])
    pairs = {tuple(goal.verb for goal in s.goals) for s in drawn["long"]}
    assert pairs == set(suites.PAIRS)
    assert all(s.instruction.count(" and ") == 1 for s in drawn["long"])
    said = {s.goals[0].verb: s.instruction for s in drawn["goal"]}
    assert said["press"] == "press the button" and said["place"].endswith(" on the plate")
    assert said["push"].startswith("push the ") and said["push"].endswith(" cube to the edge")


def test_a_suite_that_there_is_not_is_refused(env):
    with pytest.raises(ConfigError, match="suite: 'libero' is not known; use one of pick, object, spatial, goal, long"):
        env.reset(0, suite="libero")


# What counts as done


def state(goals, things, *, ee=(0.4, 0.0, 0.3), fingers=0.04, pressed=False):
    return SimState(
        time_s=0.0,
        ee_position_m=np.array(ee),
        ee_quaternion_xyzw=np.array([1.0, 0.0, 0.0, 0.0]),
        joint_positions_rad=np.zeros(7),
        joint_velocities=np.zeros(7),
        finger_positions_m=np.array([fingers, fingers]),
        things=MappingProxyType({name: Thing(k, c, np.array(p)) for name, (k, c, p) in things.items()}),
        goals=goals,
        pressed=pressed,
    )


PLATE = ("plate", "", (0.5, -0.1, 0.008))
PLACE, STACK = Goal("place", "red can", "plate"), Goal("stack", "red cube", "blue cube")


@pytest.mark.parametrize(
    ("at", "ee", "fingers", "expected"),
    [
        ((0.52, -0.08, 0.033), (0.4, 0.0, 0.3), 0.0, True),
        ((0.52, -0.08, 0.033), (0.52, -0.08, 0.033), 0.04, True),
        ((0.52, -0.08, 0.033), (0.52, -0.08, 0.033), 0.02, False),  # still held
        ((0.52, -0.08, 0.060), (0.52, -0.08, 0.060), 0.04, False),  # in the air
        ((0.56, -0.10, 0.033), (0.4, 0.0, 0.3), 0.04, False),  # beside it
        ((0.50, -0.10, 0.025), (0.4, 0.0, 0.3), 0.04, True),  # a little lower, as on its edge
    ],
)
def test_on_the_plate_is_there_and_let_go(at, ee, fingers, expected):
    placed = state((PLACE,), {"red can": ("can", "red", at), "plate": PLATE}, ee=ee, fingers=fingers)
    assert tasks.done(PLACE, placed) is expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [((0.5, 0.01, 0.06), True), ((0.5, 0.03, 0.06), False), ((0.5, 0.0, 0.02), False), ((0.5, 0.0, 0.1), False)],
)
def test_stacked_is_on_top_of_the_other(at, expected):
    things = {"red cube": ("cube", "red", at), "blue cube": ("cube", "blue", (0.5, 0.0, 0.02))}
    assert tasks.done(STACK, state((STACK,), things)) is expected


@pytest.mark.parametrize(
    ("at", "expected"), [((0.5, 0.19, 0.02), True), ((0.5, 0.18, 0.02), False), ((0.5, 0.22, 0.10), False)]
)
def test_pushed_is_on_the_strip_and_on_the_table(at, expected):
    goal = Goal("push", "red cube")
    assert tasks.done(goal, state((goal,), {"red cube": ("cube", "red", at)})) is expected


def test_of_two_goals_the_first_that_is_not_reached_is_in_force():
    press = Goal("press", "button")
    button = ("button", "", (0.5, 0.1, 0.03))
    on, beside = (("can", "red", (x, -0.1, 0.033 if x == 0.5 else 0.025)) for x in (0.5, 0.62))
    for can, pressed, expected in (
        (beside, False, PLACE),
        (on, False, press),
        (on, True, press),
        (beside, True, PLACE),
    ):
        now = state((PLACE, press), {"red can": can, "plate": PLATE, "button": button}, pressed=pressed)
        assert now.goal == expected
        assert focus(now) == expected.thing and waypoint(now) is now.things[expected.thing].position_m


# Episodes


@pytest.mark.parametrize("suite", NEW)
def test_an_episode_is_what_its_seed_says(env, suite):
    instruction, begun = env.reset(3, suite=suite), env.state()
    moved = [env.step(expert_action(env.state())) for _ in range(3)]
    env.reset(4, suite="goal")
    env.reset(4)
    with TabletopEnv(render=False) as fresh:
        for again in (env, fresh):
            assert again.reset(3, suite=suite) == instruction
            assert_same(again.state(), begun)
            for expected in moved:
                assert_same(again.step(expert_action(again.state())), expected)


def solve(env, disturb=lambda env, step: None):
    for step in range(env.max_steps):
        disturb(env, step)
        env.step(expert_action(env.state()))
        if env.success():
            return
    raise AssertionError(f"{env.state().goals} not reached within {env.max_steps} steps")


@pytest.mark.parametrize("suite", NEW)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_expert_does_it(env, suite, seed):
    env.reset(seed, suite=suite)
    solve(env)
    assert all(tasks.done(goal, env.state()) for goal in env.state().goals)
    for _ in range(6):  # and leaves it done
        env.step(expert_action(env.state()))
    assert env.success()


@pytest.mark.slow
@pytest.mark.parametrize("suite", NEW)
def test_the_expert_depends_on_nothing_but_the_state_and_recovers_from_slips(env, suite):
    """Twice in the episode the gripper opens for a while, whatever it holds, and the arm is pushed aside."""
    for seed in (3, 4):
        env.reset(seed, suite=suite)
        seen = []

        def disturb(env, step):
            seen.append((env.state(), expert_action(env.state())))  # noqa: B023
            if step in (30, 60):
                for _ in range(4):
                    env.step(action(at=[1], value=-0.4, gripper=OPEN))

        solve(env, disturb)
        for before, chosen in reversed(seen):
            np.testing.assert_array_equal(expert_action(before), chosen)


def episode_of(env, suite, verb):
    for seed in range(100):
        env.reset(seed, suite=suite)
        if env.state().goals[0].verb == verb:
            return
    raise AssertionError(verb)


def test_a_pressed_button_stays_pressed_shows_it_and_is_restored(camera_env):
    env = camera_env
    episode_of(env, "goal", "press")
    before, dark = env.snapshot(), env.render("third_person").copy()
    solve(env)
    for _ in range(15):
        env.step(action(at=[2], value=0.4, gripper=CLOSE))
    assert env.state().pressed and env.success()
    column = list(env.state().things).index("button")
    shown = env.render_cover("third_person")[:, column].reshape(16, 16) > 150
    lit = env.render("third_person")
    patches = [image.reshape(16, 14, 16, 14, 3).mean(axis=(1, 3))[shown] for image in (lit, dark)]
    assert (patches[0] - patches[1])[:, 0].max() > 30, "the cap turned orange"
    assert not env.restore(before).pressed
    np.testing.assert_array_equal(env.render("third_person"), dark)
    episode_of(env, "goal", "press")
    assert not env.state().pressed


def test_things_that_an_episode_does_not_need_stay_out_of_sight_and_out_of_the_way(camera_env):
    camera_env.reset(2, suite="spatial")
    world = camera_env._world
    assert camera_env.render_cover("third_person").any(axis=0).all(), "what is there is seen"
    for _ in range(20):
        camera_env.hold()
    unused = [
        name for kind in scene.KINDS for i in range(scene.EACH) if world.model.geom(name := f"{kind}{i}").rgba[3] == 0
    ]
    assert len(unused) == 3 * scene.EACH - len(camera_env.state().things)
    for name in unused:
        assert world.data.joint(name).qpos[0] < -2 and abs(world.data.joint(name).qvel).max() < 0.05
        assert world.model.geom(name).id not in world.data.contact.geom
