"""The curves of a GPU measurement: `python tools/gpu_curves.py BENCH.json PROBES.json PICTURE.png`.

Left: how long one inference takes by the rows that a decoder layer has on average, for dense and pruned passes, and the
floor of the same work. Right: the four products of one layer by rows. The mark is where reading the weights in bf16
costs as much as the arithmetic, at the rates that the benchmark measured: fewer rows save little from there on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2

from specprune_ros.draw.lines import Panel, picture

ENGINES = {"graph": "captured", "compiled": "captured, compiled layers"}


def curves(bench: Mapping, probes: Mapping) -> list[Panel]:
    """The two panels, from the documents that the benchmark and the probes write."""
    rows = [row for row in bench["rows"] if "skipped" not in row and row["name"] in ("dense", "pruned")]

    def mean_rows(row: Mapping) -> float:
        return sum(row["layer_lengths"]) / len(row["layer_lengths"])

    lines = {
        name: sorted((mean_rows(row), row["p50_ms"]) for row in rows if row["engine"] == engine)
        for engine, name in ENGINES.items()
    }
    lines["floor"] = sorted({(mean_rows(row), row["floor_ms"]) for row in rows if row["engine"] == "graph"})
    roofline = bench["roofline"]
    marks = {"weights = arithmetic": 1e3 * roofline["gemm_tflops"] / roofline["copy_gbps"]}
    return [
        Panel("rows of a decoder layer, mean", "one inference, p50 [ms]", lines, marks),
        Panel("rows", "four products of one layer [us]", _products(probes["staircase"]), marks),
    ]


def _products(staircase: Mapping[str, Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Format -> (rows, time of all products of a layer [us])."""
    sums: dict[str, dict[int, float]] = {}
    for name, times in staircase.items():
        total = sums.setdefault(name.partition(" ")[2], {})
        for rows, us in times.items():
            total[int(rows)] = total.get(int(rows), 0.0) + us
    return {form: sorted(times.items()) for form, times in sums.items()}


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print(__doc__.partition("\n")[0])
        return 2
    bench, probes = (json.loads(Path(path).read_text(encoding="utf-8")) for path in arguments[:2])
    pixels = picture(curves(bench, probes), f"OpenVLA-OFT 7B on {bench['machine']['gpu']}, batch 1, two views")
    cv2.imwrite(arguments[2], pixels[:, :, ::-1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
