"""`specprune bench`: latency of dense against pruned inference, interleaved in one run on the same observations.

End to end means uint8 frames in, action chunk out: preprocessing, patch similarity and token selection are inside.
Every row keeps its own memory along the recording, so that each pass has the history it would have on the robot.

`--model openvla-7b` measures the 7B model on a GPU instead: see `bench.model`.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table

from specprune_ros.bench.machine import load_average, machine
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval import stats
from specprune_ros.eval.progress import loading, progress
from specprune_ros.eval.results import changed_parameters, weights_digest, write_json
from specprune_ros.eval.variants import variant
from specprune_ros.types import InferenceRequest, Mode, PolicyMemory, PruningReport

STAGES = ("preprocess", "vision", "selection", "decoder", "head")
ENGINES: dict[str, dict[str, object]] = {"eager": {"policy.compile": False}, "compiled": {"policy.compile": True}}
GEMM_SIZE, GEMM_SECONDS = 768, 0.2


def run(config: Config, levels: Sequence[float], args: argparse.Namespace) -> int:
    """Measure, print the tables and write the results; 0 on success. levels: aggressiveness of the rows of mode full."""
    console = Console()
    rounds = args.rounds or (3 if args.quick else 8)
    observations = args.observations or (6 if args.quick else 16)
    rows = [row for engine in _engines(args.engines) for row in rows_of(engine, config, levels, args.quick)]
    policies = _load(config, rows)
    policy = next(iter(policies.values()))
    from specprune_ros.bench.recording import record

    requests = record(config, policy, observations, args.seed0)
    load_before = load_average()
    with progress("inferences", rounds * len(requests) * len(rows), console) as reporter:
        gemm = measure(rows, policies, requests, rounds, reporter)
    result = {
        **summary(rows, policies),
        "gemm_gflops": round(gemm, 1),
        "settings": {
            "rounds": rounds,
            "observations": observations,
            "parameters": changed_parameters(config),
            "weights": weights_digest(config),
        },
        "machine": {
            **machine(),
            "device": str(policy.device),
            "dtype": str(policy.dtype).removeprefix("torch."),
            "load_average_before": load_before,
        },
    }
    console.print(tables(result))
    console.print(verdict(result), soft_wrap=True)
    if args.json:
        write_json(args.json, result)
    return 0


@dataclass
class Row:
    """One way to run the policy, with its own memory along the recording, and what was measured of it.

    forced: coarse or fine throughout; None: as the controller decides from the recorded motion.
    total_ms, reports: by recorded request.
    """

    engine: str
    mode: str
    forced: Mode | None
    config: Config
    memory: PolicyMemory | None = None
    total_ms: dict[int, list[float]] = field(default_factory=dict)
    reports: dict[int, list[PruningReport]] = field(default_factory=dict)

    @property
    def aggressiveness(self) -> float:
        return self.config.pruning.aggressiveness

    def all_reports(self) -> list[PruningReport]:
        return [report for reports in self.reports.values() for report in reports]

    def infer(self, policy, recorded: InferenceRequest) -> tuple[float, PruningReport]:
        """One inference that continues this row's memory: (end-to-end time [ms], report)."""
        memory = None if recorded.memory is None else self.memory
        request = replace(recorded, mode=self.forced or recorded.mode, memory=memory, pruning=self.config.pruning)
        started = time.perf_counter()
        result = policy.infer(request)
        elapsed_ms = 1e3 * (time.perf_counter() - started)
        self.memory = result.memory
        return elapsed_ms, result.report


def rows_of(engine: str, config: Config, levels: Sequence[float], quick: bool) -> list[Row]:
    """The rows of one engine; the pair behind `speedup_full_vs_dense` comes first."""

    def row(mode, forced=None, base=config):
        return Row(engine, mode, forced, variant(base, mode).updated(ENGINES[engine]))

    rows = [row("dense"), row("full")]
    if not quick:
        rows += [row("static", Mode.FINE), row("static_dynamic", Mode.FINE)]
    for level in levels:
        base = config.updated({"pruning.aggressiveness": level})
        rows += [row("full", forced, base) for forced in (Mode.COARSE, Mode.FINE)]
    return rows


def measure(rows: Sequence[Row], policies, requests: Sequence[InferenceRequest], rounds: int, reporter) -> float:
    """Fill the rows; returns the machine's GEMM rate [GFLOP/s], measured between the rounds."""
    for row in rows:
        policies[row.engine].warm_up(row.config)
    policy = next(iter(policies.values()))
    rates = []
    for seed in range(rounds):
        rates.append(gemm_gflops(policy.device, policy.dtype))
        _replay(rows, policies, requests, seed, reporter)
    return stats.median(rates)


def _replay(rows: Sequence[Row], policies, requests: Sequence[InferenceRequest], seed: int, reporter) -> None:
    """One pass over the recording; at each request all rows in shuffled order, so that a busy spell hits all alike."""
    shuffle = random.Random(seed)
    for index, request in enumerate(requests):
        for row in shuffle.sample(rows, len(rows)):
            elapsed_ms, report = row.infer(policies[row.engine], request)
            reporter.advance(f"{row.mode} {row.aggressiveness:g}")
            if request.memory is not None:  # the first of an episode is a dense pass in every row
                row.total_ms.setdefault(index, []).append(elapsed_ms)
                row.reports.setdefault(index, []).append(report)


def gemm_gflops(device, dtype) -> float:
    """Best rate of a square matrix product in the model's arithmetic: what the achieved rate is held against."""
    import torch

    a, b = (torch.randn(GEMM_SIZE, GEMM_SIZE, device=device).to(dtype) for _ in range(2))
    best_s, until_s = float("inf"), time.perf_counter() + GEMM_SECONDS
    while (started_s := time.perf_counter()) < until_s or best_s == float("inf"):
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - started_s)
    return 2 * GEMM_SIZE**3 / best_s / 1e9


def summary(rows: Sequence[Row], policies) -> dict[str, object]:
    """The documented result keys."""
    dense, full = rows[0], rows[1]
    stages = _stages(full)
    return {
        "rows": [_row(row, dense_of(row, rows), policies[row.engine]) for row in rows],
        "speedup_full_vs_dense": round(speedup(full, dense), 3),
        "speedup_method": "time of the whole recording, each observation by its median over the rounds: dense / full",
        "selection_share": round(stages["selection"] / sum(stages.values()), 4),
    }


def dense_of(row: Row, rows: Sequence[Row]) -> Row:
    return next(other for other in rows if other.engine == row.engine and other.mode == "dense")


def speedup(row: Row, dense: Row) -> float:
    return _recording_ms(dense) / _recording_ms(row)


def _recording_ms(row: Row) -> float:
    return sum(stats.median(samples) for samples in row.total_ms.values())


def _row(row: Row, dense: Row, policy) -> dict[str, object]:
    samples = [value for values in row.total_ms.values() for value in values]
    percentiles = stats.percentiles_ms(samples)
    reports = row.all_reports()
    gflop = stats.mean([policy.gflop(report) for report in reports])
    return {
        "engine": row.engine,
        "mode": row.mode,
        "aggressiveness": row.aggressiveness,
        "granularity": "dense" if row.mode == "dense" else row.forced.value if row.forced else "measured",
        **{f"{name}_ms": value for name, value in percentiles.items()},
        "speedup_vs_dense": round(speedup(row, dense), 3),
        "stages_ms": {name: round(value, 3) for name, value in _stages(row).items()},
        "tokens_kept": stats.mean([report.tokens_kept for report in reports]),
        "tokens_total": reports[0].tokens_total,
        "gflop": round(gflop, 3),
        "gflops": round(gflop / percentiles["p50"] * 1e3, 1),
        "samples": len(samples),
    }


def _stages(row: Row) -> dict[str, float]:
    """Median time of every stage [ms]."""
    return {name: stats.median([report.stage_ms[name] for report in row.all_reports()]) for name in STAGES}


def tables(result: Mapping[str, object]) -> Group:
    """End-to-end figures, and where the time goes."""
    look = {"box": SIMPLE_HEAD, "title_justify": "left", "pad_edge": False, "collapse_padding": True}  # fits 80 columns
    whole = Table(title="Inference, uint8 frames to action chunk", **look)
    split = Table(title="Stages [ms, median]", **look)
    headings = ("p50 ms", "p95", "p99", "gain", "tokens", "GFLOP", "GFLOP/s")
    for view, columns in ((whole, headings), (split, STAGES)):
        view.add_column("mode", no_wrap=True)
        for heading in columns:
            view.add_column(heading, justify="right")
    for row in result["rows"]:
        label = row_label(row, show_engine=len({row["engine"] for row in result["rows"]}) > 1)
        whole.add_row(
            label,
            *(f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
            f"{row['speedup_vs_dense']:.2f}x",
            f"{row['tokens_kept']:.0f}",
            f"{row['gflop']:.1f}",
            f"{row['gflops']:.0f}",
        )
        split.add_row(label, *(f"{row['stages_ms'][name]:.1f}" for name in STAGES))
    return Group(whole, split)


def row_label(row: Mapping[str, object], show_engine: bool) -> str:
    """'full 0.5 coarse': everything that tells a row from the others."""
    engine = f"{row['engine']} " if show_engine else ""
    if row["mode"] == "dense":
        return f"{engine}dense"
    return f"{engine}{row['mode']} {row['aggressiveness']:g} {row['granularity']}"


def verdict(result: Mapping[str, object]) -> str:
    """The two headline figures, and what the machine could do."""
    facts = result["machine"]
    return (
        f"full against dense: {result['speedup_full_vs_dense']:.2f}x; "
        f"selection: {result['selection_share']:.1%} of the pruned time; "
        f"matrix products on this machine: {result['gemm_gflops']:.0f} GFLOP/s "
        f"({facts['cpu']}, {facts['cores']} cores, {facts['dtype']}, load {facts['load_average_before']})"
    )


def _load(config: Config, rows: Sequence[Row]) -> dict[str, object]:
    from specprune_ros.infer.load import load_policy

    engines = dict.fromkeys(row.engine for row in rows)
    with loading("weights", Console()) as progress:
        return {engine: load_policy(config.updated(ENGINES[engine]), progress) for engine in engines}


def _engines(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ENGINES:
            raise ConfigError(f"--engines: {name!r} is not one of {', '.join(ENGINES)}")
    return names
