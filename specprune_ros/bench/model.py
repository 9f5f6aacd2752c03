"""`specprune bench --model openvla-7b`: the stock way, our dense engine and the pruned one, side by side in one run.

Weights are random and of the exact shape (`model.synthetic`). End to end means uint8 frames in, action chunk out,
with the device waited for on both sides. Rows take turns in shuffled order, a block of inferences each, so that heat
and clocks hit all alike; the first of a block is not counted. Results are saved after every round.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console

from specprune_ros.bench import model_rows
from specprune_ros.bench.gpu import gpu_state, peak_gib, synchronise
from specprune_ros.bench.model_report import result_of, tables
from specprune_ros.bench.model_rows import (
    CAMERA_PIXELS,
    FP8,
    OBSERVATIONS,
    ModelRow,
    Warnings,
    frames,
    place,
)
from specprune_ros.bench.roofline import Fp8Rates, Rates, measure_rates
from specprune_ros.bench.stock import Stock
from specprune_ros.config import Config
from specprune_ros.eval.machine import machine
from specprune_ros.eval.progress import progress
from specprune_ros.eval.results import changed_parameters, write_json
from specprune_ros.eval.variants import variant
from specprune_ros.infer.policy import Policy
from specprune_ros.model.checkpoint import same_weights
from specprune_ros.model.flops import Product, inference_products, stock_products
from specprune_ros.model.synthetic import SCALES, random_checkpoint
from specprune_ros.prune.layout import Layout
from specprune_ros.types import ACTION_HIGH, ACTION_LOW, InferenceRequest, Mode, Observation

FRAME_OFFSET = 11
CHANGED_LEVEL, CHANGED_PASSES = 0.37, 12
"""An aggressiveness that no row and no preset has, and passes after the change to it."""
CAPTURED = ("graph", "compiled")
"""Policies on captured graphs: of plain operations, and of layers that torch.compile fused."""
COMPILED_LEVELS = (0.5, 1.0)
SNAPPED = "snapped"
"""Name of the rows whose token counts fit the card: `pruning.budget: machine`."""
SETTLE = 3
"""Uncounted inferences of a row after its warm-up: the first has no history and is dense."""


def run(config: Config, levels: Sequence[float], args: argparse.Namespace) -> int:
    """The subcommand: `levels` of aggressiveness; exit status 0."""
    with Warnings() as warnings:
        _run(args, ModelBench(config, args.scale, Console(), warnings), levels)
    return 0


def _run(args: argparse.Namespace, bench: ModelBench, levels: Sequence[float]) -> None:
    rows, console = bench.rows(levels, args.eager), bench.console
    short = args.quick or args.scale == "tiny"
    rounds, passes = args.rounds or (2 if short else 20), args.observations or (6 if short else 15)
    bench.warm(rows)
    with progress("inferences", rounds * passes * sum(not row.skipped for row in rows), console) as reporter:
        for seed in range(rounds):
            if seed and time.monotonic() - bench.began_s > args.time_limit:
                console.print(
                    f"stopping after {seed} of {rounds} rounds: --time-limit {args.time_limit:g} s is reached"
                )
                break
            bench.round(rows, passes, seed, reporter)
            if args.json:
                write_json(args.json, bench.result(rows))
    console.print(tables(bench.result(rows)), soft_wrap=True)


class ModelBench:
    """The model, its policies and the frames they see."""

    def __init__(self, config: Config, scale: str, console: Console, warnings: Warnings):
        self.began_s = time.monotonic()
        self.config, self.scale, self.console, self.warnings = config, scale, console, warnings
        self.device, dtype = place(config, scale)
        self.checkpoint = random_checkpoint(SCALES[scale], self.device, dtype, name=f"openvla-7b-{scale}")
        synchronise(self.device)
        self.build_s = time.monotonic() - self.began_s
        self.console.print(f"weights of {self._weights_gib():.2f} GiB made in {self.build_s:.1f} s on {self.device}")
        self.policies = {"eager": Policy(self.checkpoint, engine="eager")}
        if self.device.type == "cuda":
            self.policies["graph"] = Policy(self.checkpoint, engine="graph")
            self.policies["compiled"] = Policy(same_weights(self.checkpoint), engine="graph")
            self.policies["compiled"].compile()
        self.observations, c = frames(self.checkpoint), self.checkpoint.config
        prompt = self.checkpoint.prompt.encode(self.observations[0].instruction)
        self.layout = Layout(
            c.views, c.patches, int(c.proprio_dims > 0), len(prompt.ids) - 1, prompt.task, c.placeholders
        )
        self.memory: dict[str, float] = {}
        self.states = [gpu_state(self.device)]
        self.rates: Rates | None = None
        self.fp8_rates: Fp8Rates | None = None
        self.stock: Stock | None = None
        self.warm_up_s = 0.0
        self.after_change_ms: float | None = None

    def rows(self, levels: Sequence[float], eager: bool) -> list[ModelRow]:
        """Stock, dense, and pruned at every level in both modes, with compiled layers at two; pruned op by op only if
        asked for or nothing else can run. Then those with the card's own token counts, and those in FP8."""
        dense = variant(self.config, "dense")
        rows = [ModelRow("stock", "stock", Mode.DENSE, dense)]
        rows += [ModelRow("dense", engine, Mode.DENSE, dense) for engine in ("eager", "graph", "compiled")]
        for engine in ("eager", *CAPTURED) if eager or "graph" not in self.policies else CAPTURED:
            for level in levels if engine != "compiled" else COMPILED_LEVELS:
                pruned = self.config.updated({"pruning.aggressiveness": level})
                rows += [ModelRow("pruned", engine, mode, pruned) for mode in (Mode.COARSE, Mode.FINE)]
        snapped = self.config.updated({"pruning.budget": "machine"})
        rows += [ModelRow(SNAPPED, "compiled", mode, snapped) for mode in (Mode.COARSE, Mode.FINE)]
        return rows + model_rows.fp8_rows(self.config)

    def warm(self, rows: Sequence[ModelRow]) -> None:
        """Get every row ready; one that cannot run is skipped with its reason. Then measure the card itself."""
        started = time.monotonic()
        self._own_memory()
        for row in rows:
            try:
                # Only now, as `_own_memory` is of the plain policy alone.
                if row.engine == FP8 and "graph" in self.policies and FP8 not in self.policies:
                    self.policies[FP8] = model_rows.fp8_policy(self.checkpoint)
                self._warm(row)
            except Exception as error:  # out of memory, a broken library: the other rows are still worth measuring
                row.skipped = row.skipped or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self.console.print(f"ready: {row.name} {row.engine} {row.mode.value} {row.skipped}", soft_wrap=True)
        self.after_change_ms = self._after_change()
        self.warm_up_s = time.monotonic() - started
        products = [product for row in rows for product in self._products(row)]
        self.rates = measure_rates(self.device, self.checkpoint.model.projector.fc1.weight.dtype, products)
        self.fp8_rates = model_rows.fp8_rates(self.rates, self.device, rows, self._products)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def round(self, rows: Sequence[ModelRow], passes: int, seed: int, reporter) -> None:
        """A block of `passes` inferences of every row, in shuffled order."""
        running = [row for row in rows if not row.skipped]
        for row in random.Random(seed).sample(running, len(running)):
            gc.collect()
            peak_gib(self.device, reset=True)
            for index in range(-1, passes):
                total_ms, stages_ms = self._timed(row, index)
                if index >= 0:
                    row.total_ms.append(total_ms)
                    row.stages_ms.append(stages_ms)
                    ran = self._ran(row)
                    row.ran[ran] = row.ran.get(ran, 0) + 1
                    reporter.advance(f"{row.name} {row.engine} {row.config.pruning.aggressiveness:g} {row.mode.value}")
            row.peak_gib = max(row.peak_gib or 0.0, peak_gib(self.device) or 0.0) or None
        self.states.append(gpu_state(self.device))

    def result(self, rows: Sequence[ModelRow]) -> dict[str, object]:
        """The JSON document as far as it is measured."""
        rates = self.rates
        facts = {
            "model": "openvla-7b",
            "scale": self.scale,
            "gpu_measurement": self.device.type == "cuda" and self.scale == "full",
            "roofline": {
                "gemm_tflops": round(rates.flops / 1e12, 3),
                "fp8_gemm_tflops": round(self.fp8_rates.flops / 1e12, 3) if self.fp8_rates else None,
                "copy_gbps": round(rates.bandwidth / 1e9, 1),
                "shapes_measured": len(rates.shapes),
                "floor": "sum over matrix products of max(FLOP / best measured rate, bytes / bandwidth)",
            },
            "sequence": {"tokens": self.layout.length, "visual": self.layout.visual, "views": self.layout.views},
            "agreement": self._agreement(rows),
            "memory": {"weights_gib": round(self._weights_gib(), 3), **self.memory},
            "stock": dict(self.stock.made_of) if self.stock else {},
            "after_change_ms": self.after_change_ms,
            "warnings": self.warnings.texts,
            "settings": {
                "weights": "random, of the exact shape",
                "rounds": "rows in shuffled order, a block of inferences each, the first of a block not counted",
                "peak_gib": "most memory allocated during a row, the stock baseline and every captured row included",
                "frames": f"{CAMERA_PIXELS} x {CAMERA_PIXELS} uint8 RGB per view",
                "attention": self.policies["eager"].attention,
                "fp8": "compiled layers, decoder products in e4m3 with one scale a row and an output column, rounded "
                "within the pass; their floors have the rates of FP8 products of operands that are rounded already",
                "build_s": round(self.build_s, 1),
                "warm_up_s": round(self.warm_up_s, 1),
                "parameters": changed_parameters(self.config),
            },
            "machine": {
                **machine(),
                "device": str(self.device),
                "dtype": str(self.checkpoint.model.projector.fc1.weight.dtype).removeprefix("torch."),
                "gpu_states": self.states,
            },
        }
        own = {FP8: self.fp8_rates or rates}
        return result_of(facts, [row.measured(self._products(row), own.get(row.engine, rates)) for row in rows])

    def _warm(self, row: ModelRow) -> None:
        if row.engine == "stock":
            self.stock = Stock(self.checkpoint)
            row.infer = self._infer_stock
        elif row.engine not in self.policies:
            row.skipped = f"captured graphs need a CUDA device; the model is on {self.device}"
            return
        else:
            self.policies[row.engine].warm_up(row.config, image_size=(CAMERA_PIXELS, CAMERA_PIXELS))
            row.infer = self._infer_policy
        for index in range(SETTLE):
            self._timed(row, index)
        if row.engine in self.policies:
            self.policies[row.engine].settle()  # capture whatever that still needed
        for index in range(SETTLE):
            self._timed(row, index)
        if self._ran(row) != row.engine:
            row.skipped = f"not captured: {self.policies[row.engine].engine_state}"

    def _ran(self, row: ModelRow) -> str:
        """What really ran the row's last inference: its engine's name, unless it fell back."""
        policy = self.policies.get(row.engine)
        return row.engine if policy is None or policy.ran == policy.engine.name else policy.ran

    def _timed(self, row: ModelRow, index: int) -> tuple[float, dict[str, float]]:
        """One inference: (end to end [ms], stages [ms])."""
        now, before = (self.observations[i % OBSERVATIONS] for i in (index, index - 1))
        synchronise(self.device)
        started = time.perf_counter()
        stages_ms = row.infer(row, now, before)
        synchronise(self.device)
        return 1e3 * (time.perf_counter() - started), stages_ms

    def _infer_stock(self, row: ModelRow, now: Observation, before: Observation) -> dict[str, float]:
        row.actions, stages_ms = self.stock.infer(now)
        row.tokens_kept = self.layout.visual
        row.lengths = (self.layout.length,) * self.checkpoint.config.decoder.layers
        return stages_ms

    def _infer_policy(self, row: ModelRow, now: Observation, before: Observation) -> dict[str, float]:
        request = InferenceRequest(0, now, before.images, FRAME_OFFSET, row.mode, row.memory, row.config.pruning)
        result = self.policies[row.engine].infer(request)
        row.memory, row.actions = result.memory, result.chunk.actions
        row.lengths, row.tokens_kept = result.report.layer_lengths, result.report.tokens_kept
        return {stage: ms for stage, ms in result.report.stage_ms.items() if stage != "total"}

    def _products(self, row: ModelRow) -> tuple[Product, ...]:
        config = self.checkpoint.config
        if row.skipped:
            return ()
        if row.engine == "stock":
            return stock_products(config, self.layout.length)
        return inference_products(config, row.lengths)

    def _after_change(self) -> float | None:
        """Slowest pass [ms] after a change of aggressiveness, with what it waits for: captures in idle moments
        between passes."""
        policy = self.policies.get("graph")
        if policy is None:
            return None
        config = self.config.updated({"pruning.aggressiveness": CHANGED_LEVEL})
        changed = ModelRow("pruned", "graph", Mode.COARSE, config)
        changed.infer = self._infer_policy
        slowest_ms = 0.0
        for index in range(CHANGED_PASSES):
            started = time.perf_counter()
            policy.idle()
            self._timed(changed, index)
            slowest_ms = max(slowest_ms, 1e3 * (time.perf_counter() - started))
        policy.settle()
        return round(slowest_ms, 2)

    def _own_memory(self) -> None:
        """What the policy alone takes, before anything else of this benchmark is on the card."""
        if self.device.type != "cuda":
            return
        self.policies["graph"].warm_up(self.config, image_size=(CAMERA_PIXELS, CAMERA_PIXELS))
        synchronise(self.device)
        free, total = torch.cuda.mem_get_info(self.device)
        self.memory["policy_gib"] = round((total - free) / 2**30, 3)
        self.memory["policy_allocated_peak_gib"] = peak_gib(self.device)

    def _agreement(self, rows: Sequence[ModelRow]) -> dict[str, float | None]:
        """Largest difference of actions on the same frames, against our dense engine op by op."""
        by_engine = {row.engine: row for row in rows if row.name != "pruned" and not row.skipped}
        reference, found = by_engine.get("eager"), {}
        for engine in ("stock", *CAPTURED, FP8):
            if reference is not None and engine in by_engine:
                ours, other = reference.actions, np.clip(by_engine[engine].actions, ACTION_LOW, ACTION_HIGH)
                found[f"{engine}_vs_eager"] = float(np.abs(ours - other).max())
        return found

    def _weights_gib(self) -> float:
        return sum(p.numel() * p.element_size() for p in self.checkpoint.model.parameters()) / 2**30
