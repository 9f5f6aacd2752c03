"""What `specprune bench --model` found: rows, ratios, targets; as JSON and as tables. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from specprune_ros.eval import stats
from specprune_ros.types import STAGES

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Measured:
    """One row: how it ran, its samples [ms], and what its work needs at least. `skipped`: why there are no samples."""

    name: str
    engine: str
    granularity: str
    aggressiveness: float
    skipped: str
    total_ms: Sequence[float]
    stages_ms: Sequence[Mapping[str, float]]
    lengths: Sequence[int]
    tokens_kept: int
    gflop: float
    floor_ms: float
    floor_shapes_ms: float
    floor_stages_ms: Mapping[str, float]
    peak_gib: float | None
    ran: Mapping[str, int]
    """How often each engine really ran it."""


@dataclass(frozen=True)
class Target:
    """A bound on one headline figure."""

    figure: str
    text: str
    bound: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


HOPPER_TARGETS = (
    Target("dense_captured_vs_floor", "captured dense against its roofline floor", 1.4, at_least=False),
    Target("pruned_vs_dense_captured", "pruned at 0.5 against our captured dense", 1.8, at_least=True),
    Target("pruned_vs_stock", "pruned at 0.5 against stock", 4.0, at_least=True),
    Target("pruned_fp8_vs_stock", "pruned at 0.5 in FP8 against stock", 5.0, at_least=True),
    Target("pruned_vs_floor", "pruned at 0.5 against its roofline floor", 1.4, at_least=False),
    Target("selection_share", "selection at 0.5, share of the time", 0.04, at_least=False),
    Target("p99_over_p50", "p99 / p50 of the captured rows", 1.05, at_least=False),
    Target("after_change_ms", "slowest pass after a change of aggressiveness [ms]", 150.0, at_least=False),
    Target("policy_gib", "GPU memory of the policy alone [GiB]", 20.0, at_least=False),
)
"""End to end, batch 1, two views, bf16 where nothing else is said. Of several rows the worst counts."""

TARGETS = {"H100": HOPPER_TARGETS, "H200": HOPPER_TARGETS}
"""By a word in the card's name: a bound that was set for one card says nothing about another."""


def targets_of(facts: Mapping[str, object]) -> tuple[Target, ...]:
    """The bounds for the card that was measured; none for a card that has none."""
    card = str(facts["machine"].get("gpu", ""))
    return next((targets for word, targets in TARGETS.items() if word in card), ())


PAPER_LEVEL = 0.5
CAPTURED = ("compiled", "graph")
"""Captured rows in bf16, the fastest first: what the figures are of, and which dense row others are held against."""


def result_of(facts: Mapping[str, object], measured: Sequence[Measured]) -> dict[str, object]:
    """The JSON document: `facts`, and everything that follows from the rows."""
    stock = find(measured, "stock", "stock")
    dense = next((row for engine in CAPTURED if (row := find(measured, "dense", engine))), None)
    rows = [_row(row, stock, dense) for row in measured]
    figures = _figures(rows, facts)
    judged = figures if facts["gpu_measurement"] else {}
    targets = [_judged(target, judged) for target in targets_of(facts)]
    return {**facts, "rows": rows, "headline": figures, "targets": targets}


def find(measured: Sequence[Measured], name: str, engine: str) -> Measured | None:
    """The row of that kind that has samples."""
    return next((row for row in measured if (row.name, row.engine) == (name, engine) and row.total_ms), None)


def _row(row: Measured, stock: Measured | None, dense: Measured | None) -> dict[str, object]:
    head = {
        "name": row.name,
        "engine": row.engine,
        "granularity": row.granularity,
        "aggressiveness": row.aggressiveness,
    }
    if not row.total_ms:
        return {**head, "skipped": row.skipped or "no round was finished"}
    percentiles = stats.percentiles_ms(row.total_ms)
    p50 = percentiles["p50"]
    return {
        **head,
        **{f"{name}_ms": value for name, value in percentiles.items()},
        "p99_over_p50": round(percentiles["p99"] / p50, 4),
        "speedup_vs_stock": _ratio(stock, p50),
        "speedup_vs_dense_captured": _ratio(dense, p50),
        "stages_ms": _stages(row),
        "tokens_kept": row.tokens_kept,
        "layer_lengths": list(row.lengths),
        "gflop": round(row.gflop, 3),
        "tflops": round(row.gflop / p50, 3),
        "floor_ms": round(row.floor_ms, 4),
        "over_floor": round(p50 / row.floor_ms, 3),
        "floor_shapes_ms": round(row.floor_shapes_ms, 4),
        "over_floor_shapes": round(p50 / row.floor_shapes_ms, 3),
        "floor_stages_ms": {stage: round(ms, 4) for stage, ms in row.floor_stages_ms.items()},
        "peak_gib": row.peak_gib,
        "ran": dict(row.ran),
        "samples": len(row.total_ms),
    }


def _ratio(other: Measured | None, p50_ms: float) -> float | None:
    return None if other is None else round(stats.median(other.total_ms) / p50_ms, 3)


def _stages(row: Measured) -> dict[str, float]:
    """Median of every stage [ms]; 0 where a row has no such stage."""
    return {stage: round(stats.median([times.get(stage, 0.0) for times in row.stages_ms]), 4) for stage in STAGES}


def _figures(rows: Sequence[Mapping], facts: Mapping[str, object]) -> dict[str, float | None]:
    """The headline figures, None where a row behind one is missing."""
    ran = [row for row in rows if "skipped" not in row and set(row["ran"]) == {row["engine"]}]
    of_engine = ([row for row in ran if row["engine"] == engine] for engine in CAPTURED)
    captured = next((found for found in of_engine if found), [])
    eighth = [row for row in ran if row["engine"] == "fp8" and row["name"] == "pruned"]
    dense = [row for row in captured if row["name"] == "dense"]
    pruned = [row for row in captured if row["name"] == "pruned" and row["aggressiveness"] == PAPER_LEVEL]

    def worst(among: Sequence[Mapping], value: Callable[[Mapping], float | None], pick) -> float | None:
        values = [value(row) for row in among]
        return pick(values) if values and None not in values else None

    return {
        "dense_captured_vs_stock": worst(dense, lambda row: row["speedup_vs_stock"], min),
        "dense_captured_vs_floor": worst(dense, lambda row: row["over_floor"], max),
        "pruned_vs_stock": worst(pruned, lambda row: row["speedup_vs_stock"], min),
        "pruned_fp8_vs_stock": worst(
            [row for row in eighth if row["aggressiveness"] == PAPER_LEVEL], lambda row: row["speedup_vs_stock"], min
        ),
        "pruned_vs_dense_captured": worst(pruned, lambda row: row["speedup_vs_dense_captured"], min),
        "pruned_vs_floor": worst(pruned, lambda row: row["over_floor"], max),
        "selection_share": worst(pruned, selection_share, max),
        "p99_over_p50": worst(captured, lambda row: row["p99_over_p50"], max),
        "after_change_ms": facts.get("after_change_ms"),
        "policy_gib": facts["memory"].get("policy_gib"),
    }


def selection_share(row: Mapping) -> float:
    return round(row["stages_ms"]["selection"] / row["p50_ms"], 4)


def _judged(target: Target, figures: Mapping[str, float | None]) -> dict[str, object]:
    value = figures.get(target.figure)
    verdict = NOT_MEASURED if value is None else "met" if target.met(value) else "missed"
    bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
    return {"figure": target.figure, "what": target.text, "target": bound, "value": value, "verdict": verdict}


TIMES = ("p50 ms", "p95", "p99", "p99/p50", "vs stock", "vs dense", "tokens")
WORK = ("GFLOP", "TFLOP/s", "floor ms", "x floor", "x floor, shapes", "peak GiB")
"""Columns after the row's name. vs dense: our fastest captured dense row in bf16; x floor: p50 over the floor."""


def label(row: Mapping) -> str:
    """'pruned 0.5 coarse, captured': everything that tells a row from the others."""
    if row["name"] == "stock":
        return "stock"
    how = "captured" if row["engine"] == "graph" else row["engine"]
    others = sorted(set(row.get("ran", {})) - {row["engine"]})
    how += f", but some of it ran {' and '.join(others)}" if others else ""
    if row["name"] == "dense":
        return f"dense, {how}"
    return f"{row['name']} {row['aggressiveness']:g} {row['granularity']}, {how}"


def time_cells(row: Mapping) -> tuple[str, ...]:
    """One row under `TIMES`."""
    return (
        *(f"{row[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
        f"{row['p99_over_p50']:.3f}",
        _times(row["speedup_vs_stock"]),
        _times(row["speedup_vs_dense_captured"]),
        str(row["tokens_kept"]),
    )


def work_cells(row: Mapping) -> tuple[str, ...]:
    """One row under `WORK`."""
    return (
        f"{row['gflop']:.4g}",
        f"{row['tflops']:.1f}",
        f"{row['floor_ms']:.2f}",
        f"{row['over_floor']:.2f}",
        f"{row['over_floor_shapes']:.2f}",
        "-" if row["peak_gib"] is None else f"{row['peak_gib']:.1f}",
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def stage_cells(row: Mapping) -> tuple[str, ...]:
    return tuple(f"{row['stages_ms'][stage]:.2f}" for stage in STAGES)


SECTIONS = (
    ("Inference at batch 1, uint8 frames to action chunk", TIMES, time_cells),
    ("Work and the hardware limit", WORK, work_cells),
    ("Stages [ms, median]", STAGES, stage_cells),
)
"""Title, columns and cells of the tables over the measured rows."""


def measured_rows(result: Mapping) -> list[Mapping]:
    return [row for row in result["rows"] if "skipped" not in row]


def skipped_lines(result: Mapping) -> list[str]:
    """'captured rows: why', one line for every reason that rows were skipped for."""
    reasons: dict[str, list[str]] = {}
    for row in result["rows"]:
        if "skipped" in row:
            reasons.setdefault(row["skipped"], []).append(label(row))
    return [f"{NOT_MEASURED}: {'; '.join(names)} ({reason})" for reason, names in reasons.items()]


def target_cells(target: Mapping) -> tuple[str, ...]:
    value = "-" if target["value"] is None else f"{target['value']:g}"
    return target["what"], target["target"], value, target["verdict"]


def target_heading(result: Mapping) -> str:
    """Which card the bounds are for."""
    return f"target ({next(word for word in TARGETS if word in result['machine']['gpu'])})"


def about(result: Mapping) -> str:
    """What the figures were measured on, and what they are not."""
    machine, roofline = result["machine"], result["roofline"]
    where = (
        machine.get("gpu") if machine["device"].startswith("cuda") else f"{machine['cpu']}, {machine['cores']} cores"
    )
    made_of = ", ".join(f"{part}: {library}" for part, library in result["stock"].items())
    text = (
        f"Random weights of the exact shape, {result['sequence']['tokens']} tokens, on {where}, {machine['dtype']}, "
        f"torch {machine['torch']}. Best matrix product {roofline['gemm_tflops']:.1f} TFLOP/s, copy "
        f"{roofline['copy_gbps']:.0f} GB/s. "
        f"Stock runs on {made_of or 'nothing: skipped'}."
    )
    return (
        text if result["gpu_measurement"] else f"NOT a GPU measurement of the 7B model: scale {result['scale']}. {text}"
    )


def tables(result: Mapping) -> Group:
    """What the command prints."""
    look = {"box": SIMPLE_HEAD, "title_justify": "left", "pad_edge": False, "collapse_padding": True}
    views = []
    for title, headings, cells in SECTIONS:
        view = Table("row", title=title, **look)
        for heading in headings:
            view.add_column(heading, justify="right")
        for row in measured_rows(result):
            view.add_row(label(row), *cells(row))
        views.append(view)
    if result["targets"]:
        goals = Table(target_heading(result), "bound", "value", "verdict", **look)
        for target in result["targets"]:
            goals.add_row(*target_cells(target))
        views.append(goals)
    return Group(*views, *skipped_lines(result), about(result))
