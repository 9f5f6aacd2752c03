"""`specprune bench`: what it records, measures and says."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from rollout_stubs import Silent, StubPolicy
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.bench import latency as bench
from specprune_ros.bench.latency_report import row_label, summary, tables, verdict
from specprune_ros.bench.latency_rows import PolicyRunner, Sample, rows_of
from specprune_ros.bench.recording import record
from specprune_ros.cli import main as cli
from specprune_ros.config import Config, ConfigError
from specprune_ros.types import STAGES, Mode


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
    memories = [request.memory.last_attention for request in policy.requests if request.memory]
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
