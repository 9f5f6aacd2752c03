"""`specprune demo`: the whole loop over real ROS 2, watched from outside.

sim_node and policy_node run as processes of their own; this one resets episodes, gives instructions, shows progress,
records the topics and writes the report folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from specprune_ros.config import Config
from specprune_ros.demo import report
from specprune_ros.demo.nodes import NODE_NAME, NodeDied, NodeProcesses, local_environment, node_parameters, sim_command
from specprune_ros.demo.trace import EpisodeTrace
from specprune_ros.eval import stats
from specprune_ros.eval.machine import machine
from specprune_ros.eval.results import write_json
from specprune_ros.sim import verdict
from specprune_ros.sim.settings import check_steps

START_TIMEOUT_S = 120.0
FAST_TIMEOUT_S = 300.0
RESET_TIMEOUT_S = 15.0
EPISODE_TIMEOUT_S = 30.0
"""Wall time; the simulator itself ends an episode earlier, by its step limit."""
AFTERMATH_S = 0.7
"""How long an episode goes on after its success, so that the cube is seen in the air."""
REFRESH_S = 0.1
MODE_STYLES = {"dense": "white", "coarse": "yellow", "fine": "green"}


def run(config: Config, args: argparse.Namespace, client_class) -> int:
    """client_class: `demo.client.DemoClient`, or what stands in for it in a test."""
    check_steps(config)
    console = Console()
    started_s = time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the nodes are ended in order
    try:
        episodes, counters = perform(config, args, console, client_class)
    except (NodeDied, TimeoutError) as error:
        print(f"specprune demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    result = report.summary(episodes, counters, 1.0 / config.control.rate, machine())
    with console.status("writing video and plots"):
        report.write_report(args.report, episodes, result)
    if args.json:
        write_json(args.json, result)
    console.print(closing_table(result))
    files = ", ".join(sorted(path.name for path in args.report.iterdir() if path.is_file()))
    console.print(f"{args.report}/: {files}   ({time.monotonic() - started_s:.0f} s)", soft_wrap=True)
    return 0


def perform(
    config: Config, args: argparse.Namespace, console: Console, client_class
) -> tuple[list[EpisodeTrace], dict[str, int]]:
    """All episodes, and the policy node's counters; no process is left when this returns or raises."""
    os.environ.update(local_environment())  # before rclpy reads it, here and in the nodes
    logs = (args.report / "logs").resolve()
    with NodeProcesses(logs, os.environ) as nodes:
        nodes.start("sim_node", sim_command(config))
        nodes.start(NODE_NAME, [sys.executable, "-m", "specprune_ros.ros.policy_node", *node_parameters(config, logs)])
        with client_class() as client, Display(console, client, args.episodes) as display:
            stage = Stage(client, nodes, display)
            stage.wait(client.simulator_is_up, START_TIMEOUT_S, "the simulator to start")
            stage.wait(lambda: client.health.ready, START_TIMEOUT_S, "the policy to load")
            fast = "the policy's models to be made fast; the first time takes a minute"
            stage.wait(lambda: not client.health.making, FAST_TIMEOUT_S, fast)
            for seed in range(args.seed0, args.seed0 + args.episodes):
                display.finished.append(stage.play(seed))
            stage.wait_for_last_words()
            return display.finished, client.health.counters


class Stage:
    """Plays episodes. Whatever it waits for, it also notices when one of the two node processes has ended."""

    def __init__(self, client, nodes: NodeProcesses, display: Display):
        self._client, self._nodes, self._display = client, nodes, display

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Spin until the condition holds; TimeoutError with what the nodes said last."""
        if not self._spin_until(condition, timeout_s, what):
            logs = "\n".join(f"{name}: {line}" for name, line in self._nodes.last_lines().items())
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}; last lines of the logs:\n{logs}")

    def play(self, seed: int) -> EpisodeTrace:
        """One episode: reset, instruct, watch until the simulator's verdict."""
        client = self._client
        trace = client.begin(seed, lambda condition, what: self.wait(condition, RESET_TIMEOUT_S, what))
        self._spin_until(lambda: client.task != verdict.RUNNING, EPISODE_TIMEOUT_S, "the verdict")
        if client.task == verdict.SUCCESS:
            trace.picked_s = client.elapsed_s()
            self._spin_until(lambda: False, AFTERMATH_S, "the cube to rise")
        client.end()
        return trace

    def wait_for_last_words(self) -> None:
        """Wait for the next diagnostics, which come once a second: their counters include the last episode."""
        before = self._client.health.reports
        self._spin_until(lambda: self._client.health.reports > before, 3.0, "the last counters")

    def _spin_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> bool:
        until_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until_s:
                return False
            self._nodes.check()
            self._client.spin(REFRESH_S)
            self._display.show(what)
        return True


class Display:
    """Shows the finished episodes and the present one: a live table on a terminal, one line per episode in a log."""

    def __init__(self, console: Console, client, episodes: int):
        self._console, self._client, self._episodes = console, client, episodes
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._told: str | int | None = None
        self.finished: list[EpisodeTrace] = []

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def show(self, what: str) -> None:
        if self._live:
            self._live.update(Group(self._table(), self._now(what)), refresh=True)
        elif (news := what if self._client.trace is None else self._client.trace.seed) != self._told:
            self._told = news
            doing = self._client.trace.instruction if self._client.trace else f"waiting for {what}"
            number = min(len(self.finished) + 1, self._episodes)
            self._console.print(f"episode {number}/{self._episodes}: {doing}")

    def _table(self) -> Table:
        return episode_table([report.episode_summary(episode) for episode in self.finished])

    def _now(self, what: str) -> Text:
        """The present episode in one line."""
        trace, health = self._client.trace, self._client.health
        if trace is None:
            return Text(f"waiting for {what} ..." + (f" ({health.hold_reason})" if health.hold_reason else ""))
        line = Text(
            f"{len(self.finished) + 1}/{self._episodes}  {self._client.elapsed_s():4.1f} s  {trace.instruction}  "
        )
        if trace.inferences:
            newest = trace.inferences[-1]
            kept = newest.tokens_kept / newest.tokens_total
            line.append(f"{newest.mode:6}", MODE_STYLES[newest.mode])
            line.append(f" {'#' * round(20 * kept):20} {newest.tokens_kept}/{newest.tokens_total} tokens")
            line.append(f"  {newest.total_ms:.0f} ms")
        if health.hold_reason:
            line.append(f"\nholding: {health.hold_reason}", "red")
        return line


def episode_table(episodes: list[dict[str, object]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("seed", "instruction", "result"):
        table.add_column(heading, no_wrap=True)
    for heading in ("time", "passes", "coarse/fine", "tokens", "p50"):
        table.add_column(heading, justify="right")
    for episode in episodes:
        modes = episode["modes"]
        table.add_row(
            str(episode["seed"]),
            episode["instruction"],
            "[green]picked[/]" if episode["success"] else "[red]missed[/]",
            f"{episode['seconds']:.1f} s",
            str(episode["inferences"]),
            f"{modes.get('coarse', 0)}/{modes.get('fine', 0)}",
            f"{episode['tokens_kept_mean']:.0f}",
            f"{episode['latency_p50_ms']:.0f} ms",
        )
    return table


def closing_table(result: dict[str, object]) -> Group:
    """Episodes, then the figures of the whole run."""
    latency, tokens = result["latency_ms"], result["tokens"]
    low, high = stats.wilson(result["successes"], result["episodes"])
    figures = Table.grid(padding=(0, 2))
    for name, text in (
        ("picked", f"{result['successes']} of {result['episodes']} (95 % interval {low:.0%} .. {high:.0%})"),
        ("control rate", f"{result['control_rate_hz']:.2f} Hz, {result['deadline_misses']} deadlines missed"),
        ("inference", f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms"),
        ("visual tokens", f"{tokens['kept_mean']:.0f} of {tokens['total']} kept"),
    ):
        figures.add_row(f"[bold]{name}[/]", text)
    return Group(episode_table(result["per_episode"]), figures)
