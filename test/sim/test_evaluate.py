"""Evaluation: what it plays, keeps, resumes and refuses."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from specprune_ros.cli import main as cli
from specprune_ros.config import ConfigError
from specprune_ros.eval import evaluate, stats
from specprune_ros.eval.rollout import Episode


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


def test_several_processes_play_every_job(monkeypatch, tmp_path):
    """With threads for processes, which would not know the stub."""

    def begin(*given):
        evaluate._player_args = given

    def threads(workers, begin, *given):
        return ThreadPoolExecutor(workers, initializer=begin, initargs=given)

    monkeypatch.setattr(evaluate, "_start_worker", begin)
    monkeypatch.setattr(evaluate, "_player", None)
    monkeypatch.setattr("specprune_ros.eval.pool.pool", threads)
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,full", "--workers", "2")
    assert status == 0 and result["complete"]
    assert sorted(StubPlayer.played) == sorted(evaluate.interleaved(("dense", "full"), range(3, 9)))


def test_strategies_at_several_levels_share_their_seeds(monkeypatch, tmp_path):
    names = ("specprune@5%", "random@0.5", "random@5%")
    status, result = evaluated(monkeypatch, tmp_path, "--modes", ",".join(names))
    assert status == 0 and tuple(result["modes"]) == names
    assert result["paired"]["random@5%_vs_specprune@5%"]["pairs"] == 6


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
