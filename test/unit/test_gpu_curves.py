"""The curves of a GPU measurement, drawn from its two documents."""

import json
from pathlib import Path

import cv2
import gpu_curves
import numpy as np
import pytest

from specprune_ros.draw.lines import Panel, picture

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
GIVEN = [str(RESULTS / name) for name in ("bench-openvla-7b-h200.json", "probes-h200.json")]


def test_the_committed_picture_is_that_of_the_committed_documents(tmp_path):
    assert gpu_curves.main([*GIVEN, str(tmp_path / "curves.png")]) == 0
    drawn, committed = (cv2.imread(str(path)) for path in (tmp_path / "curves.png", RESULTS / "openvla-7b-h200.png"))
    assert drawn.shape == committed.shape
    assert (np.abs(drawn.astype(int) - committed).max(axis=2) > 40).mean() < 0.01, "fonts may differ, lines may not"


def test_lines_are_sums_and_means_of_what_was_measured():
    bench, probes = (json.loads(Path(path).read_text()) for path in GIVEN)
    left, right = gpu_curves.curves(bench, probes)
    row = next(row for row in bench["rows"] if (row["name"], row["engine"]) == ("dense", "graph"))
    assert left.lines["captured"][-1] == (sum(row["layer_lengths"]) / 32, row["p50_ms"])
    products = probes["staircase"]
    of_256 = sum(products[f"{name} bfloat16"]["256"] for name in ("qkv", "o", "gate_up", "down"))
    assert dict(right.lines["bfloat16"])[256] == pytest.approx(of_256)
    roofline = bench["roofline"]
    flop_per_byte = roofline["gemm_tflops"] * 1e12 / (roofline["copy_gbps"] * 1e9)
    assert left.marks == right.marks == {"weights = arithmetic": pytest.approx(flop_per_byte)}


def test_nothing_to_draw_is_an_error(capsys):
    with pytest.raises(ValueError, match="a panel has no lines"):
        picture([Panel("x", "y", {"empty": []}, {})], "nothing")
    assert gpu_curves.main([]) == 2 and "BENCH.json" in capsys.readouterr().out
