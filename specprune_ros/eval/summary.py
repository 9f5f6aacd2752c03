"""What finished episodes come to: the documented keys of a results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from specprune_ros.eval import stats
from specprune_ros.eval.judge import Declared, Stopper, in_order, verdict
from specprune_ros.eval.levels import REFERENCE
from specprune_ros.eval.record import Job, Record
from specprune_ros.eval.rollout import Episode

Runs = Mapping[str, Mapping[tuple[str, int], Episode]]
"""mode -> (suite, seed) -> episode"""


def summary(
    record: Record, suites: Sequence[str], names: Sequence[str], declared: Declared, against_all: bool = True
) -> dict[str, object]:
    """The episodes finished so far: of all suites together, and of each.

    declared: what this run plays, and how it judges; against_all: compare every two modes, else each with the first
    alone. A comparison with the reference has a verdict; that of all suites together only by the fixed test, because
    the sequential one ends each suite at a time of its own."""
    seeds = range(declared.seed0, declared.seed0 + declared.episodes)
    as_declared = all(record.declared[key] == declared.to_json()[key] for key in ("episodes", "seed0"))

    def of(some: Sequence[str]) -> dict[str, object]:
        paired = _comparisons(finished(record, some, names, seeds), against_all)
        for name in names[1:] if names[0] == REFERENCE else ():
            pairs = [pair for suite in some for pair in in_order(record, suite, name, REFERENCE, seeds)]
            if pairs and (len(some) == 1 or not declared.sequential):
                planned = len(some) * len(seeds)
                paired[f"{name}_vs_{REFERENCE}"] |= verdict(pairs, planned, declared, as_declared)
        return {"modes": _modes(finished(record, some, names, seeds)), "paired": paired}

    jobs = every(suites, names, seeds)
    stopper = Stopper(record, names, REFERENCE, seeds, declared) if declared.sequential else None
    return {
        **of(suites),
        "suites": {suite: of([suite]) for suite in suites},
        "paired_method": stats.PAIRED_METHOD,
        "declared": dict(record.declared),
        "seeds": list(seeds),
        "complete": all(job in record or (stopper is not None and not stopper.wants(job)) for job in jobs),
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


def _modes(runs: Runs) -> dict[str, object]:
    return {name: mode_figures(list(episodes.values())) for name, episodes in runs.items() if episodes}


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
