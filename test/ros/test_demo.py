"""`specprune demo` over a real graph, with both nodes as processes."""

import json

import pytest
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.cli import main as cli

pytestmark = pytest.mark.slow


def test_the_demo_runs_over_ros_with_both_nodes_as_processes(tmp_path, monkeypatch, capsys):
    """Random weights pick nothing, but everything between the topics and the report is real."""
    monkeypatch.setattr("specprune_ros.demo.run.EPISODE_TIMEOUT_S", 10.0)
    weights = write_tiny_checkpoint(tmp_path / "tiny")
    argv = ["demo", "--episodes", "1", "--report", str(tmp_path / "report"), "--json", str(tmp_path / "copy.json")]
    assert cli.main([*argv, "--set", f"policy.checkpoint={weights}"]) == 0
    result = json.loads((tmp_path / "report" / "demo.json").read_text())
    assert result == json.loads((tmp_path / "copy.json").read_text())
    assert (result["episodes"], result["tokens"]["total"]) == (1, 512)
    assert 0 < result["tokens"]["kept_mean"] < 512
    assert result["control_rate_hz"] > 5
    assert result["per_episode"][0]["instruction"].startswith("pick up the ")
    assert (tmp_path / "report" / "demo.mp4").stat().st_size > 10_000
    assert "picked" in capsys.readouterr().out


def test_a_policy_that_cannot_be_loaded_ends_the_demo_with_the_reason(tmp_path, capsys):
    argv = ["demo", "--episodes", "1", "--report", str(tmp_path), "--set", "policy.checkpoint=/nowhere"]
    assert cli.main(argv) == 1
    assert "no such folder" in capsys.readouterr().err
