"""Tables of `specprune evaluate` for tables.py."""

from __future__ import annotations

from collections.abc import Mapping

from documents import measured_on, table

from specprune_ros.eval.evaluate import comparisons, declaration, steps_to_success
from specprune_ros.eval.leaderboard import entries, on_front, shared_cores


def evaluation_table(result: Mapping) -> str:
    """Success of every mode, for each suite where there are several, and the comparisons with their verdicts."""
    suites = result.get("suites", {})
    parts = []
    for suite, part in suites.items() if len(suites) > 1 else ():
        parts += [f"Suite {suite}:", *_evaluated(part)]
    parts += [*(["All suites:"] if len(suites) > 1 else []), *_evaluated(result)]
    seeds = result["seeds"]
    about = f"Seeds {seeds[0]} to {seeds[-1]}, the same for all modes. {measured_on(result['machine'])}"
    return "\n\n".join([*parts, f"{declaration(result)} {about}"])


def _evaluated(result: Mapping) -> list[str]:
    rows = []
    for name, mode in result["modes"].items():
        low, high = mode["wilson95"]
        rows.append(
            (
                name,
                f"{mode['successes']} / {mode['episodes']}",
                f"{mode['success_rate']:.1%}",
                f"{low:.1%} .. {high:.1%}",
                steps_to_success(mode),
                f"{mode['tokens_kept_mean']:.0f} of {mode['tokens_total']}",
                f"{mode['latency_ms']:.1f}",
            )
        )
    headings = ("mode", "success", "rate", "95 % interval", "steps to success", "visual tokens kept")
    pairs = [f"- {line}" for line in comparisons(result["paired"])]
    differences = ["Paired differences (95 % interval):", "\n".join(pairs)] if pairs else []
    return [table((*headings, "latency p50 [ms]"), rows), *differences]


def leaderboard_table(result: Mapping) -> str:
    """One line a mode and level, the most successful first; what no other line beats is marked."""
    found = entries(result)
    suites = list(result["suites"])
    fronts = {
        id(row): on
        for row, on in zip(found, on_front([row.gflop for row in found], [row.success for row in found]), strict=True)
    }
    rows = [
        (
            row.name + (" *" if fronts[id(row)] else ""),
            *(f"{row.by_suite[suite]:.1%}" for suite in suites),
            f"{row.success:.1%}",
            "; ".join(word if key == "all" else f"{key} {word}" for key, word in row.verdicts.items()),
            "-" if row.steps is None else f"{row.steps:.1f}",
            f"{row.tokens:.0f}",
            f"{row.gflop:.2f}",
            f"{row.latency_ms:.1f}",
        )
        for row in sorted(found, key=lambda row: (-row.success, row.gflop))
    ]
    headings = ("mode", *suites, "mean", "against dense", "steps to success", "visual tokens kept", "GFLOP", "p50 [ms]")
    seeds = result["seeds"]
    about = f"Seeds {seeds[0]} to {seeds[-1]}, the same for all. {measured_on(result['machine'])}"
    return "\n\n".join(
        [
            table(headings, rows),
            f"\\* on the front: nothing succeeds as often with fewer GFLOP. {declaration(result)}",
            f"{shared_cores(result)} {about}",
        ]
    )
