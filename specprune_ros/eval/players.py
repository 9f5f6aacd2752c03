"""Who plays the episodes: this process, or several that share the cores."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from specprune_ros.config import Config
from specprune_ros.eval.machine import usable_cores
from specprune_ros.eval.record import Job
from specprune_ros.eval.rollout import Episode, run_episode
from specprune_ros.eval.variants import variant


@dataclass(frozen=True)
class Player:
    """A loaded policy and environment that can play any job."""

    policy: object
    env: object
    config: Config
    latency_steps: int

    @classmethod
    def load(
        cls, config: Config, names: Iterable[str], latency_steps: int, axes: tuple[str, ...] = (), strength: int = 0
    ) -> Player:
        """axes, strength: of sim/perturb.py."""
        from specprune_ros.infer.load import load_policy
        from specprune_ros.sim.env import TabletopEnv
        from specprune_ros.sim.perturb import Perturbation
        from specprune_ros.sim.settings import check_steps

        check_steps(config)
        policy = load_policy(config)
        policy.levels_ahead = ()  # nobody changes the aggressiveness in the middle of an evaluation
        for name in names:
            policy.warm_up(variant(config, name))
            policy.settle()  # every episode on the same engine
        perturbation = Perturbation(axes, strength, known=policy.knows)
        env = TabletopEnv(policy.image_size, control_rate=config.control.rate, perturbation=perturbation)
        return cls(policy, env, config, latency_steps)

    def play(self, job: Job) -> tuple[str, Episode]:
        config = variant(self.config, job.mode)
        return job.mode, run_episode(self.env, self.policy, config, job.seed, self.latency_steps, job.suite)


def play(
    jobs: Iterable[Job],
    names: Sequence[str],
    config: Config,
    latency_steps: int,
    workers: int,
    perturbed: tuple[tuple[str, ...], int] = ((), 0),
) -> Iterator[tuple[str, Episode]]:
    """Play the jobs, and yield each mode and episode as soon as it is finished. perturbed: axes and strength.

    The next job is taken only when somebody is free for it, so that `jobs` may end a comparison that is decided."""
    jobs = iter(jobs)
    first = next(jobs, None)
    if first is None:
        return
    if workers == 1:
        player = Player.load(config, names, latency_steps, *perturbed)
        yield player.play(first)
        yield from map(player.play, jobs)
    else:
        threads = max(1, usable_cores() // workers)
        config = config if config.policy.threads else config.updated({"policy.threads": threads})
        yield from _play_in_processes(first, jobs, (config, names, latency_steps, *perturbed), workers)


def _play_in_processes(first: Job, jobs: Iterator[Job], player_args: tuple, workers: int):
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool
    from itertools import islice

    from specprune_ros.eval.pool import pool

    with pool(workers, _start_worker, *player_args) as players:
        try:
            running = {players.submit(_play_job, job) for job in (first, *islice(jobs, workers - 1))}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                running |= {players.submit(_play_job, job) for job in islice(jobs, len(finished))}
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
