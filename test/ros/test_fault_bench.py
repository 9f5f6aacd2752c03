"""The stop-time table: rounds on a live graph, and the rows that are made of them."""

import pytest

pytest.importorskip("rclpy")

from specprune_ros.bench.faults import cases, run
from specprune_ros.bench.faults.cases import DISARMS, ENDS, HOLDS, Fault

pytestmark = pytest.mark.slow


def stands_still(scene):
    raise TimeoutError("waited 60 s for motion")


def by_name(*names):
    return tuple(fault for fault in cases.FAULTS if fault.name in names)


def test_a_round_plays_every_fault_also_after_one_that_got_stuck(monkeypatch):
    chosen = by_name("camera silent", "model crashes", "~/estop", "SIGTERM")
    monkeypatch.setattr(cases, "FAULTS", (Fault("arm gets stuck", stands_still, HOLDS), *chosen))
    trials = {trial.fault: trial for trial in run.play_round("action", 0)}
    stuck = trials.pop("arm gets stuck")
    assert stuck.outcome == run.STUCK != stuck.expected and "60 s" in stuck.reason and not stuck.named
    assert {name: trial.outcome for name, trial in trials.items()} == {
        "camera silent": HOLDS,
        "model crashes": DISARMS,
        "~/estop": DISARMS,
        "SIGTERM": ENDS,
    }
    for trial in trials.values():
        assert trial.outcome == trial.expected and trial.violations == ()
        assert trial.named, (trial.fault, trial.reason)
        assert trial.last_command_s < run.LONGEST_S and trial.still_s is not None
    assert trials["camera silent"].resumes_s is not None and trials["~/estop"].resumes_s is None


def a_trial(outcome, last_s, violations=()):
    return run.Trial("camera silent", "action", outcome, HOLDS, last_s, last_s, None, 0.2, "why", True, violations)


def test_a_row_counts_outcomes_and_what_was_out_of_limits():
    trials = [a_trial(HOLDS, 0.1), a_trial(HOLDS, 0.3), a_trial(run.STUCK, None), a_trial(DISARMS, 0.2, ("speed",))]
    [row] = run.rows(trials)
    assert row["outcomes"] == {DISARMS: 1, HOLDS: 2, run.STUCK: 1} and row["repetitions"] == 4
    assert row["last_command_ms"]["p50"] == pytest.approx(200) and row["last_command_ms"]["max"] == 300
    assert row["last_command_ms"]["count"] == 3 and row["still_ms"] is None
    assert row["out_of_limits"] == 1 and row["named"] == 4
    assert run.table({"rows": [row]}).row_count == 1
