"""`specprune bench --faults`: the stop-time table.

For every fault and every command interface, several times over: the arm is armed and moves, the fault begins, and from
outside it is seen when the last moving command arrived, when rest was said, when the arm stood still, which reason was
given, and how motion came back. Limits are those of a first day on a real arm, and every single command is held against
them."""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from specprune_ros.control.safety import SafetyState
from specprune_ros.eval.machine import load_average, machine
from specprune_ros.eval.pool import pool
from specprune_ros.eval.progress import progress
from specprune_ros.eval.results import write_json
from specprune_ros.eval.stats import percentiles_ms

QUIET_S = 0.5
"""So long without a moving command counts as rest."""
LONGEST_S = 30.0
"""A fault that has not stopped the arm by then counts as not stopped."""
LATEST_S = 0.1
TOLD_S = 3.0
"""A reason that has not been given by then counts as not given."""
STILL_MPS = 1e-3
STUCK = "stuck"
"""Outcome of a fault before which, or after which, the arm did not come to move: never an expected one."""


@dataclass(frozen=True)
class Trial:
    """One fault, once. Seconds count from its beginning; None: it never came.

    last_command_s: the last moving command; rest_s: the first message of rest after it; still_s: the arm stands still;
    resumes_s: from the end of the fault to the first motion, where nobody had to arm it again.
    """

    fault: str
    interface: str
    outcome: str
    expected: str
    last_command_s: float | None
    rest_s: float | None
    still_s: float | None
    resumes_s: float | None
    reason: str
    named: bool
    violations: tuple[str, ...]


def run(args: argparse.Namespace) -> int:
    """Play all trials, print the table and write the results; 0 when no command was out of limits and all ended as they
    must."""
    from specprune_ros.bench.faults.scene import INTERFACES

    console, before = Console(), load_average()
    rounds = [(interface, seed) for seed in range(args.repetitions) for interface in INTERFACES]
    trials: list[Trial] = []

    def result() -> dict[str, object]:
        return {
            "rows": rows(trials),
            "repetitions": args.repetitions,
            "trials": [asdict(trial) for trial in trials],
            "machine": {**machine(), "load_average_before": before, "workers": args.workers},
        }

    with progress("rounds", len(rounds), console) as reporter:
        for played in play(rounds, args.workers):
            trials += played
            reporter.advance(f"{played[-1].interface}, {len(played)} faults")
            if args.json:  # whoever ends it early keeps what there is
                write_json(args.json, result())
    console.print(table(result()))
    wrong = [trial for trial in trials if trial.violations or trial.outcome != trial.expected]
    for trial in wrong[:20]:
        console.print(
            f"{trial.interface}, {trial.fault}: {trial.outcome}, expected {trial.expected}; {trial.violations[:1]}"
        )
    return 1 if wrong else 0


def names() -> list[str]:
    from specprune_ros.bench.faults.cases import FAULTS

    return [fault.name for fault in FAULTS]


def play(rounds: Sequence[tuple[str, int]], workers: int) -> Iterator[list[Trial]]:
    """The trials of every round as they come; a round is one interface and every fault once, in an order of its own."""
    if workers == 1:
        for interface, seed in rounds:
            yield play_round(interface, seed)
        return
    with pool(workers) as players:
        for future in as_completed([players.submit(play_round, *one) for one in rounds]):
            yield future.result()


def play_round(interface: str, seed: int) -> list[Trial]:
    from specprune_ros.bench.faults.cases import FAULTS
    from specprune_ros.bench.faults.scene import LiveScene

    faults, rng = list(FAULTS), random.Random(seed)
    rng.shuffle(faults)
    domain = 1 + (os.getpid() * 7 + seed) % 100
    with tempfile.TemporaryDirectory() as folder, LiveScene(interface, Path(folder), domain) as scene:
        trials = []
        for fault in faults:
            try:
                trials.append(trial(scene, fault, interface, rng.uniform(0.0, LATEST_S)))
            except TimeoutError as error:  # the others are played all the same, by a new node
                trials.append(_stuck(fault, interface, str(error)))
                scene.stop()
        return trials


def _stuck(fault, interface: str, why: str) -> Trial:
    return Trial(fault.name, interface, STUCK, fault.outcome, None, None, None, None, why, False, ())


def trial(scene, fault, interface: str, after_s: float) -> Trial:
    """One fault on a moving arm. after_s: how long it has moved by then, so that control periods are hit anywhere."""
    from specprune_ros.bench.faults.cases import DISARMS, ENDS, HOLDS
    from specprune_ros.bench.faults.robot import START_M

    scene.robot.heal()
    if np.linalg.norm(scene.robot.position - START_M) > 0.2:
        scene.robot.place(START_M)
        scene.spin(1.5)
    scene.arm_and_move()
    scene.spin(after_s)
    begin, known = len(scene.judge.seen), len(scene.judge.violations)
    scene.safety.clear()
    scene.holds.clear()
    fault.begin(scene)
    began_s = time.monotonic()
    still_s = None
    while (now_s := time.monotonic()) - began_s < LONGEST_S:
        scene.spin(0.01)
        reasons = _reasons(scene)
        last = max((i for i in range(begin, len(scene.judge.seen)) if scene.judge.seen[i].moves), default=None)
        last_s = began_s if last is None else scene.judge.arrivals_s[last]
        if scene.robot.speed_mps > STILL_MPS:
            still_s = None
        elif still_s is None:
            still_s = now_s - began_s
        ended = scene.pid is None
        disarmed = scene.status is not None and scene.status.safety != SafetyState.ARMED.value
        told = fault.outcome == HOLDS and (any(fault.hint in text for text in reasons) or now_s - began_s > TOLD_S)
        if now_s - last_s > QUIET_S and (ended or disarmed or told):
            break
    next_index = begin if last is None else last + 1
    rest = scene.judge.arrivals_s[next_index] - began_s if next_index < len(scene.judge.seen) else None
    outcome = ENDS if scene.pid is None else DISARMS if disarmed else HOLDS
    if outcome != HOLDS:
        scene.judge.forbid(scene.node.get_clock().now().nanoseconds)
    healed_s = time.monotonic()
    scene.heal()
    resumes_s = None
    if outcome == HOLDS:
        resumes_s = scene.until_moving(3) - healed_s
    else:
        scene.spin(QUIET_S)  # nothing may move before it is armed again
    reason = next((text for text in reasons if fault.hint in text), reasons[0] if reasons else "")
    return Trial(
        fault=fault.name,
        interface=interface,
        outcome=outcome,
        expected=fault.outcome,
        last_command_s=last_s - began_s,
        rest_s=rest,
        still_s=still_s,
        resumes_s=resumes_s,
        reason=reason,
        named=fault.hint in reason,
        violations=tuple(scene.judge.violations[known:]),
    )


def _reasons(scene) -> list[str]:
    """What the node gave as reasons since the fault began, each once."""
    disarmed = (text.partition(": ")[2] for text in scene.safety if not text.startswith(SafetyState.ARMED.value))
    return list(dict.fromkeys([*disarmed, *scene.holds]))


def rows(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """One row per fault and interface, in the order of the faults."""
    found = []
    for name in names():
        for interface in dict.fromkeys(trial.interface for trial in trials):
            group = [trial for trial in trials if trial.fault == name and trial.interface == interface]
            if not group:
                continue
            found.append(
                {
                    "fault": name,
                    "interface": interface,
                    "repetitions": len(group),
                    "outcomes": {o: sum(t.outcome == o for t in group) for o in sorted({t.outcome for t in group})},
                    "last_command_ms": _spread([trial.last_command_s for trial in group]),
                    "rest_ms": _spread([trial.rest_s for trial in group]),
                    "still_ms": _spread([trial.still_s for trial in group]),
                    "resumes_ms": _spread([trial.resumes_s for trial in group]),
                    "out_of_limits": sum(len(trial.violations) for trial in group),
                    "named": sum(trial.named for trial in group),
                    "reason": group[0].reason,
                }
            )
    return found


def _spread(seconds: Sequence[float | None]) -> dict[str, float] | None:
    """Percentiles and max [ms] of those that came; None when none did."""
    known = [1e3 * value for value in seconds if value is not None]
    if not known:
        return None
    return {**percentiles_ms(known), "max": round(max(known), 1), "count": len(known)}


def table(result: Mapping[str, object]) -> Table:
    shown = Table(title="From the fault to rest [ms]", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("fault", "interface", "outcome"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("last motion p50", "p99", "max", "still p50", "max", "out of limits"):
        shown.add_column(heading, justify="right")
    for row in result["rows"]:
        last, still = row["last_command_ms"], row["still_ms"]
        shown.add_row(
            row["fault"],
            row["interface"],
            ", ".join(
                f"{name} {count}" if len(row["outcomes"]) > 1 else name for name, count in row["outcomes"].items()
            ),
            *(f"{last[part]:.0f}" if last else "-" for part in ("p50", "p99", "max")),
            *(f"{still[part]:.0f}" if still else "-" for part in ("p50", "max")),
            str(row["out_of_limits"]),
        )
    return shown
