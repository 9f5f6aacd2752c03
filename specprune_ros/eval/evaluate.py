"""`specprune evaluate`: success of several pruning modes on the same seeds, with intervals and paired differences."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table

from specprune_ros.config import Config, ConfigError
from specprune_ros.eval import stats
from specprune_ros.eval.machine import machine, usable_cores
from specprune_ros.eval.progress import progress
from specprune_ros.eval.results import changed_parameters, weights_digest, write_json
from specprune_ros.eval.rollout import Episode, run_episode
from specprune_ros.eval.variants import variant

Job = tuple[str, int]
"""(mode, seed)"""


def run(config: Config, names: Sequence[str], args: argparse.Namespace) -> int:
    """Play the episodes that are missing, print the table and write the results. names: as `parse_names` gives them."""
    seeds = list(range(args.seed0, args.seed0 + args.episodes))
    settings = {
        "latency_steps": args.latency_steps,
        "parameters": changed_parameters(config),
        "weights": weights_digest(config),
    }
    record = Record.open(args.json, settings, args.restart)
    jobs = [job for job in interleaved(names, seeds) if job not in record]
    console = Console()
    interrupted = False
    try:
        with progress("episodes", len(jobs), console) as reporter:
            for name, episode in play(jobs, config, args.latency_steps, args.workers):
                record.add(name, episode)
                record.write(summary(record, names, seeds), args.workers)
                reporter.advance(f"{name} seed {episode.seed}: {'picked' if episode.success else 'missed'}")
    except KeyboardInterrupt:
        interrupted = True
    result = summary(record, names, seeds)
    record.write(result, args.workers)
    console.print(table(result))
    if interrupted and args.json:
        console.print(f"Interrupted. {args.json} holds the finished episodes; the same command continues.")
    return 130 if interrupted else 0


def interleaved(names: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All modes on one seed, then all on the next: an interrupted run has complete pairs, and if the machine is busy
    for a while, all modes are slowed alike."""
    return [(name, seed) for seed in seeds for name in names]


class Record:
    """Finished episodes by mode and seed, kept in the results file from the first one on."""

    def __init__(self, path: Path | None, settings: Mapping[str, object]):
        self._path = path
        self._settings = settings
        self.episodes: dict[str, dict[int, Episode]] = {}

    @classmethod
    def open(cls, path: Path | None, settings: Mapping[str, object], restart: bool) -> Record:
        """A record that continues `path` where it exists; ConfigError if that was run under other settings."""
        record = cls(path, settings)
        if path is None or restart or not path.exists():
            return record
        try:
            document = json.loads(path.read_text())
            before, episodes = document["settings"], document["episodes"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: not a result of specprune evaluate; give another --json file") from None
        if before != json.loads(json.dumps(settings)):
            raise ConfigError(
                f"{path} holds episodes run with {before}, asked for now: {settings}; "
                "give another --json file or --restart"
            )
        for name, items in episodes.items():
            for item in items:
                record.add(name, Episode.from_json(item))
        return record

    def __contains__(self, job: Job) -> bool:
        return job[1] in self.episodes.get(job[0], {})

    def add(self, name: str, episode: Episode) -> None:
        self.episodes.setdefault(name, {})[episode.seed] = episode

    def write(self, result: Mapping[str, object], workers: int) -> None:
        """Write the file: the results, then the settings and episodes that they were computed from."""
        if self._path is None:
            return
        episodes = {
            name: [by_seed[seed].to_json() for seed in sorted(by_seed)]
            for name, by_seed in self.episodes.items()
            if by_seed
        }
        more = {"settings": self._settings, "workers": workers, "machine": machine(), "episodes": episodes}
        write_json(self._path, {**result, **more})


def summary(record: Record, names: Sequence[str], seeds: Sequence[int]) -> dict[str, object]:
    """The documented result keys, over the episodes finished so far."""
    finished = {name: {s: record.episodes[name][s] for s in seeds if (name, s) in record} for name in names}
    return {
        "modes": {name: _mode(list(by_seed.values())) for name, by_seed in finished.items() if by_seed},
        "paired": _comparisons(finished),
        "paired_method": stats.PAIRED_METHOD,
        "seeds": list(seeds),
        "complete": all(len(by_seed) == len(seeds) for by_seed in finished.values()),
    }


def _mode(episodes: Sequence[Episode]) -> dict[str, object]:
    successes = sum(episode.success for episode in episodes)
    latency = stats.percentiles_ms([value for episode in episodes for value in episode.latency_ms])
    modes = {mode for episode in episodes for mode in episode.modes}
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / len(episodes),
        "wilson95": list(stats.wilson(successes, len(episodes))),
        "mean_steps": stats.mean([episode.steps for episode in episodes]),
        "mean_steps_of_successes": stats.mean([episode.steps for episode in episodes if episode.success]),
        "tokens_total": max(episode.tokens_total for episode in episodes),
        "tokens_kept_mean": stats.mean([kept for episode in episodes for kept in episode.tokens_kept]),
        "latency_ms": latency["p50"],
        "latency_percentiles_ms": latency,
        "inferences": {mode: sum(episode.modes.get(mode, 0) for episode in episodes) for mode in sorted(modes)},
    }


def _comparisons(finished: Mapping[str, Mapping[int, Episode]]) -> dict[str, object]:
    """Every later mode against every earlier one: difference = success of the later minus the earlier."""
    found = {}
    for earlier, later in combinations(finished, 2):
        shared = sorted(finished[earlier].keys() & finished[later].keys())
        if not shared:
            continue
        result = stats.paired(
            [finished[later][seed].success for seed in shared], [finished[earlier][seed].success for seed in shared]
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


def table(result: Mapping[str, object]) -> Group:
    view = Table(box=SIMPLE_HEAD)
    view.add_column("mode", no_wrap=True)
    for heading in ("picked", "rate %", "95 % interval", "steps", "tokens", "p50 ms"):
        view.add_column(heading, justify="right", no_wrap=True)
    for name, mode in result["modes"].items():
        low, high = mode["wilson95"]
        view.add_row(
            name,
            f"{mode['successes']}/{mode['episodes']}",
            f"{100 * mode['success_rate']:.1f}",
            f"{100 * low:.1f} .. {100 * high:.1f}",
            f"{mode['mean_steps']:.1f}",
            f"{mode['tokens_kept_mean']:.0f}",
            f"{mode['latency_ms']:.1f}",
        )
    return Group(view, *(f"{name.replace('_vs_', ' - ')}: {difference(p)}" for name, p in result["paired"].items()))


def difference(pair: Mapping[str, object]) -> str:
    """A paired comparison in words: '+1.0 points [-1.2, +3.4], p = 0.62'."""
    low, high = pair["ci95"]
    return f"{100 * pair['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], p = {pair['mcnemar_p']:.2g}"


@dataclass(frozen=True)
class Player:
    """A loaded policy and environment that can play any job."""

    policy: object
    env: object
    config: Config
    latency_steps: int

    @classmethod
    def load(cls, config: Config, names: Iterable[str], latency_steps: int) -> Player:
        from specprune_ros.infer.load import load_policy
        from specprune_ros.sim.env import TabletopEnv
        from specprune_ros.sim.settings import check_steps

        check_steps(config)
        policy = load_policy(config)
        policy.levels_ahead = ()  # nobody changes the aggressiveness in the middle of an evaluation
        for name in names:
            policy.warm_up(variant(config, name))
            policy.settle()  # every episode on the same engine
        env = TabletopEnv(image_size=policy.image_size, control_rate=config.control.rate)
        return cls(policy, env, config, latency_steps)

    def play(self, job: Job) -> tuple[str, Episode]:
        name, seed = job
        return name, run_episode(self.env, self.policy, variant(self.config, name), seed, self.latency_steps)


def play(jobs: Sequence[Job], config: Config, latency_steps: int, workers: int) -> Iterator[tuple[str, Episode]]:
    """Play the jobs, and yield each mode and episode as soon as it is finished."""
    if not jobs:
        return
    names = sorted({name for name, _ in jobs})
    if workers == 1:
        yield from map(Player.load(config, names, latency_steps).play, jobs)
    else:
        threads = max(1, usable_cores() // workers)
        config = config if config.policy.threads else config.updated({"policy.threads": threads})
        yield from _play_in_processes(jobs, (config, names, latency_steps), min(workers, len(jobs)))


def _play_in_processes(jobs: Sequence[Job], player_args: tuple, workers: int) -> Iterator[tuple[str, Episode]]:
    from concurrent.futures import as_completed
    from concurrent.futures.process import BrokenProcessPool

    from specprune_ros.eval.pool import pool

    with pool(workers, _start_worker, *player_args) as players:
        try:
            for future in as_completed([players.submit(_play_job, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise ChildProcessError(
                "a worker process died (out of memory?); finished episodes are kept: run again with fewer --workers"
            ) from None
        finally:
            players.shutdown(cancel_futures=True)


_player_args: tuple = ()
_player: Player | None = None


def _start_worker(*player_args) -> None:
    global _player_args
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C the parent stops; a worker only finishes its episode
    _player_args = player_args


def _play_job(job: Job) -> tuple[str, Episode]:
    global _player
    if _player is None:  # loaded here and not at the start of the worker, so that its error reaches the parent
        _player = Player.load(*_player_args)
    return _player.play(job)
