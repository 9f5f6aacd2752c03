"""Closed loop, evaluation and benchmark, with stubs where the policy and the simulator would be."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rollout_stubs import CHUNK_STEPS, PLAIN, Silent, StubEnv, StubPolicy
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.bench import latency as bench
from specprune_ros.bench.latency_report import summary
from specprune_ros.bench.latency_rows import PolicyRunner, rows_of
from specprune_ros.bench.recording import record
from specprune_ros.cli import main as cli
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval.players import Player
from specprune_ros.eval.record import Job
from specprune_ros.eval.rollout import Episode, run_episode
from specprune_ros.infer.load import load_policy
from specprune_ros.sim.expert import expert_action
from specprune_ros.sim.settings import SIMULATION
from specprune_ros.sim.suites import SUITES


@pytest.mark.parametrize("latency_steps", [0, 1, 3])
def test_steps_that_pass_during_inference_are_not_executed(latency_steps):
    env = StubEnv()
    episode = run_episode(env, StubPolicy(), PLAIN, seed=4, latency_steps=latency_steps)
    held, commanded = env.done[:latency_steps], env.done[latency_steps:]
    assert held == [None] * latency_steps
    # The first chunk begins at the step that belongs to its arrival and goes on step by step.
    first = [action for action in commanded if action[1] == pytest.approx(0.01)]
    assert [action[0] for action in first[:4]] == pytest.approx([(latency_steps + i) / 10 for i in range(4)])
    assert episode.steps == env.max_steps
    assert episode.held_steps == sum(action is None for action in env.done)
    assert not episode.success


def test_an_episode_ends_with_success_and_tells_what_it_took():
    env, policy = StubEnv(success_at=17), StubPolicy()
    episode = run_episode(env, policy, PLAIN, seed=4)
    assert (episode.seed, episode.instruction, episode.success, episode.steps) == (4, "pick up cube 4", True, 17)
    assert (episode.tokens_total, set(episode.tokens_kept)) == (512, {200})
    assert len(episode.latency_ms) == len(episode.tokens_kept) == len(policy.requests)
    assert episode.modes == {"fine": len(policy.requests)}
    assert (episode.suite, set(episode.gflop)) == ("pick", {2.0})
    assert policy.requests[0].memory is None
    assert policy.requests[1].memory.last_attention == 1
    again = Episode.from_json(json.loads(json.dumps(episode.to_json())))
    assert replace(again, latency_ms=()) == replace(episode, latency_ms=())


def test_every_episode_draws_its_own_tokens():
    """Chunks are numbered alike in every episode, so the seed has to differ."""
    config, drawn = PLAIN.updated({"pruning.strategy": "random", "pruning.random_seed": 7}), []
    for seed in (4, 5, 4):
        policy = StubPolicy()
        run_episode(StubEnv(success_at=17), policy, config, seed=seed)
        drawn.append({request.pruning.random_seed for request in policy.requests})
    assert drawn == [{11}, {12}, {11}]
    policy = StubPolicy()
    run_episode(StubEnv(success_at=17), policy, PLAIN, seed=4)
    assert {request.pruning for request in policy.requests} == {PLAIN.pruning}


def test_the_real_tabletop_is_solved_through_chunks_by_a_policy_that_knows_the_state(tabletop):
    policy = StubPolicy(act=lambda request: np.tile(expert_action(tabletop.state()), (CHUNK_STEPS, 1)))
    config = PLAIN.updated({"control.execute_steps": 2, "control.lead_steps": 1})
    for suite in ("long", "pick"):
        episode = run_episode(tabletop, policy, config, seed=0, suite=suite)
        assert episode.success
        assert (" and " in episode.instruction) == (suite == "long")
    assert policy.requests[2].observation.motion is not None


@pytest.mark.parametrize("rate", [50.0, 19.0])
def test_a_simulator_at_another_rate_than_the_loop_is_refused(tabletop, rate):
    """Every speed would be wrong, silently."""
    text = f"control.rate: {rate:g} Hz, but the simulator steps at 20 Hz; make it with control_rate=config.control.rate"
    with pytest.raises(ConfigError, match=text):
        run_episode(tabletop, StubPolicy(), PLAIN.updated({"control.rate": rate}), seed=0)


@pytest.mark.parametrize("rate", [10.0, 50.0])
def test_evaluation_and_recording_simulate_at_the_rate_of_the_loop(monkeypatch, rate):
    """What the loop measures is the speed that was commanded, in action units per period and so in m/s."""
    monkeypatch.setattr("specprune_ros.infer.load.load_policy", lambda config: StubPolicy(act=slowly))
    monkeypatch.setitem(SUITES, "pick", replace(SUITES["pick"], episode_s=24 / rate))
    player = Player.load(PLAIN.updated({"control.rate": rate}), ["dense"], latency_steps=0)
    env, loop_motions = player.env, player.policy.requests
    assert env.control_rate == rate
    _, episode = player.play(Job("pick", "dense", 0))
    assert episode.steps == 24 and env.state().time_s == pytest.approx(24 / rate)
    measured = [request.observation.motion.linear for request in loop_motions if request.observation.motion]
    assert measured[-1] == pytest.approx(SLOW, rel=0.05)
    env.close()
    monkeypatch.undo()
    requests = record(PLAIN.updated({"control.rate": rate}), StubPolicy(), count=4, seed0=0)
    fastest = max(request.observation.motion.linear for request in requests if request.observation.motion)
    assert fastest == pytest.approx(min(1.0, 0.6 * 20.0 / rate), rel=0.2), "0.6 m/s from afar, or a full action"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"action.scale_translation": 0.1}, r"action.scale_translation: up to 0\.1 m .* at most 0\.05 m"),
        ({"action.scale_translation": 1.0}, r"action.scale_translation: up to 0\.1 m .* limits.step_translation"),
        ({"action.scale_rotation": 0.8}, r"action.scale_rotation: up to 0\.8 rad .* at most 0\.5 rad"),
    ],
)
def test_steps_that_the_simulator_would_cut_are_refused(monkeypatch, changes, text):
    """They were clipped, and the result was that of another scale."""
    monkeypatch.setattr("specprune_ros.infer.load.load_policy", lambda config: pytest.fail("a policy is loaded"))
    config = PLAIN.updated(changes)
    with pytest.raises(ConfigError, match=text):
        run_episode(StubEnv(), StubPolicy(), config, seed=0)
    with pytest.raises(ConfigError, match=text):
        Player.load(config, ["dense"], latency_steps=0)


def test_steps_that_a_limit_keeps_small_are_no_mistake():
    """As for policies in metres, whose scale is only the most that an action may ask for."""
    kept = {"action.scale_translation": 1.0, "limits.step_translation": 0.05, "action.scale_rotation": 1.0}
    run_episode(StubEnv(success_at=2), StubPolicy(), PLAIN.updated(kept | {"limits.step_rotation": 0.5}), seed=0)


def test_views_are_turned_and_flipped_as_on_the_robot():
    policy, env = StubPolicy(), StubEnv(success_at=12)
    upright = [np.arange(48, dtype=np.uint8).reshape(4, 4, 3) + 50 * view for view in range(2)]
    env.render = lambda camera: upright[list(env.CAMERAS).index(camera)]
    config = PLAIN.updated({"topics.image_rotations": (180, 0), "topics.image_flips": ("none", "horizontal")})
    run_episode(env, policy, config, seed=0)
    seen = policy.requests[0].observation.images
    np.testing.assert_array_equal(seen[0], upright[0][::-1, ::-1])
    np.testing.assert_array_equal(seen[1], upright[1][:, ::-1])


SLOW = 0.1


def slowly(request):
    """Sideways, by SLOW action units each period."""
    return np.tile([0.0, SLOW, 0.0, 0.0, 0.0, 0.0, 1.0], (CHUNK_STEPS, 1))


def test_a_rate_beyond_the_simulators_is_one_line_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr("specprune_ros.infer.load.load_policy", lambda config: StubPolicy())
    assert cli.main(["evaluate", "--episodes", "1", "--modes", "dense", "--set", "control.rate=200"]) == 2
    assert "control rate: 200 Hz is out of range; the simulator can be driven at 5 .. 100 Hz" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tiny_policy(tmp_path_factory):
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return load_policy(Config().updated({"policy.checkpoint": str(folder), "policy.engine": "eager"}))


def test_a_policy_says_which_instructions_it_knows(tiny_policy):
    assert tiny_policy.knows("pick up the red cube")
    assert not tiny_policy.knows("")


def test_the_real_policy_fits_into_rollout_and_benchmark(monkeypatch, tabletop, tiny_policy):
    monkeypatch.setattr(tabletop, "max_steps", 16)
    monkeypatch.setitem(SUITES, "pick", replace(SUITES["pick"], episode_s=0.8))
    monkeypatch.setattr(bench, "GEMM_SECONDS", 0.0)
    episode = run_episode(tabletop, tiny_policy, Config().updated(SIMULATION), seed=0)
    assert episode.modes.pop("dense") >= 1, "the first pass has no history"
    assert sum(episode.modes.values()) >= 1
    assert max(episode.tokens_kept) == episode.tokens_total == 512 > min(episode.tokens_kept)
    rows, runners = rows_of("eager", Config(), [0.5], parts=False), {"eager": PolicyRunner(tiny_policy)}
    requests = record(Config(), tiny_policy, 2, seed0=0)
    bench.get_ready(rows, runners, requests)
    gemm = bench.measure(rows, runners, requests, 1, Silent(), tiny_policy.device, tiny_policy.dtype)
    result = summary(rows, "eager", gemm)
    dense, full, coarse, fine = result["rows"]
    assert dense["tokens_kept"] == 512
    assert coarse["tokens_kept"] <= full["tokens_kept"] <= fine["tokens_kept"] < 512
    assert coarse["gflop"] < fine["gflop"] < dense["gflop"]
    assert 0 < result["selection_share"] < 1
