"""`specprune bench --control`: how steady the policy node's control periods are while the simulator and inference share
the machine, and while two programs besides keep two cores busy.

All of them run as processes, as on a robot; what is measured is the node's own clock at the start of every control
period."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from specprune_ros.config import Config
from specprune_ros.demo.nodes import NodeProcesses, local_environment, node_parameters, sim_command
from specprune_ros.eval.machine import load_average, machine
from specprune_ros.eval.results import changed_parameters, write_json

RATES_HZ = (20.0, 50.0)
BUSY_LOOPS = 2
BUSY_LOOP = "while True: pass"
SLACK_S = 180.0


def run(config: Config, args: argparse.Namespace) -> int:
    """Measure every rate in turn, idle and loaded; 0 on success."""
    console = Console()
    result = {"rows": [], "minutes": args.minutes, "parameters": changed_parameters(config)}
    for busy_loops in (0, BUSY_LOOPS):
        for rate in RATES_HZ:
            console.print(f"{rate:g} Hz, {busy_loops} busy loops: {args.minutes:g} minutes ...")
            before = load_average()
            row = measure(config.updated({"control.rate": rate}), args.minutes, busy_loops)
            loads = {"load_average_before": before, "load_average_after": load_average()}
            result["rows"].append({"rate_hz": rate, "busy_loops": busy_loops, **row, **loads})
            result["machine"] = machine()
            if args.json:
                write_json(args.json, result)
    console.print(table(result))
    return 0


def measure(config: Config, minutes: float, busy_loops: int = 0) -> dict[str, float]:
    """One row: see `jitter_client.measured`."""
    environment = local_environment()
    with tempfile.TemporaryDirectory() as folder, NodeProcesses(Path(folder), environment) as nodes:
        nodes.start("sim_node", sim_command(config))
        policy = [sys.executable, "-m", "specprune_ros.ros.policy_node"]
        instructed = config.updated({"topics.instruction": "/sim_node/instruction"})
        nodes.start("policy_node", [*policy, *node_parameters(instructed, Path(folder))])
        client = [sys.executable, "-m", "specprune_ros.bench.jitter_client", "--seconds", str(60 * minutes)]
        with busy(busy_loops):
            done = subprocess.run(
                client, env=environment, cwd=folder, capture_output=True, text=True, timeout=60 * minutes + SLACK_S
            )
        nodes.check()
        if done.returncode:
            raise RuntimeError(f"jitter_client: {done.stderr.strip() or done.returncode}; {nodes.last_lines()}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many programs that use a core each as long as they are given one."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP], env=os.environ) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def table(result: Mapping[str, object]) -> Table:
    shown = Table(title="Deviation of control periods [ms]", box=SIMPLE_HEAD, title_justify="left")
    headings = ("rate", "busy loops", "p50", "p99", "max", "gaps > 3 periods", "periods", "inferences", "inference p50")
    for heading in headings:
        shown.add_column(heading, justify="right")
    for row in result["rows"]:
        values = (f"{row[name]:.2f}" for name in ("p50", "p99", "max"))
        counts = (str(row[name]) for name in ("gaps", "periods", "requests"))
        inference = f"{row['latency p50 [ms]']:.0f} ms"
        shown.add_row(f"{row['rate_hz']:g} Hz", str(row["busy_loops"]), *values, *counts, inference)
    return shown
