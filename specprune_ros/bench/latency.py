"""`specprune bench`: latency of dense against pruned inference on every engine, interleaved in one run on the same
observations.

End to end means uint8 frames in, action chunk out: preprocessing, patch similarity and token selection are inside.
Every row keeps its own memory along the recording, so that each pass has the history it would have on the robot.

`--model openvla-7b` measures the 7B model on a GPU instead: see `bench.model`.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from specprune_ros.bench.latency_report import summary, tables, verdict
from specprune_ros.bench.latency_rows import STOCK, PolicyRunner, Row, Runner, StockRunner, rows_of
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval import stats
from specprune_ros.eval.machine import load_average, machine
from specprune_ros.eval.progress import loading, progress
from specprune_ros.eval.results import changed_parameters, weights_digest, write_json
from specprune_ros.types import InferenceRequest

ENGINES = ("eager", "openvino", "graph", "compiled", STOCK)
"""What `--engines` takes; `compiled` is eager with `policy.compile`."""

GEMM_SIZE, GEMM_SECONDS = 768, 0.2


def run(config: Config, levels: Sequence[float], args: argparse.Namespace) -> int:
    """Measure, print the tables and write the results; 0 on success. levels: aggressiveness of the rows of mode
    full."""
    if importlib.util.find_spec("mujoco") is None:
        raise ConfigError(
            "bench: what is measured is a recording of the simulator, and MuJoCo is missing; 'pip install mujoco', or "
            "measure random weights of the 7B model, which needs no simulator: specprune bench --model openvla-7b"
        )
    from specprune_ros.bench.recording import record

    console = Console()
    rounds = args.rounds or (3 if args.quick else 8)
    observations = args.observations or (6 if args.quick else 16)
    policies, stock, skipped = _load(config, chosen(args.engines), console)
    if not policies:
        raise ConfigError(f"--engines: none of them can run here: {'; '.join(skipped.values())}")
    runners: dict[str, Runner] = {} if stock is None else {STOCK: StockRunner(stock)}
    runners |= {engine: PolicyRunner(policy) for engine, policy in policies.items()}
    default = default_engine(policies)
    policy = policies[default]
    rows = [row for name in runners for row in rows_of(name, config, levels, name == default and not args.quick)]
    requests = record(config, policy, observations, args.seed0)
    load_before = load_average()
    with console.status("getting the rows ready: models are converted once a machine"):
        get_ready(rows, runners, requests)
    with progress("inferences", rounds * len(requests) * len(rows), console) as reporter:
        gemm = measure(rows, runners, requests, rounds, reporter, policy.device, policy.dtype)
    result = {
        **summary(rows, default, gemm),
        "skipped": skipped,
        "settings": {
            "rounds": rounds,
            "observations": observations,
            "parameters": changed_parameters(config),
            "weights": weights_digest(config),
            "attention": policy.attention,
            "stock": {} if stock is None else stock.made_of,
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


def get_ready(rows: Sequence[Row], runners: Mapping[str, Runner], requests: Sequence[InferenceRequest]) -> None:
    """Every row as fast as it will get; what a recording needs beyond its warm-up, it asks for on the way through."""
    for row in rows:
        runners[row.engine].get_ready(row.config, requests[0].observation)
        for request in requests[:2]:
            row.infer(runners[row.engine], request)
        runners[row.engine].get_ready(row.config, requests[0].observation)
        row.memory = None


def measure(
    rows: Sequence[Row],
    runners: Mapping[str, Runner],
    requests: Sequence[InferenceRequest],
    rounds: int,
    reporter,
    device,
    dtype,
) -> float:
    """Fill the rows; returns the machine's GEMM rate [GFLOP/s], measured between the rounds."""
    rates = []
    for seed in range(rounds):
        rates.append(gemm_gflops(device, dtype))
        _replay(rows, runners, requests, seed, reporter)
    return stats.median(rates)


def _replay(rows: Sequence[Row], runners, requests: Sequence[InferenceRequest], seed: int, reporter) -> None:
    """One pass over the recording; at each request all rows in shuffled order, so that a busy spell hits all alike."""
    shuffle = random.Random(seed)
    for index, request in enumerate(requests):
        for row in shuffle.sample(rows, len(rows)):
            elapsed_ms, sample = row.infer(runners[row.engine], request)
            reporter.advance(f"{row.engine} {row.mode} {row.aggressiveness:g}")
            if request.memory is not None:  # the first of an episode is a dense pass in every row
                row.total_ms.setdefault(index, []).append(elapsed_ms)
                row.samples.setdefault(index, []).append(sample)


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


def default_engine(policies: Mapping[str, object]) -> str:
    """What `policy.engine: auto` takes here, as far as it is measured: the first of these."""
    return next(name for name in ("graph", "openvino", "eager", "compiled") if name in policies)


def chosen(text: str) -> list[str]:
    """'stock,eager' -> names of engines; `all`: every engine that may run here without compiling."""
    names = [name.strip() for name in text.split(",")]
    if names == ["all"]:
        return [STOCK, "eager", "openvino", "graph"]
    for name in names:
        if name not in ENGINES:
            raise ConfigError(f"--engines: {name!r} is not one of {', '.join(ENGINES)}, all")
    return list(dict.fromkeys(names))


def _load(config: Config, engines: Sequence[str], console: Console):
    """(policy by engine, stock baseline or None, why others are missing): all on the same weights but the compiled
    one, which changes its own."""
    from specprune_ros.bench.stock import Stock
    from specprune_ros.infer.load import load_policy
    from specprune_ros.infer.policy import Policy

    policies, skipped = {}, {}
    with loading("weights", console) as shown:
        eager = load_policy(config.updated({"policy.engine": "eager", "policy.compile": False}), shown)
    for engine in engines:
        if engine == "compiled":
            changes = {"policy.engine": "eager", "policy.compile": True}
            policies[engine] = load_policy(config.updated(changes), lambda *_: None)
        elif engine == "eager":
            policies[engine] = eager
        elif engine != STOCK and (engine == "graph") == (eager.device.type == "cuda"):
            policy = Policy(eager.checkpoint, engine, config.policy.cache_dir, config.action)
            if policy.engine.name == engine:
                policies[engine] = policy
            else:
                skipped[engine] = policy.engine_state
    return policies, Stock(eager.checkpoint) if STOCK in engines else None, skipped
