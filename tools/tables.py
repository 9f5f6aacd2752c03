"""Keeps the generated blocks of Markdown files up to date: `python tools/tables.py [--check] [FILE...]`.

Without files it looks at every document of the repository. A block is what lies between `<!-- begin: NAME -->` and
`<!-- end: NAME -->`; figures and lists of options are never typed. Names:

    evaluation, bench,        results of `specprune evaluate`, `bench` and `demo` with --json, read from
    stages, demo, control,    docs/results/NAME.json (stages: bench.json), or from the file that the marker names,
    faults, bench-openvla-7b  relative to the document: `<!-- begin: bench results/other.json -->`
    leaderboard               modes, levels and suites of `specprune evaluate --leaderboard`, from leaderboard.json
    headline                  the shortest summary of evaluation and bench, for the README
    parameters                every parameter of the policy node, from config.py
    simulator                 those of the simulator node
    subcommands, command      the `specprune` commands; the options of one: `<!-- begin: command bench -->`
    make                      the targets of the Makefile
    launch                    the arguments of one launch file: `<!-- begin: launch franka -->`
    interfaces                messages and services
    folders                   the parts of the package and what they may import
    budgets, layers           token counts by aggressiveness and mode; the layers at which tokens leave
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also where PYTHONSAFEPATH is set

import documents
import reference_tables as reference
from documents import ROOT, Place, Render, measured_on, table
from evaluation_tables import evaluation_table, leaderboard_table

from specprune_ros.bench.latency_report import COLUMNS, cells, row_label, stage_cells
from specprune_ros.bench.model_report import (
    SECTIONS,
    about,
    label,
    measured_rows,
    skipped_lines,
    target_cells,
    target_heading,
)
from specprune_ros.config import ConfigError
from specprune_ros.eval.stats import wilson
from specprune_ros.types import STAGES


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tools/tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: every document of the repository")
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 when a block is out of date")
    args = parser.parse_args(argv)
    try:
        stale = [path for path in args.files or documents.documents() if refresh(path, write=not args.check)]
    except (ConfigError, OSError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    for path in stale:
        shown = path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path
        print(f"{shown}: {'out of date' if args.check else 'updated'}")
    return 1 if args.check and stale else 0


def refresh(path: Path, write: bool) -> bool:
    """Whether a document's blocks were out of date; with `write` they no longer are."""
    return documents.refresh(path, BLOCKS, write)


def results(name: str, render: Callable[[Mapping], str], missing: str = "") -> Render:
    """A block of a results file. missing: what it says while there is no such file; empty: that is an error."""

    def body(place: Place) -> str:
        path = place.results(name)
        if missing and not path.exists():
            return missing
        try:
            return render(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{path}: not a result for the block of {name} ({problem})") from None

    return body


def headline(place: Place) -> str:
    """Dense beside the whole method: success in closed loop, visual tokens, latency."""
    evaluated, timed = (json.loads(place.results(name).read_text(encoding="utf-8")) for name in ("evaluation", "bench"))
    rows = []
    engine = timed["default_engine"]
    for name, timed_label in (("dense", f"{engine} dense"), ("full", f"{engine} full 0.5 measured")):
        mode = evaluated["modes"][name]
        low, high = mode["wilson95"]
        timing = next(row for row in timed["rows"] if row_label(row) == timed_label)
        rows.append(
            (
                name,
                f"{mode['successes']} / {mode['episodes']} ({low:.1%} .. {high:.1%})",
                f"{timing['tokens_kept']:.0f} of {mode['tokens_total']}",
                f"{timing['p50_ms']:.1f} / {timing['p99_ms']:.1f}",
                f"{timing['speedup_vs_dense']:.2f}x",
            )
        )
    headings = ("mode", "picked (95 % interval)", "visual tokens kept", "p50 / p99 [ms]", "speed-up")
    return "\n".join([table(headings, rows), "", measured_on(timed["machine"])])


def bench_table(result: Mapping) -> str:
    rows = [(row_label(row), *cells(row)) for row in result["rows"]]
    about = (
        f"Full against dense, both on {result['default_engine']}: **{result['speedup_full_vs_dense']:.2f}x**; against "
        f"the best dense ({result['best_dense']}): **{result['speedup_vs_best_dense']:.2f}x**; selection takes "
        f"{result['selection_share']:.1%} of the pruned time. Matrix products reach {result['gemm_gflops']:.0f} "
        f"GFLOP/s on this machine; the floor is the products of the kept tokens at that rate. "
        f"{measured_on(result['machine'])}"
    )
    return "\n".join([table(("row", *COLUMNS), rows), "", about])


def stages_table(result: Mapping) -> str:
    rows = [(row_label(row), *stage_cells(row)) for row in result["rows"]]
    return table(("median [ms]", *STAGES), rows)


def bench_model_table(result: Mapping) -> str:
    """The 7B model: rows, the hardware limit, stages, targets, and what was skipped."""
    parts = []
    for title, headings, section_cells in SECTIONS:
        rows = [(label(row), *section_cells(row)) for row in measured_rows(result)]
        parts += [f"{title}:", table(("row", *headings), rows)]
    if result["targets"]:
        goals = [target_cells(target) for target in result["targets"]]
        parts.append(table((target_heading(result), "bound", "value", "verdict"), goals, right=(2,)))
    return "\n\n".join([*parts, *skipped_lines(result), about(result)])


def control_table(result: Mapping) -> str:
    rows = [
        (
            f"{row['rate_hz']:g} Hz",
            str(row.get("busy_loops", 0)),
            *(f"{row[name]:.2f}" for name in ("p50", "p99", "max")),
            str(row.get("gaps", "not counted")),
            f"{row['periods']:.0f}",
            f"{row['requests']:.0f}",
            f"{row['latency p50 [ms]']:.0f}",
        )
        for row in result["rows"]
    ]
    headings = (
        "control rate",
        "busy loops",
        "deviation p50 [ms]",
        "p99",
        "max",
        "gaps > 3 periods",
        "periods",
        "inferences",
        "inference p50 [ms]",
    )
    about = f"{result['minutes']:g} minutes each. {measured_on(result['machine'])}"
    return "\n".join([table(headings, rows), "", about])


def demo_table(result: Mapping) -> str:
    latency, tokens = result["latency_ms"], result["tokens"]
    low, high = wilson(result["successes"], result["episodes"])
    rows = [
        ("episodes picked", f"{result['successes']} of {result['episodes']} (95 % interval {low:.0%} .. {high:.0%})"),
        ("control rate", f"{result['control_rate_hz']:.2f} Hz"),
        ("deadlines missed", str(result["deadline_misses"])),
        ("inference p50 / p95 / p99", " / ".join(f"{latency[p]:.0f}" for p in ("p50", "p95", "p99")) + " ms"),
        ("visual tokens kept", f"{tokens['kept_mean']:.0f} of {tokens['total']}"),
    ]
    return "\n".join([table(("", "over ROS 2"), rows), "", measured_on(result["machine"])])


def faults_table(result: Mapping) -> str:
    """One line a fault: what became of the node, and for every command interface how long moving commands came."""
    rows = result["rows"]
    interfaces = sorted({row["interface"] for row in rows})  # rounds end in any order
    lines = []
    for name in dict.fromkeys(row["fault"] for row in rows):
        group = {row["interface"]: row for row in rows if row["fault"] == name}
        outcomes = dict.fromkeys(outcome for row in group.values() for outcome in row["outcomes"])
        lines.append(
            (
                name,
                " or ".join(outcomes),
                *(
                    _spread(group[interface]["last_command_ms"]) if interface in group else ""
                    for interface in interfaces
                ),
                _longest(group.values(), "rest_ms"),
                _longest(group.values(), "still_ms"),
                _longest(group.values(), "resumes_ms"),
                str(sum(row["out_of_limits"] for row in group.values())),
            )
        )
    lasts = (f"last motion, {interface} [ms]" for interface in interfaces)
    headings = ("fault", "the node", *lasts, "rest, max", "still, max", "moves again, max", "out of limits")
    repetitions = [row["repetitions"] for row in rows]
    about = (
        f"Repetitions of each: {min(repetitions)} or more, {sum(repetitions)} in all; p50 / p99 / max, from the "
        f"beginning of the fault. {measured_on(result['machine'])}"
    )
    return "\n".join([table(headings, lines), "", about])


def inputs_table(result: Mapping) -> str:
    rows = [
        (
            row["inputs"],
            str(row["periods"]),
            str(row["holds"]),
            str(row["gaps"]),
            *(f"{row[name]:.2f}" for name in ("p99", "max")),
            ", ".join(f"{rate:g}" for rate in row["images_hz"] if rate is not None),
            "" if row["poses_hz"] is None else f"{row['poses_hz']:g}",
            f"{row['share_of_a_core']:.0%}",
        )
        for row in result["rows"]
    ]
    headings = ("inputs", "periods", "holds", "gaps > 3 periods", "deviation p99 [ms]", "max")
    headings += ("images of each view [Hz]", "poses [Hz]", "the node's share of a core")
    about = f"{result['minutes']:g} minutes each, control at 20 Hz. {measured_on(result['machine'])}"
    return "\n".join([table(headings, rows), "", about])


def seam_table(result: Mapping) -> str:
    """One line for each policy and size of frames: in the process, in a thread, and what the process adds."""
    lines = []
    for process, thread in zip(result["rows"][::2], result["rows"][1::2], strict=True):
        times = [f"{way[part]:.2f}" for way in (process, thread) for part in ("p50", "p99")]
        frames = f"4 x {process['height']} x {process['width']}"
        added = f"{process['p50'] - thread['p50']:+.2f}"
        lines.append((process["policy"], frames, str(process["rounds"]), *times, added))
    headings = ("policy", "frames", "rounds", "process p50 [ms]", "p99", "thread p50 [ms]", "p99", "added, p50")
    return "\n".join([table(headings, lines), "", measured_on(result["machine"])])


def _spread(times: Mapping | None) -> str:
    return " / ".join(f"{times[part]:.0f}" for part in ("p50", "p99", "max")) if times else ""


def _longest(rows, name: str) -> str:
    known = [row[name]["max"] for row in rows if row[name]]
    return f"{max(known):.0f}" if known else ""


NOT_MEASURED = "Not measured yet."

NO_7B = (
    "GPU figures of the 7B model are not measured. On a machine with a GPU: "
    "`specprune bench --model openvla-7b --json docs/results/bench-openvla-7b.json`."
)

BLOCKS: dict[str, Render] = {
    "evaluation": results("evaluation", evaluation_table),
    "leaderboard": results("leaderboard", leaderboard_table, missing=NOT_MEASURED),
    "bench": results("bench", bench_table),
    "stages": results("bench", stages_table),
    "demo": results("demo", demo_table),
    "control": results("control", control_table),
    "faults": results("faults", faults_table, missing=NOT_MEASURED),
    "inputs": results("inputs", inputs_table, missing=NOT_MEASURED),
    "seam": results("seam", seam_table, missing=NOT_MEASURED),
    "bench-openvla-7b": results("bench-openvla-7b", bench_model_table, missing=NO_7B),
    "headline": headline,
    "parameters": reference.parameter_table,
    "simulator": reference.simulator_table,
    "subcommands": reference.subcommand_table,
    "command": reference.command_table,
    "make": reference.make_table,
    "launch": reference.launch_table,
    "interfaces": reference.interface_tables,
    "folders": reference.folder_table,
    "budgets": reference.budget_table,
    "layers": reference.layer_table,
}
"""Block name -> what makes its body."""


if __name__ == "__main__":
    sys.exit(main())
