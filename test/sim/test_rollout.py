"""Closed loop, evaluation and benchmark, with stubs where the policy and the simulator would be."""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.bench import latency as bench
from specprune_ros.bench.latency_report import row_label, summary, tables, verdict
from specprune_ros.bench.latency_rows import PolicyRunner, Sample, rows_of
from specprune_ros.bench.recording import record
from specprune_ros.cli import main as cli
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval import evaluate, stats
from specprune_ros.eval.rollout import Episode, run_episode
from specprune_ros.infer.load import load_policy
from specprune_ros.sim.env import SimState, TabletopEnv
from specprune_ros.sim.expert import expert_action
from specprune_ros.sim.settings import SIMULATION
from specprune_ros.sim.suites import SUITES
from specprune_ros.types import STAGES, ActionChunk, InferenceResult, Mode, PolicyMemory, PruningReport

CHUNK_STEPS = 8


class Silent:
    """A progress display for nobody."""

    def advance(self, note=""):
        pass


class StubEnv:
    """Does what it is told and writes it down; success after `success_at` steps."""

    CAMERAS = ("third_person", "wrist")
    max_steps = 30
    control_rate = 20.0

    def __init__(self, success_at=None):
        self.success_at = success_at

    def reset(self, seed, suite="pick"):
        self.done = []
        return f"{suite} up cube {seed}"

    def step(self, action):
        self.done.append(np.array(action))

    def hold(self):
        self.done.append(None)

    def render(self, camera):
        return np.zeros((8, 8, 3), np.uint8)

    def state(self):
        return SimState(
            time_s=0.05 * len(self.done),
            ee_position_m=np.zeros(3),
            ee_quaternion_xyzw=np.array([0.0, 0.0, 0.0, 1.0]),
            joint_positions_rad=np.zeros(7),
            joint_velocities=np.zeros(7),
            finger_positions_m=np.full(2, 0.04),
            things={},
            goals=(),
        )

    def proprio(self):
        return np.zeros(8, np.float32)

    def success(self):
        return self.success_at is not None and len(self.done) >= self.success_at


def report(mode=Mode.FINE, kept=200, ms=None):
    ms = ms or dict.fromkeys((*STAGES, "total"), 1.0)
    per_view = [(256, 256)] + [(kept // 2, kept // 2)] * 2 + [(0, 0)] * 4
    return PruningReport(mode, 0.5, 512, kept, *per_view, 0, False, ms, (600,) * 12, np.zeros(512, np.uint8))


class StubPolicy:
    """Step i of chunk c moves by (i / 10, c / 100): what was executed can be read off the action."""

    view_count, chunk_steps, proprio_dims, image_size = 2, CHUNK_STEPS, 8, 224
    device, dtype = torch.device("cpu"), torch.float32
    ran = "eager"

    def __init__(self, act=None):
        self.act = act or self.numbered
        self.requests, self.levels_ahead = [], ()

    def settle(self):
        return True

    def numbered(self, request):
        actions = np.zeros((CHUNK_STEPS, 7))
        actions[:, 0], actions[:, 1] = np.arange(CHUNK_STEPS) / 10, request.chunk_id / 100
        return actions

    def warm_up(self, config):
        pass

    def infer(self, request):
        self.requests.append(request)
        seen = request.observation
        dense = request.pruning.aggressiveness == 0.0
        mode = Mode.DENSE if dense else request.mode
        chunk = ActionChunk(request.chunk_id, seen.stamp_ns, self.act(request), mode, seen.instruction)
        memory = PolicyMemory(len(self.requests), seen.instruction, seen.stamp_ns)
        return InferenceResult(request, chunk, report(mode, 512 if dense else 200), memory)

    def gflop(self, pruning):
        return pruning.tokens_kept / 100


PLAIN = Config().updated(SIMULATION | {"control.blend_steps": 0, "control.lead_steps": 2})


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
    assert policy.requests[0].memory is None
    assert policy.requests[1].memory.salient == 1
    again = Episode.from_json(json.loads(json.dumps(episode.to_json())))
    assert replace(again, latency_ms=()) == replace(episode, latency_ms=())


@pytest.fixture(scope="module")
def tabletop():
    with TabletopEnv() as env:
        yield env


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
    player = evaluate.Player.load(PLAIN.updated({"control.rate": rate}), ["dense"], latency_steps=0)
    env, loop_motions = player.env, player.policy.requests
    assert env.control_rate == rate
    monkeypatch.setattr(env, "max_steps", 24)
    _, episode = player.play(("dense", 0))
    assert episode.steps == 24 and env.state().time_s == pytest.approx(24 / rate)
    measured = [request.observation.motion.linear for request in loop_motions if request.observation.motion]
    assert measured[-1] == pytest.approx(SLOW, rel=0.05)
    env.close()
    requests = record(PLAIN.updated({"control.rate": rate}), StubPolicy(), count=4, seed0=0)
    fastest = max(request.observation.motion.linear for request in requests if request.observation.motion)
    assert fastest == pytest.approx(min(1.0, 0.6 * 20.0 / rate), rel=0.2), "0.6 m/s from afar, or a full action"


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


class StubPlayer:
    """Success by table; `stop_after` episodes it is interrupted."""

    played: list = []

    def __init__(self, missed=(), stop_after=None):
        self.missed, self.stop_after = missed, stop_after

    def play(self, job):
        name, seed = job
        if self.stop_after is not None and len(self.played) == self.stop_after:
            raise KeyboardInterrupt
        self.played.append(job)
        dense = name == "dense"
        modes = {"dense": 3} if dense else {"coarse": 1, "fine": 2}
        kept = (512,) * 3 if dense else (150, 210, 210)
        return name, Episode(seed, "pick", job not in self.missed, 50 + seed, 1, 512, kept, (30.0, 40.0, 50.0), modes)


def evaluated(monkeypatch, tmp_path, *argv, **player):
    monkeypatch.setattr(StubPlayer, "played", [])
    monkeypatch.setattr(evaluate.Player, "load", lambda *_: StubPlayer(**player))
    path = tmp_path / "evaluation.json"
    status = cli.main(["evaluate", "--episodes", "6", "--seed0", "3", "--json", str(path), *argv])
    return status, json.loads(path.read_text()) if path.exists() else None


def test_evaluation_keeps_its_contract(monkeypatch, tmp_path):
    missed = {("dense", 3), ("full", 4), ("full", 5)}
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "full,dense", missed=missed)
    assert status == 0
    assert result["seeds"] == [3, 4, 5, 6, 7, 8]
    full = result["modes"]["full"]
    assert (full["episodes"], full["successes"], full["success_rate"]) == (6, 4, pytest.approx(4 / 6))
    assert full["wilson95"] == pytest.approx(stats.wilson(4, 6))
    assert (full["mean_steps"], full["tokens_kept_mean"], full["latency_ms"]) == (55.5, 190.0, 40.0)
    pair = result["paired"]["full_vs_dense"]
    assert pair["difference"] == pytest.approx(-1 / 6)
    assert pair["ci95"] == pytest.approx(stats.paired_interval(3, 1, 2, 0))
    assert pair["mcnemar_p"] == 1.0
    assert result["complete"]
    assert result["machine"]["cores"] >= 1


def test_modes_take_turns_so_that_a_partial_result_is_paired():
    jobs = evaluate.interleaved(("dense", "full"), range(2))
    assert jobs == [("dense", 0), ("full", 0), ("dense", 1), ("full", 1)]


def test_nothing_finished_is_lost_and_nothing_is_played_twice(monkeypatch, tmp_path, capsys):
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,full", stop_after=5)
    assert status == 130
    assert "the same command continues" in capsys.readouterr().out
    assert (result["modes"]["dense"]["episodes"], result["modes"]["full"]["episodes"]) == (3, 2)
    assert result["paired"]["full_vs_dense"]["pairs"] == 2
    assert not result["complete"]
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,full")
    assert status == 0 and result["complete"]
    assert StubPlayer.played == [("full", 5), *evaluate.interleaved(("dense", "full"), (6, 7, 8))]


def test_more_seeds_and_modes_extend_a_result(monkeypatch, tmp_path):
    evaluated(monkeypatch, tmp_path, "--modes", "dense")
    _, result = evaluated(monkeypatch, tmp_path, "--modes", "full", "--episodes", "7")
    assert StubPlayer.played == [("full", seed) for seed in range(3, 10)]
    assert len(result["episodes"]["dense"]) == 6
    assert list(result["modes"]) == ["full"]


def test_results_of_other_settings_are_not_mixed(monkeypatch, tmp_path, capsys):
    evaluated(monkeypatch, tmp_path)
    status, _ = evaluated(monkeypatch, tmp_path, "--set", "pruning.aggressiveness=0.7")
    assert status == 2
    assert "give another --json file or --restart" in capsys.readouterr().err
    status, _ = evaluated(monkeypatch, tmp_path, "--set", "pruning.aggressiveness=0.7", "--restart")
    assert status == 0


def test_another_json_file_is_never_overwritten_silently(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text('{"rows": []}')
    with pytest.raises(ConfigError, match="not a result of specprune evaluate"):
        evaluate.Record.open(path, {}, restart=False)


def test_recorded_requests_are_those_of_real_movement(tabletop):
    requests = record(Config(), StubPolicy(), count=6, seed0=0)
    assert sum(request.memory is not None for request in requests) == 6
    assert requests[0].memory is None and requests[0].reference_images is None
    for request in requests[1:]:
        assert request.observation.images[0].shape == (224, 224, 3)
    later = requests[2]
    assert later.frame_offset > 0 and later.observation.motion.linear > 0
    assert np.any(later.reference_images[0] != later.observation.images[0])
    assert {request.mode for request in requests} == {Mode.COARSE, Mode.FINE}


def test_benchmark_rows_share_observations_and_keep_their_own_memory(monkeypatch, tabletop):
    monkeypatch.setattr(bench, "GEMM_SECONDS", 0.0)
    rows = rows_of("eager", Config(), [0.25, 1.0], parts=True)
    names = [(row.mode, row.aggressiveness, row.forced) for row in rows]
    assert names[:4] == [
        ("dense", 0.0, None),
        ("full", 0.5, None),
        ("static", 0.5, Mode.FINE),
        ("static_dynamic", 0.5, Mode.FINE),
    ]
    assert names[4:6] == [("full", 0.25, Mode.COARSE), ("full", 0.25, Mode.FINE)]
    policy = StubPolicy()
    requests = record(Config(), policy, count=3, seed0=1)
    bench.measure(rows, {"eager": PolicyRunner(policy)}, requests, 2, Silent(), policy.device, policy.dtype)
    assert all(len(samples) == 2 for row in rows for samples in row.total_ms.values())
    assert all(len(row.total_ms) == 3 and len(row.all_samples()) == 6 for row in rows)
    per_row = len(requests)
    assert len(policy.requests) == 2 * per_row * len(rows)
    memories = [request.memory.salient for request in policy.requests if request.memory]
    assert len(set(memories)) == len(memories), "no two rows may continue the same memory"


def filled(engine, mode, kept, times_ms, ran=None):
    """A row with measurements: times of one observation; another one took half as long."""
    row = next(row for row in rows_of(engine, Config(), [], parts=False) if row.mode == mode)
    row.total_ms = {0: list(times_ms), 1: [value / 2 for value in times_ms]}
    ms = {"preprocess": 1.0, "vision": 4.0, "selection": 1.0, "decoder": 13.0, "head": 1.0}
    row.samples = dict.fromkeys((0, 1), [Sample(ran or engine, ms, kept, 512, kept / 100)] * 3)
    return row


def test_benchmark_result_keeps_its_contract():
    rows = [
        filled("stock", "dense", 512, (60.0, 60.0, 60.0)),
        filled("eager", "dense", 512, (40.0, 42.0, 90.0)),
        filled("eager", "full", 200, (24.0, 24.0, 24.0)),
        filled("openvino", "dense", 512, (30.0, 30.0, 30.0)),
        filled("openvino", "full", 200, (15.0, 80.0, 15.0), ran="eager"),
    ]
    result = summary(rows, "openvino", gemm_gflops=200.0)
    assert [row["engine"] for row in result["rows"]] == ["stock", "eager", "eager", "openvino", "openvino"]
    assert result["speedup_full_vs_dense"] == 2.0 and result["default_engine"] == "openvino"
    assert (result["speedup_vs_best_dense"], result["best_dense"]) == (2.0, "openvino")
    assert result["selection_share"] == 0.05
    eager, row = result["rows"][2], result["rows"][4]
    assert eager["speedup_vs_dense"] == pytest.approx(42 / 24) and eager["speedup_vs_dense_openvino"] == 30 / 24
    assert eager["speedup_vs_stock"] == 60 / 24
    assert (row["engine"], row["mode"], row["aggressiveness"], row["tokens_kept"]) == ("openvino", "full", 0.5, 200)
    assert row["p50_ms"] == 15.0 and row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert set(row["stages_ms"]) == set(STAGES)
    assert (row["gflop"], row["floor_ms"], row["over_floor"]) == (2.0, 10.0, 1.5)
    assert row["ran"] == {"eager": 6}, "a row says what really ran"
    facts = {"cpu": "c", "cores": 2, "dtype": "fp32", "load_average_before": 0.1}
    text = verdict({**result, "machine": facts, "skipped": {"graph": "no GPU"}})
    assert "2.00x" in text and "not measured: graph: no GPU" in text
    assert "openvino full 0.5 measured: some of it really ran on eager" in text
    assert [row_label(row) for row in result["rows"]][:4] == [
        "stock",
        "eager dense",
        "eager full 0.5 measured",
        "openvino dense",
    ]
    tables(result)
    without = summary(rows[1:3], "eager", gemm_gflops=200.0)
    assert without["rows"][0]["speedup_vs_dense_openvino"] is None and without["best_dense"] == "eager"
    tables(without)


def test_a_machine_without_the_simulator_is_told_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert cli.main(["bench"]) == 2
    message = capsys.readouterr().err
    assert "MuJoCo is missing" in message and "--model openvla-7b" in message


def test_the_engines_that_are_measured():
    assert bench.chosen("stock, eager,stock") == ["stock", "eager"]
    assert bench.chosen("all") == ["stock", "eager", "openvino", "graph"]
    with pytest.raises(ConfigError, match="'warp' is not one of eager"):
        bench.chosen("eager,warp")
    assert bench.default_engine({"eager": 1, "openvino": 2}) == "openvino"


def test_all_engines_are_measured_side_by_side(monkeypatch, tmp_path, tabletop):
    """The command itself, on random weights: stock, eager and, where it is installed, OpenVINO."""
    monkeypatch.setattr(bench, "GEMM_SECONDS", 0.0)
    weights = write_tiny_checkpoint(tmp_path / "tiny")
    argv = ["bench", "--quick", "--rounds", "1", "--observations", "2", "--json", str(tmp_path / "bench.json")]
    settings = {"checkpoint": weights, "cache_dir": tmp_path / "cache", "dtype": "fp32"}
    assert cli.main([*argv, *(f"--set=policy.{name}={value}" for name, value in settings.items())]) == 0
    result = json.loads((tmp_path / "bench.json").read_text())
    engines = ["stock", "eager"] + (["openvino"] if importlib.util.find_spec("openvino") else [])
    assert list(dict.fromkeys(row["engine"] for row in result["rows"])) == engines
    assert all(row["ran"] == {row["engine"]: row["samples"]} for row in result["rows"])
    assert result["default_engine"] == engines[-1] and result["settings"]["attention"]
