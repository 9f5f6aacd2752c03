"""What `specprune bench` found: the documented result keys, and the tables. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from specprune_ros.bench.latency_rows import STOCK, Row
from specprune_ros.eval import stats
from specprune_ros.types import STAGES

OPENVINO = "openvino"


def summary(rows: Sequence[Row], default_engine: str, gemm_gflops: float) -> dict[str, object]:
    """The documented result keys. default_engine: the one that `policy.engine: auto` takes on this machine."""
    full = next(row for row in rows if (row.engine, row.mode) == (default_engine, "full"))
    denses = [row for row in rows if row.mode == "dense"]
    best = min(denses, key=recording_ms)
    stages = _stages(full)
    return {
        "rows": [_row(row, denses, gemm_gflops) for row in rows],
        "default_engine": default_engine,
        "speedup_full_vs_dense": round(speedup(full, _dense_of(default_engine, denses)), 3),
        "speedup_vs_best_dense": round(speedup(full, best), 3),
        "best_dense": best.engine,
        "speedup_method": "time of the whole recording, each observation by its median over the rounds: dense / full",
        "selection_share": round(stages["selection"] / max(sum(stages.values()), 1e-9), 4),
        "gemm_gflops": round(gemm_gflops, 1),
        "floor": "matrix products of the tokens that were kept, at the best measured rate of a matrix product",
    }


def speedup(row: Row, dense: Row) -> float:
    return recording_ms(dense) / recording_ms(row)


def recording_ms(row: Row) -> float:
    """Time of the whole recording [ms], each observation by its median over the rounds."""
    return sum(stats.median(samples) for samples in row.total_ms.values())


def _dense_of(engine: str, denses: Sequence[Row]) -> Row | None:
    return next((row for row in denses if row.engine == engine), None)


def _row(row: Row, denses: Sequence[Row], gemm_gflops: float) -> dict[str, object]:
    times = [value for values in row.total_ms.values() for value in values]
    percentiles, samples = stats.percentiles_ms(times), row.all_samples()
    gflop = stats.mean([sample.gflop for sample in samples])
    floor_ms = 1e3 * gflop / gemm_gflops
    ran = {name: sum(sample.ran == name for sample in samples) for name in sorted({sample.ran for sample in samples})}
    return {
        "engine": row.engine,
        "ran": ran,
        "mode": row.mode,
        "aggressiveness": row.aggressiveness,
        "granularity": "dense" if row.mode == "dense" else row.forced.value if row.forced else "measured",
        **{f"{name}_ms": value for name, value in percentiles.items()},
        "p99_over_p50": round(percentiles["p99"] / percentiles["p50"], 3),
        "speedup_vs_dense": _ratio(row, _dense_of(row.engine, denses)),
        "speedup_vs_dense_openvino": _ratio(row, _dense_of(OPENVINO, denses)),
        "speedup_vs_stock": _ratio(row, _dense_of(STOCK, denses)),
        "stages_ms": {name: round(value, 3) for name, value in _stages(row).items()},
        "tokens_kept": stats.mean([sample.tokens_kept for sample in samples]),
        "tokens_total": samples[0].tokens_total,
        "gflop": round(gflop, 3),
        "gflops": round(gflop / percentiles["p50"] * 1e3, 1),
        "floor_ms": round(floor_ms, 3),
        "over_floor": round(percentiles["p50"] / floor_ms, 3),
        "samples": len(times),
    }


def _ratio(row: Row, dense: Row | None) -> float | None:
    return None if dense is None else round(speedup(row, dense), 3)


def _stages(row: Row) -> dict[str, float]:
    """Median time of every stage [ms]."""
    return {name: stats.median([sample.stages_ms[name] for sample in row.all_samples()]) for name in STAGES}


COLUMNS = ("p50 ms", "p95", "p99", "gain", "of best export", "tokens", "GFLOP", "floor ms", "x floor")
"""gain: against the dense row of the same engine; of best export: against dense OpenVINO, which a user would take
instead."""


def cells(row: Mapping[str, object]) -> tuple[str, ...]:
    """One row under `COLUMNS`."""
    return (
        *(f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
        _times(row["speedup_vs_dense"]),
        _times(row["speedup_vs_dense_openvino"]),
        f"{row['tokens_kept']:.0f}",
        f"{row['gflop']:.1f}",
        f"{row['floor_ms']:.1f}",
        f"{row['over_floor']:.2f}",
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def stage_cells(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{row['stages_ms'][stage]:.1f}" for stage in STAGES)


def row_label(row: Mapping[str, object]) -> str:
    """'openvino full 0.5 coarse': everything that tells a row from the others."""
    if row["engine"] == STOCK:
        return STOCK
    if row["mode"] == "dense":
        return f"{row['engine']} dense"
    return f"{row['engine']} {row['mode']} {row['aggressiveness']:g} {row['granularity']}"


def tables(result: Mapping[str, object]) -> Group:
    """End-to-end figures, and where the time goes."""
    look = {"box": SIMPLE_HEAD, "title_justify": "left", "pad_edge": False, "collapse_padding": True}
    whole = Table(title="Inference, uint8 frames to action chunk", **look)
    split = Table(title="Stages [ms, median]", **look)
    for view, columns, content in ((whole, COLUMNS, cells), (split, STAGES, stage_cells)):
        view.add_column("row", no_wrap=True)
        for heading in columns:
            view.add_column(heading, justify="right")
        for row in result["rows"]:
            view.add_row(row_label(row), *content(row))
    return Group(whole, split)


def verdict(result: Mapping[str, object]) -> str:
    """The headline figures, what the machine could do, and rows that are not what they are called."""
    facts = result["machine"]
    lines = [
        f"full against dense, both on {result['default_engine']}: {result['speedup_full_vs_dense']:.2f}x; "
        f"against the best dense ({result['best_dense']}): {result['speedup_vs_best_dense']:.2f}x; "
        f"selection: {result['selection_share']:.1%} of the pruned time",
        f"matrix products on this machine: {result['gemm_gflops']:.0f} GFLOP/s "
        f"({facts['cpu']}, {facts['cores']} cores, {facts['dtype']}, load {facts['load_average_before']})",
        *(f"not measured: {engine}: {reason}" for engine, reason in result.get("skipped", {}).items()),
    ]
    mixed = [row for row in result["rows"] if set(row["ran"]) != {row["engine"]}]
    lines += [f"{row_label(row)}: some of it really ran on {', '.join(row['ran'])}" for row in mixed]
    return "\n".join(lines)
