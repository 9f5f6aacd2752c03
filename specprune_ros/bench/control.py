"""`specprune bench --control`: how steady the policy node's control periods are while the simulator and inference share the machine.

Both nodes run as processes, as on a robot; what is measured is the node's own clock at the start of every control period.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from specprune_ros.bench.machine import load_average, machine
from specprune_ros.config import Config
from specprune_ros.demo.nodes import NodeProcesses, local_environment, node_parameters
from specprune_ros.eval.results import changed_parameters, write_json

RATES_HZ = (20.0, 50.0)
SLACK_S = 180.0


def run(config: Config, args: argparse.Namespace) -> int:
    """Measure every rate in turn; 0 on success."""
    console = Console()
    result = {"rows": [], "minutes": args.minutes, "parameters": changed_parameters(config)}
    for rate in RATES_HZ:
        console.print(f"{rate:g} Hz: {args.minutes:g} minutes ...")
        result["rows"].append({"rate_hz": rate, **measure(config.updated({"control.rate": rate}), args.minutes)})
        result["machine"] = {**machine(), "load_average_after": load_average()}
        if args.json:
            write_json(args.json, result)
    console.print(table(result))
    return 0


def measure(config: Config, minutes: float) -> dict[str, float]:
    """Jitter [ms] of one rate: p50, p99, max, the number of periods, and what the node did meanwhile."""
    environment = local_environment()
    with tempfile.TemporaryDirectory() as folder, NodeProcesses(Path(folder), environment) as nodes:
        rate = ["--ros-args", "-p", f"control_rate:={config.control.rate}"]  # the loop is closed at every rate
        nodes.start("sim_node", [sys.executable, "-m", "specprune_ros.ros.sim_node", *rate])
        policy = [sys.executable, "-m", "specprune_ros.ros.policy_node"]
        instructed = config.updated({"topics.instruction": "/sim_node/instruction"})
        nodes.start("policy_node", [*policy, *node_parameters(instructed, Path(folder))])
        client = [sys.executable, "-m", "specprune_ros.bench.jitter_client", "--seconds", str(60 * minutes)]
        done = subprocess.run(
            client, env=environment, cwd=folder, capture_output=True, text=True, timeout=60 * minutes + SLACK_S
        )
        nodes.check()
        if done.returncode:
            raise RuntimeError(f"jitter_client: {done.stderr.strip() or done.returncode}; {nodes.last_lines()}")
    return json.loads(done.stdout.splitlines()[-1])


def table(result: Mapping[str, object]) -> Table:
    shown = Table(title="Deviation of control periods [ms]", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("rate", "p50", "p99", "max", "periods", "inferences", "inference p50"):
        shown.add_column(heading, justify="right")
    for row in result["rows"]:
        values = (f"{row[name]:.2f}" for name in ("p50", "p99", "max"))
        counts = (f"{row[name]:.0f}" for name in ("periods", "requests"))
        shown.add_row(f"{row['rate_hz']:g} Hz", *values, *counts, f"{row['latency p50 [ms]']:.0f} ms")
    return shown
