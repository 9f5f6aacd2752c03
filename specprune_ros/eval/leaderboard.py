"""Modes at several levels over several suites, on the same seeds: the rows of a table and of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specprune_ros.eval import stats
from specprune_ros.eval.levels import REFERENCE

LEVELS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Entry:
    """One mode at one level. success: mean of the suites' success rates, which weigh the same; verdicts: by suite, or
    under "all" for all together; steps: mean number of control periods to a success, None without any."""

    name: str
    success: float
    by_suite: Mapping[str, float]
    steps: float | None
    tokens: float
    gflop: float
    latency_ms: float
    verdicts: Mapping[str, str]

    @property
    def mode(self) -> str:
        return self.name.partition("@")[0]

    @property
    def level(self) -> str:
        return self.name.partition("@")[2]


def entries(result: Mapping) -> list[Entry]:
    """The rows of a results file of `specprune evaluate`; only modes that every suite has episodes of."""
    suites = result["suites"]
    found = []
    for name, pooled in result["modes"].items():
        if not all(name in suite["modes"] for suite in suites.values()):
            continue
        rates = {key: suite["modes"][name]["success_rate"] for key, suite in suites.items()}
        found.append(
            Entry(
                name,
                stats.mean(list(rates.values())),
                rates,
                pooled["mean_steps_of_successes"],
                pooled["tokens_kept_mean"],
                pooled["gflop_mean"],
                pooled["latency_ms"],
                _verdicts(result, name),
            )
        )
    return found


def on_front(costs: Sequence[float], successes: Sequence[float]) -> list[bool]:
    """Whether no other entry costs less and succeeds as often, or succeeds more often at the same cost or less."""
    points = list(zip(costs, successes, strict=True))
    return [
        not any((x <= cost and y >= success) and (x, y) != (cost, success) for x, y in points)
        for cost, success in points
    ]


def shared_cores(result: Mapping) -> str:
    """What a latency of this run is worth, in words."""
    workers = result["workers"]
    shared = f"{workers} processes that shared the cores" if workers > 1 else "one process"
    return (
        f"Latencies are medians of the inferences of this run, played by {shared}, beside the simulator: they compare "
        "modes of this table and nothing else. Kept tokens and GFLOP (model/flops.py) do not depend on the machine."
    )


def _verdicts(result: Mapping, name: str) -> dict[str, str]:
    key = f"{name}_vs_{REFERENCE}"
    pooled = result["paired"].get(key, {})
    if "verdict" in pooled:
        return {"all": pooled["verdict"]}
    found = {suite: part["paired"].get(key, {}).get("verdict") for suite, part in result["suites"].items()}
    return {suite: word for suite, word in found.items() if word}
