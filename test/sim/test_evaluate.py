"""Evaluation: what it plays, keeps, resumes and refuses."""

import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import tables

from specprune_ros.cli import main as cli
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval import players, stats
from specprune_ros.eval.judge import in_order
from specprune_ros.eval.leaderboard import entries, on_front
from specprune_ros.eval.levels import expanded, parse_levels
from specprune_ros.eval.players import Player
from specprune_ros.eval.record import Job, Record
from specprune_ros.eval.rollout import Episode
from specprune_ros.eval.summary import every
from specprune_ros.eval.variants import variant
from specprune_ros.sim.settings import SUITE_NAMES
from specprune_ros.sim.suites import SUITES


class StubPlayer:
    """Success by table; `stop_after` episodes it is interrupted."""

    played: list = []

    def __init__(self, missed=(), stop_after=None):
        self.missed, self.stop_after = missed, stop_after

    def play(self, job):
        suite, name, seed = job
        if self.stop_after is not None and len(self.played) == self.stop_after:
            raise KeyboardInterrupt
        self.played.append(job)
        dense = name == "dense"
        modes = {"dense": 3} if dense else {"coarse": 1, "fine": 2}
        kept = (512,) * 3 if dense else (150, 210, 210)
        success = (name, seed) not in self.missed and job not in self.missed
        latency = (30.0, 40.0, 50.0)
        return name, Episode(seed, "pick", success, 50 + seed, 1, 512, kept, latency, modes, suite, (8.0, 4.0, 4.0))


def evaluated(monkeypatch, tmp_path, *argv, **player):
    monkeypatch.setattr(StubPlayer, "played", [])
    monkeypatch.setattr(Player, "load", lambda *_: StubPlayer(**player))
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
    assert full["gflop_mean"] == pytest.approx(16 / 3)
    assert full["steps_to_success"] == {"p10": 53.9, "p50": 56.5, "p90": 57.7}, "of seeds 3, 6, 7 and 8"
    pair = result["paired"]["full_vs_dense"]
    assert pair["difference"] == pytest.approx(-1 / 6)
    assert pair["ci95"] == pytest.approx(stats.paired_interval(3, 1, 2, 0))
    assert pair["mcnemar_p"] == 1.0
    assert result["complete"]
    assert result["machine"]["cores"] >= 1


def test_modes_take_turns_so_that_a_partial_result_is_paired():
    jobs = every(("pick", "long"), ("dense", "full"), range(2))
    assert [job[:2] for job in jobs[:4]] == [("pick", "dense"), ("pick", "full"), ("long", "dense"), ("long", "full")]
    assert [job.seed for job in jobs] == [0] * 4 + [1] * 4


def test_nothing_finished_is_lost_and_nothing_is_played_twice(monkeypatch, tmp_path, capsys):
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,full", stop_after=5)
    assert status == 130
    assert "the same command continues" in capsys.readouterr().out
    assert (result["modes"]["dense"]["episodes"], result["modes"]["full"]["episodes"]) == (3, 2)
    assert result["paired"]["full_vs_dense"]["pairs"] == 2
    assert not result["complete"]
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,full")
    assert status == 0 and result["complete"]
    assert StubPlayer.played == [("pick", "full", 5), *every(("pick",), ("dense", "full"), (6, 7, 8))]


def test_several_processes_play_every_job(monkeypatch, tmp_path):
    """With threads for processes, which would not know the stub."""

    def begin(*given):
        players._player_args = given

    def threads(workers, begin, *given):
        return ThreadPoolExecutor(workers, initializer=begin, initargs=given)

    monkeypatch.setattr(players, "_start_worker", begin)
    monkeypatch.setattr(players, "_player", None)
    monkeypatch.setattr("specprune_ros.eval.pool.pool", threads)
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,full", "--workers", "2")
    assert status == 0 and result["complete"]
    assert sorted(StubPlayer.played) == sorted(every(("pick",), ("dense", "full"), range(3, 9)))


def test_strategies_at_several_levels_share_their_seeds(monkeypatch, tmp_path):
    names = ("specprune@5%", "random@0.5", "random@5%")
    status, result = evaluated(monkeypatch, tmp_path, "--modes", ",".join(names))
    assert status == 0 and tuple(result["modes"]) == names
    assert result["paired"]["random@5%_vs_specprune@5%"]["pairs"] == 6


def test_more_seeds_and_modes_extend_a_result(monkeypatch, tmp_path):
    evaluated(monkeypatch, tmp_path, "--modes", "dense")
    _, result = evaluated(monkeypatch, tmp_path, "--modes", "full", "--episodes", "7")
    assert StubPlayer.played == [("pick", "full", seed) for seed in range(3, 10)]
    assert list(result["modes"]) == ["full"]
    kept = [json.loads(line) for line in (tmp_path / "evaluation.jsonl").read_text().splitlines()[1:]]
    assert [line["mode"] for line in kept] == ["dense"] * 6 + ["full"] * 7


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
        Record.open(path, {}, {}, restart=False)


def test_suites_are_played_and_reported_each_for_itself(monkeypatch, tmp_path, capsys):
    missed = {("long", "full", 4), ("long", "full", 5), ("object", "dense", 3)}
    _, result = evaluated(monkeypatch, tmp_path, "--suites", "object,long", "--modes", "dense,full", missed=missed)
    assert list(result["suites"]) == ["object", "long"]
    successes = {
        (suite, mode): of_mode["successes"]
        for suite, of_suite in result["suites"].items()
        for mode, of_mode in of_suite["modes"].items()
    }
    expected = {("object", "dense"): 5, ("object", "full"): 6, ("long", "dense"): 6, ("long", "full"): 4}
    assert successes == expected
    assert result["modes"]["full"]["successes"] == 10
    assert result["paired"]["full_vs_dense"]["pairs"] == 12
    assert result["suites"]["long"]["paired"]["full_vs_dense"]["only_dense"] == 2
    shown = capsys.readouterr().out
    assert all(title in shown for title in ("object", "long", "all suites"))


def test_a_line_that_was_cut_off_is_played_again(monkeypatch, tmp_path):
    evaluated(monkeypatch, tmp_path, "--modes", "dense")
    path = tmp_path / "evaluation.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    status, result = evaluated(monkeypatch, tmp_path, "--modes", "dense")
    assert status == 0 and result["complete"]
    assert StubPlayer.played == [Job("pick", "dense", 8)]
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()[1:]] == [3, 4, 5, 6, 7, 8]


def test_an_error_leaves_the_episodes_and_the_results_so_far(monkeypatch, tmp_path):
    class Dies(StubPlayer):
        def play(self, job):
            if job.seed == 5:
                raise ChildProcessError("a worker process died")
            return super().play(job)

    monkeypatch.setattr(Player, "load", lambda *_: Dies())
    path = tmp_path / "evaluation.json"
    assert cli.main(["evaluate", "--episodes", "6", "--modes", "dense", "--seed0", "3", "--json", str(path)]) == 2
    assert json.loads(path.read_text())["modes"]["dense"]["episodes"] == 2


def test_names_of_suites_are_those_of_the_simulator(capsys):
    assert tuple(SUITES) == SUITE_NAMES
    assert cli.main(["evaluate", "--suites", "pick,kitchen"]) == 2
    assert "--suites: 'kitchen' is not one of pick, object" in capsys.readouterr().err


def test_every_mode_is_judged_against_dense_by_what_was_declared(monkeypatch, tmp_path, capsys):
    missed = {("full", seed) for seed in range(3, 43)}
    modes = ("--modes", "full,static,dense", "--episodes", "160")
    _, result = evaluated(monkeypatch, tmp_path, *modes, missed=missed)
    assert result["declared"] == {"episodes": 160, "seed0": 3, "margin": 0.02, "alpha": 0.05, "sequential": False}
    assert result["paired"]["static_vs_dense"]["verdict"] == "proven"
    assert result["paired"]["full_vs_dense"]["verdict"] == "worse"
    assert "verdict" not in result["paired"]["full_vs_static"]
    shown = capsys.readouterr().out
    assert "proven" in shown and "worse" in shown and "p =" not in shown
    _, result = evaluated(monkeypatch, tmp_path, "--modes", "dense,static", "--episodes", "170")
    assert result["paired"]["static_vs_dense"]["as_declared"] is False
    assert "changed after a look" in capsys.readouterr().out.replace("\n", " ")
    status, _ = evaluated(monkeypatch, tmp_path, *modes, "--margin", "5")
    assert status == 2 and "'margin': 0.02" in capsys.readouterr().err


def test_nothing_is_proven_before_all_declared_pairs_are_there(monkeypatch, tmp_path):
    argv = ("--modes", "dense,static", "--episodes", "300")
    _, result = evaluated(monkeypatch, tmp_path, *argv, stop_after=500)
    pair = result["paired"]["static_vs_dense"]
    assert (pair["verdict"], pair["pairs_judged"], pair["pairs_planned"]) == ("not proven", 250, 300)
    _, result = evaluated(monkeypatch, tmp_path, *argv)
    assert result["paired"]["static_vs_dense"]["verdict"] == "proven"


def test_a_sequential_run_ends_each_mode_when_it_is_decided(monkeypatch, tmp_path):
    missed = {("full", seed) for seed in range(1000)}
    argv = ("--sequential", "--modes", "dense,static,full", "--episodes", "400", "--suites", "goal,pick")
    status, result = evaluated(monkeypatch, tmp_path, *argv, missed=missed)
    pairs = {
        name: pair["pairs_judged"] for name, pair in result["suites"]["goal"]["paired"].items() if "verdict" in pair
    }
    verdicts = [result["suites"][suite]["paired"][name]["verdict"] for suite in ("goal", "pick") for name in pairs]
    assert verdicts == ["proven", "worse"] * 2
    assert pairs["full_vs_dense"] < 40 < pairs["static_vs_dense"] < 300
    played = [job.mode for job in StubPlayer.played if job.suite == "goal"]
    assert played.count("full") == pairs["full_vs_dense"]
    assert played.count("dense") == played.count("static") == pairs["static_vs_dense"]
    assert status == 0 and result["complete"]
    evaluated(monkeypatch, tmp_path, *argv, missed=missed)
    assert StubPlayer.played == [], "the same command finds nothing more to play"


def test_a_sequential_run_needs_the_reference(capsys):
    assert cli.main(["evaluate", "--sequential", "--modes", "full"]) == 2
    assert "--sequential: every mode is judged against dense" in capsys.readouterr().err


def test_pairs_are_judged_in_the_order_of_the_seeds_and_not_of_their_end():
    record = Record(None, {})
    for seed, success in ((2, False), (0, True)):
        for mode in ("dense", "full"):
            record.add(mode, Episode(seed, "", success, 9, 0, 1, (), (), {}, "goal"))
    assert in_order(record, "goal", "full", "dense", range(3)) == [(True, True)]
    record.add("dense", Episode(1, "", True, 9, 0, 1, (), (), {}, "goal"))
    record.add("full", Episode(1, "", False, 9, 0, 1, (), (), {}, "goal"))
    assert in_order(record, "goal", "full", "dense", range(3)) == [(True, True), (False, True), (False, False)]


def test_a_leaderboard_is_every_mode_at_every_level_on_the_same_seeds(monkeypatch, tmp_path):
    argv = ("--leaderboard", "--levels", "0.5,1", "--modes", "full,dense,static", "--suites", "pick,long")
    missed = {("long", "full@1", 4), ("pick", "static@1", 4)}
    _, result = evaluated(monkeypatch, tmp_path, *argv, missed=missed)
    names = ["dense", "static@0.5", "static@1", "full@0.5", "full@1"]
    assert list(result["modes"]) == names
    assert list(result["paired"]) == [f"{name}_vs_dense" for name in names[1:]]
    found = {entry.name: entry for entry in entries(result)}
    assert (found["full@1"].by_suite, found["full@1"].success) == ({"pick": 1.0, "long": 5 / 6}, pytest.approx(11 / 12))
    assert (found["full@1"].mode, found["full@1"].level) == ("full", "1")
    picture = cv2.imread(str(tmp_path / "evaluation.png"))
    assert picture.shape == (520, 1240, 3)
    (tmp_path / "evaluation.png").unlink()
    assert cli.main(["evaluate", "--plot", str(tmp_path / "evaluation.json")]) == 0
    assert (cv2.imread(str(tmp_path / "evaluation.png")) == picture).all()
    text = tables.leaderboard_table(result)
    assert "| full@0.5 * | 100.0% | 100.0% | 100.0% | not proven |" in text
    assert "| full@1 | 100.0% | 83.3% | 91.7% | not proven |" in text
    assert "played by one process" in text


def test_a_level_is_that_of_the_mode_it_stands_behind():
    config = variant(Config(), "static@0.75")
    assert config.pruning.aggressiveness == 0.75 and not config.pruning.dynamic.enabled
    assert variant(Config(), "full") == Config()
    assert expanded(("full", "random@0.5", "dense"), (0.25, 1.0)) == ("dense", "full@0.25", "full@1", "random@0.5")
    with pytest.raises(ConfigError):
        variant(Config(), "full@much")
    for wrong in ("2", "0", "a"):
        with pytest.raises(ConfigError, match="--levels"):
            parse_levels(wrong)


def test_the_front_is_what_nothing_beats():
    assert on_front([1, 2, 3, 3, 2], [0.5, 0.9, 0.9, 0.95, 0.9]) == [True, True, False, True, True]


def test_what_cannot_be_drawn_says_why(tmp_path, capsys):
    path = tmp_path / "bench.json"
    path.write_text("{}")
    assert cli.main(["evaluate", "--plot", str(path)]) == 2
    assert "bench.json: cannot be drawn" in capsys.readouterr().err


def test_perturbed_results_are_not_mixed_with_plain_ones(monkeypatch, tmp_path, capsys):
    argv = ("--modes", "dense", "--perturb", "noise,camera", "--strength", "2")
    _, result = evaluated(monkeypatch, tmp_path, *argv)
    assert result["settings"]["perturb"] == {"axes": ["camera", "noise"], "strength": 2}
    assert "Perturbed: camera, noise, strength 2." in capsys.readouterr().out
    for other in (("--perturb", "camera"), ()):
        assert evaluated(monkeypatch, tmp_path, "--modes", "dense", *other)[0] == 2
    assert "give another --json file or --restart" in capsys.readouterr().err
    assert evaluated(monkeypatch, tmp_path, "--perturb", "fog")[0] == 2
    assert "--perturb: 'fog' is not one of camera" in capsys.readouterr().err
