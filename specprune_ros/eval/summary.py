"""What finished episodes come to: the documented keys of a results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from specprune_ros.eval import stats
from specprune_ros.eval.record import Job, Record
from specprune_ros.eval.rollout import Episode

Runs = Mapping[str, Mapping[tuple[str, int], Episode]]
"""mode -> (suite, seed) -> episode"""


def summary(
    record: Record, suites: Sequence[str], names: Sequence[str], seeds: Sequence[int], against_all: bool = True
) -> dict[str, object]:
    """The episodes finished so far: of all suites together, and of each.

    against_all: compare every two modes, else each with the first alone."""
    return {
        **_compared(finished(record, suites, names, seeds), against_all),
        "suites": {suite: _compared(finished(record, [suite], names, seeds), against_all) for suite in suites},
        "paired_method": stats.PAIRED_METHOD,
        "seeds": list(seeds),
        "complete": all(Job(*job) in record for job in every(suites, names, seeds)),
    }


def every(suites: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All modes on one seed of a suite, then on that of the next suite, then on the next seed: an interrupted run has
    complete pairs, and if the machine is busy for a while, all modes are slowed alike."""
    return [Job(suite, name, seed) for seed in seeds for suite in suites for name in names]


def finished(record: Record, suites: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> Runs:
    return {
        name: {
            (suite, seed): record[job]
            for suite in suites
            for seed in seeds
            if (job := Job(suite, name, seed)) in record
        }
        for name in names
    }


def _compared(runs: Runs, against_all: bool) -> dict[str, object]:
    modes = {name: mode_figures(list(episodes.values())) for name, episodes in runs.items() if episodes}
    return {"modes": modes, "paired": _comparisons(runs, against_all)}


def mode_figures(episodes: Sequence[Episode]) -> dict[str, object]:
    """Figures of the episodes of one mode. steps_to_success: percentiles of the successful ones, None without any."""
    successes = sum(episode.success for episode in episodes)
    latency = stats.percentiles_ms([value for episode in episodes for value in episode.latency_ms])
    modes = {mode for episode in episodes for mode in episode.modes}
    needed = [episode.steps for episode in episodes if episode.success]
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / len(episodes),
        "wilson95": list(stats.wilson(successes, len(episodes))),
        "mean_steps": stats.mean([episode.steps for episode in episodes]),
        "mean_steps_of_successes": stats.mean(needed) if needed else None,
        "steps_to_success": stats.percentiles(needed, (10, 50, 90)) if needed else None,
        "tokens_total": max(episode.tokens_total for episode in episodes),
        "tokens_kept_mean": stats.mean([kept for episode in episodes for kept in episode.tokens_kept]),
        "gflop_mean": stats.mean([value for episode in episodes for value in episode.gflop]),
        "latency_ms": latency["p50"],
        "latency_percentiles_ms": latency,
        "inferences": {mode: sum(episode.modes.get(mode, 0) for episode in episodes) for mode in sorted(modes)},
    }


def _comparisons(runs: Runs, against_all: bool) -> dict[str, object]:
    """Every later mode against every earlier one: difference = success of the later minus the earlier."""
    first = next(iter(runs))
    found = {}
    for earlier, later in combinations(runs, 2):
        shared = sorted(runs[earlier].keys() & runs[later].keys())
        if not shared or not (against_all or earlier == first):
            continue
        result = stats.paired(
            [runs[later][pair].success for pair in shared], [runs[earlier][pair].success for pair in shared]
        )
        found[f"{later}_vs_{earlier}"] = {
            "difference": result.difference,
            "ci95": list(result.ci95),
            "mcnemar_p": result.mcnemar_p,
            "pairs": len(shared),
            f"only_{later}": result.only_first,
            f"only_{earlier}": result.only_second,
        }
    return found
