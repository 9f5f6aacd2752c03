"""`specprune bench --model openvla-7b` in small, on a CPU."""

import json

import pytest
import torch

from specprune_ros.bench import model, model_rows
from specprune_ros.bench import model_report as report
from specprune_ros.cli import main as cli
from specprune_ros.infer.policy import Policy
from specprune_ros.model.fp8 import fp8_copy

# The command.


LENGTH = 605
"""Tokens of two views, the state, the prompt and the actions."""


def run_tiny(path, *more):
    argv = ["bench", "--model", "openvla-7b", "--scale", "tiny", "--rounds", "1", "--observations", "2"]
    return cli.main([*argv, "--aggressiveness", "0.5", "--json", str(path), *more])


@pytest.fixture(scope="module")
def tiny_result(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "tiny.json"
    assert run_tiny(path, "--set", "policy.device=cpu") == 0
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_path_runs_on_a_cpu_and_says_what_it_is_not(tiny_result):
    assert (tiny_result["scale"], tiny_result["gpu_measurement"]) == ("tiny", False)
    assert tiny_result["sequence"] == {"tokens": LENGTH, "visual": 512, "views": 2}
    names = [(row["name"], row["engine"], row["granularity"]) for row in tiny_result["rows"]]
    pruned = [("pruned", engine, mode) for engine in ("eager", "graph") for mode in ("coarse", "fine")]
    dense = [("dense", engine, "dense") for engine in ("eager", "graph", "compiled")]
    twice = [[("pruned", engine, mode) for mode in ("coarse", "fine")] * 2 for engine in ("compiled", "fp8")]
    snapped = [("snapped", "compiled", mode) for mode in ("coarse", "fine")]
    assert names == [
        ("stock", "stock", "dense"),
        *dense,
        *pruned,
        *twice[0],
        *snapped,
        ("dense", "fp8", "dense"),
        *twice[1],
    ]
    captured = ("graph", "compiled", "fp8")
    assert all(("skipped" in row) == (row["engine"] in captured) for row in tiny_result["rows"])
    assert tiny_result["roofline"]["fp8_gemm_tflops"] is None
    assert "CUDA" in tiny_result["rows"][2]["skipped"]
    assert tiny_result["targets"] == [], "bounds are for cards"
    assert tiny_result["agreement"]["stock_vs_eager"] < 1e-3
    assert "NOT a GPU measurement" in report.about(tiny_result)


def test_rows_have_their_documented_keys(tiny_result):
    stock, eager, _, _, coarse, fine = tiny_result["rows"][:6]
    for row in (stock, eager, coarse, fine):
        assert row["samples"] == 2 and row["p50_ms"] > 0 and row["floor_ms"] > 0 and row["p50_ms"] > row["floor_ms"]
        assert set(row["stages_ms"]) == {"preprocess", "vision", "selection", "decoder", "head"}
        assert row["speedup_vs_dense_captured"] is None
    assert coarse["tokens_kept"] < fine["tokens_kept"] < eager["tokens_kept"] == stock["tokens_kept"] == 512
    assert coarse["gflop"] < fine["gflop"] < eager["gflop"] < stock["gflop"]
    assert coarse["floor_ms"] < fine["floor_ms"] < eager["floor_ms"]
    assert coarse["layer_lengths"][0] == LENGTH > coarse["layer_lengths"][-1]


def test_the_full_scale_without_a_gpu_is_refused_with_the_remedy(capsys):
    assert cli.main(["bench", "--model", "openvla-7b", "--set", "policy.device=cpu"]) == 2
    assert "--scale tiny" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captured rows need a CUDA device")
def test_captured_rows_run_on_a_gpu(tmp_path):
    path = tmp_path / "gpu.json"
    assert run_tiny(path) == 0
    result = json.loads(path.read_text())
    skipped = {row["skipped"] for row in result["rows"] if "skipped" in row}
    assert all("compute capability" in reason for reason in skipped), "only FP8 needs a newer GPU"
    assert all(set(row["ran"]) == {row["engine"]} for row in result["rows"] if "ran" in row)
    assert result["agreement"]["graph_vs_eager"] < 0.02 and result["agreement"]["stock_vs_eager"] < 0.02


@pytest.mark.slow
def test_fp8_rows_are_warmed_timed_and_held_against_their_own_floor(tmp_path, monkeypatch):
    """With engines that run op by op in the place of captured ones, which need a GPU."""
    monkeypatch.setattr(model_rows, "fp8_policy", lambda checkpoint: Policy(fp8_copy(checkpoint), engine="eager"))
    ready = model.ModelBench._own_memory

    def with_a_stand_in(bench):
        ready(bench)
        bench.policies["graph"] = bench.policies["eager"]

    monkeypatch.setattr(model.ModelBench, "_own_memory", with_a_stand_in)
    path = tmp_path / "fp8.json"
    assert run_tiny(path, "--set", "policy.device=cpu") == 0
    result = json.loads(path.read_text())
    rows = [row for row in result["rows"] if row["engine"] == "fp8"]
    plain = next(row for row in result["rows"] if (row["name"], row["engine"]) == ("dense", "eager"))
    assert len(rows) == 5 and all(row["ran"] == {"fp8": 2} for row in rows)
    assert rows[0]["layer_lengths"] == plain["layer_lengths"] and rows[0]["floor_ms"] != plain["floor_ms"]
    assert result["roofline"]["fp8_gemm_tflops"] > 0 and 0 < result["agreement"]["fp8_vs_eager"] < 0.2
    assert report.label(rows[0]) == "dense, fp8"
