"""Keeps the generated blocks of Markdown files up to date: `python tools/tables.py [--check] [FILE...]`.

A block is what lies between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; figures are never typed. Names:

    parameters              every parameter, from config.py
    evaluation, bench,      results of `specprune evaluate | bench --json` and the demo's demo.json, read from
    stages, demo            docs/results/{evaluation,bench,bench,demo}.json beside the document, or from the file
                            named in the marker: `<!-- begin: bench docs/results/other.json -->`
    control                 likewise of `specprune bench --control`
    bench-openvla-7b        likewise of `specprune bench --model openvla-7b`; 'not measured' while there is no such file
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
from specprune_ros.config import ConfigError, Parameter, parameters
from specprune_ros.eval.evaluate import difference
from specprune_ros.eval.stats import wilson
from specprune_ros.types import STAGES

BLOCK = re.compile(
    r"<!-- begin: (?P<name>[\w-]+)(?: (?P<file>\S+))? -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.DOTALL
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tools/tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[Path("README.md")], help="default: README.md")
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 when a block is out of date")
    args = parser.parse_args(argv)
    try:
        stale = [path for path in args.files if refresh(path, write=not args.check)]
    except (ConfigError, OSError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    for path in stale:
        print(f"{path}: {'out of date' if args.check else 'updated'}")
    return 1 if args.check and stale else 0


def refresh(path: Path, write: bool) -> bool:
    """Whether a document's blocks were out of date; with `write` they no longer are."""
    text = path.read_text()
    fresh = BLOCK.sub(lambda match: _block(match, path.parent), text)
    if write and fresh != text:
        path.write_text(fresh)
    return fresh != text


def _block(match: re.Match, folder: Path) -> str:
    name, file = match["name"], match["file"]
    marker = match[0].partition("\n")[0]
    return f"{marker}\n{_body(name, file, folder)}\n<!-- end: {name} -->"


def _body(name: str, file: str | None, folder: Path) -> str:
    if name == "parameters":
        return parameter_table()
    if name not in RESULTS:
        raise ConfigError(f"block {name!r} is not known; known: parameters, {', '.join(RESULTS)}")
    default, render = RESULTS[name]
    path = folder / (file or f"docs/results/{default}.json")
    if name in OPTIONAL and not path.exists():
        return OPTIONAL[name]
    try:
        return render(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a result for block {name!r} ({type(error).__name__}: {error})") from None


def parameter_table() -> str:
    rows = [
        (
            f"`{p.name}`",
            _default(p),
            p.range_text() or ", ".join(p.choices or ()),
            p.unit,
            "yes" if p.live else "",
            p.doc,
        )
        for p in parameters()
    ]
    return markdown(("parameter", "default", "range", "unit", "live", "what it does"), rows, right=())


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(f"`{item}`" for item in value)
    return f"`{value}`" if isinstance(value, str) and value else str(value)


def evaluation_table(result: Mapping) -> str:
    rows = []
    for name, mode in result["modes"].items():
        low, high = mode["wilson95"]
        rows.append(
            (
                name,
                f"{mode['successes']} / {mode['episodes']}",
                f"{mode['success_rate']:.1%}",
                f"{low:.1%} .. {high:.1%}",
                f"{mode['mean_steps']:.1f}",
                f"{mode['tokens_kept_mean']:.0f} of {mode['tokens_total']}",
                f"{mode['latency_ms']:.1f}",
            )
        )
    headings = ("mode", "picked", "rate", "95 % interval", "mean steps", "visual tokens kept", "latency p50 [ms]")
    pairs = [f"- {name.replace('_vs_', ' minus ')}: {difference(pair)}" for name, pair in result["paired"].items()]
    seeds = result["seeds"]
    about = f"Seeds {seeds[0]} to {seeds[-1]}, the same for all modes. {_machine(result['machine'])}"
    return "\n".join(
        [markdown(headings, rows), "", "Paired differences (95 % interval, exact McNemar p):", "", *pairs, "", about]
    )


def bench_table(result: Mapping) -> str:
    rows = [(row_label(row), *cells(row)) for row in result["rows"]]
    about = (
        f"Full against dense, both on {result['default_engine']}: **{result['speedup_full_vs_dense']:.2f}x**; against "
        f"the best dense ({result['best_dense']}): **{result['speedup_vs_best_dense']:.2f}x**; selection takes "
        f"{result['selection_share']:.1%} of the pruned time. Matrix products reach {result['gemm_gflops']:.0f} "
        f"GFLOP/s on this machine; the floor is the products of the kept tokens at that rate. "
        f"{_machine(result['machine'])}"
    )
    return "\n".join([markdown(("row", *COLUMNS), rows), "", about])


def stages_table(result: Mapping) -> str:
    rows = [(row_label(row), *stage_cells(row)) for row in result["rows"]]
    return markdown(("median [ms]", *STAGES), rows)


def bench_model_table(result: Mapping) -> str:
    """The 7B model: rows, the hardware limit, stages, targets, and what was skipped."""
    parts = []
    for title, headings, section_cells in SECTIONS:
        rows = [(label(row), *section_cells(row)) for row in measured_rows(result)]
        parts += [f"{title}:", markdown(("row", *headings), rows)]
    if result["targets"]:
        goals = [target_cells(target) for target in result["targets"]]
        parts.append(markdown((target_heading(result), "bound", "value", "verdict"), goals, right=(2,)))
    return "\n\n".join([*parts, *skipped_lines(result), about(result)])


def control_table(result: Mapping) -> str:
    rows = [
        (
            f"{row['rate_hz']:g} Hz",
            *(f"{row[name]:.2f}" for name in ("p50", "p99", "max")),
            f"{row['periods']:.0f}",
            f"{row['requests']:.0f}",
            f"{row['latency p50 [ms]']:.0f}",
        )
        for row in result["rows"]
    ]
    headings = ("control rate", "deviation p50 [ms]", "p99", "max", "periods", "inferences", "inference p50 [ms]")
    about = f"{result['minutes']:g} minutes each. {_machine(result['machine'])}"
    return "\n".join([markdown(headings, rows), "", about])


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
    return "\n".join([markdown(("", "over ROS 2"), rows), "", _machine(result["machine"])])


RESULTS: dict[str, tuple[str, Callable[[Mapping], str]]] = {
    "evaluation": ("evaluation", evaluation_table),
    "bench": ("bench", bench_table),
    "stages": ("bench", stages_table),
    "demo": ("demo", demo_table),
    "bench-openvla-7b": ("bench-openvla-7b", bench_model_table),
    "control": ("control", control_table),
}
"""Block name -> (results file, renderer)."""

OPTIONAL = {
    "bench-openvla-7b": "GPU figures of the 7B model are not measured. On a machine with a GPU: "
    "`specprune bench --model openvla-7b --json docs/results/bench-openvla-7b.json`."
}
"""Block name -> what it says while its results file does not exist."""


def _machine(facts: Mapping) -> str:
    precision = f", {facts['dtype']}" if "dtype" in facts else ""
    where = facts.get("gpu", f"{facts['cpu']}, {facts['cores']} cores")
    return f"Measured on {where}{precision}, torch {facts['torch']}."


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> str:
    """A Markdown table; columns in `right` are aligned right, by default all but the first."""
    aligned = range(1, len(headings)) if right is None else right
    rule = ["---:" if index in aligned else "---" for index in range(len(headings))]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *escaped))


if __name__ == "__main__":
    sys.exit(main())
