"""Record the expert under noise. The label of a row is a whole chunk: what the expert would do in the next HORIZON
periods if nothing disturbed it, found by branching the simulation. It never contains a noise nobody can foresee.

`demos.py` says what a file holds. A lot says which episodes there should be; what is there already is kept, and only
what is missing is recorded, so an interrupted recording continues and a larger one extends it.

Simulating takes most of the time and needs a CPU; pictures need an OpenGL driver and take many bytes. So they may be
made later and elsewhere: a file of motions holds what was simulated, and pictures are developed from it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

import cv2
import numpy as np

from specprune_ros.eval.pool import pool
from specprune_ros.learn.demos import (
    EVALUATION_SEEDS,
    EVERY,
    HORIZON,
    KIND_NAMES,
    MOTIONS,
    NONE,
    THINGS,
    TRAINING_SEED0,
    recorded,
)
from specprune_ros.learn.noise import PushNoise
from specprune_ros.sim.env import CAMERAS, COLOURS, TabletopEnv
from specprune_ros.sim.expert import expert_action, focus, waypoint

EXTRA_STEPS = 6  # recorded after success, so that keeping still afterwards is shown too
PILOT_STEPS = 6  # of a chunk, before the next one is asked for
NOISE_SHARE = 0.55  # of the longest episode; then there is no noise any more

ONCE = ("kind", "colour", "success", "instruction")  # what an episode has once

_env: TabletopEnv | None = None  # one per worker process


@dataclass(frozen=True)
class Lot:
    """Episodes of a suite, of the seeds from seed0 on.

    max_steps cuts every episode short: many approaches from afar instead of few whole episodes. scattered: see
    ``TabletopEnv.reset``. pilot names a checkpoint folder whose policy flies instead of the noisy expert, who still
    labels every row: the states in which an imitator ends up (DAgger).
    """

    suite: str
    episodes: int
    seed0: int = TRAINING_SEED0
    max_steps: int | None = None
    scattered: bool = False
    pilot: str | None = None

    @property
    def per_file(self) -> int:
        return 10 if self.max_steps is None or self.pilot else 40


@dataclass(frozen=True)
class _Task:
    """A file of demonstrations to make, of the episodes of some seeds of a lot, or from a file of their motions."""

    path: Path
    lot: Lot
    seeds: range
    motions: Path | None = None
    pictures: bool = True


def record(
    out_dir, lots: Sequence[Lot], workers: int = 2, limit_s: float | None = None, pictures: bool = True
) -> list[Path]:
    """Record what the lots name and is not there; return the paths of the new files.

    Lots take turns, so that what is there is balanced whenever it ends. limit_s: no new file is begun after so many
    seconds. pictures: False leaves them to a later call, which begins with them. ValueError for seeds that are kept
    for evaluation.
    """
    for lot in lots:
        if lot.episodes and lot.seed0 in EVALUATION_SEEDS:
            raise ValueError(
                f"seed0 {lot.seed0} is among the evaluation seeds 0..{EVALUATION_SEEDS[-1]}; "
                f"start at {TRAINING_SEED0} or above"
            )
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    turns = zip_longest(*(missing(out, lot, pictures) for lot in lots))
    tasks = [task for turn in turns for task in turn if task]
    if pictures:
        tasks = undeveloped(out) + tasks
    if not tasks:
        return []
    progress = _Progress(sum(len(task.seeds) for task in tasks), limit_s)
    made, pending = [], set()
    with pool(min(workers, len(tasks))) as recorders:
        queue = iter(tasks)
        while True:
            while len(pending) < workers and not progress.late() and (task := next(queue, None)):
                pending.add(recorders.submit(_record_file, task))
            if not pending:
                return made
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                path, *numbers = future.result()
                made.append(path)
                progress.file(path, *numbers)


def missing(out: Path, lot: Lot, pictures: bool = True) -> list[_Task]:
    """The files that are still to be recorded for a lot: its seeds that no file holds, in runs."""
    files = [*recorded(out), *recorded(out, MOTIONS)]
    there = {seed for _, suite, seeds in files if suite == lot.suite for seed in seeds}
    wanted = [seed for seed in range(lot.seed0, lot.seed0 + lot.episodes) if seed not in there]
    runs = [[s for _, s in run] for _, run in groupby(enumerate(wanted), lambda pair: pair[1] - pair[0])]
    kind = "demos" if pictures else MOTIONS
    return [
        _Task(
            out / f"{kind}_{lot.suite}_{part[0]}_{len(part)}.npz", lot, range(part[0], part[-1] + 1), pictures=pictures
        )
        for run in runs
        for part in (run[i : i + lot.per_file] for i in range(0, len(run), lot.per_file))
    ]


def undeveloped(out: Path) -> list[_Task]:
    """The files of demonstrations that are still to be made from files of motions; suites take turns."""
    tasks: dict[str, list[_Task]] = {}
    for path, suite, seeds in recorded(out, MOTIONS):
        demos = path.with_name(path.name.replace(MOTIONS, "demos", 1))
        if not demos.exists():
            task = _Task(demos, Lot(suite, len(seeds), seeds[0]), seeds, motions=path)
            tasks.setdefault(suite, []).append(task)
    return [task for turn in zip_longest(*tasks.values()) for task in turn if task]


def record_episode(env: TabletopEnv, lot: Lot, seed: int) -> dict:
    """What happens in one demonstration, as arrays with a leading row axis, and what the file has once an episode. No
    pictures: `develop` makes them from `configuration`."""
    instruction = env.reset(seed, lot.scattered, lot.suite)
    last_noisy = round(NOISE_SHARE * env.max_steps)
    fly = _pilot(lot.pilot, env, instruction) if lot.pilot else PushNoise(np.random.default_rng([seed, 1]), last_noisy)
    rows, after_success = [], 0
    state = env.state()
    for step in range(lot.max_steps or env.max_steps):
        label = expert_action(state)
        executed = fly(label) if not after_success else label
        if step % EVERY == 0:
            rows.append(_row(env, state, executed))
        state = env.step(executed)
        after_success += env.success() or after_success > 0
        if after_success > EXTRA_STEPS:
            break
    episode = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return {**episode, **_looks(state), "success": bool(after_success), "instruction": instruction}


def develop(env: TabletopEnv, suite: str, seed: int, configurations: np.ndarray, pressed: np.ndarray) -> dict:
    """What the cameras see in the rows of an episode: `jpegs`, a list of bytes, third-person and wrist image in turn,
    and `seen`, as in the file. configurations (n, q) float32, pressed (n,) bool: of the rows."""
    env.reset(seed, suite=suite)  # looks and light of the episode
    jpegs, seen = [], []
    for configuration, lit in zip(configurations, pressed, strict=True):
        env.show(configuration, bool(lit))
        jpegs += [_jpeg(env.render(camera)) for camera in CAMERAS]
        seen.append(np.stack([_seen(env.render_cover(camera)) for camera in CAMERAS]))
    return {"jpegs": jpegs, "seen": np.stack(seen)}


def _record_file(task: _Task) -> tuple[Path, int, int, int]:
    """Record one file; (path, episodes, rows, successes)."""
    global _env
    _env = _env or TabletopEnv()
    if task.motions:
        with np.load(task.motions) as data:
            arrays = {key: data[key] for key in data.files}
    else:
        arrays = _simulated(task)
    if task.pictures:
        arrays |= _developed(arrays)
        del arrays["configuration"]
    temporary = task.path.with_suffix(".part")
    with open(temporary, "wb") as file:
        (np.savez if task.pictures else np.savez_compressed)(file, **arrays)  # pictures are compressed already
    temporary.rename(task.path)
    return task.path, len(task.seeds), len(arrays["proprio"]), int(arrays["success"].sum())


def _simulated(task: _Task) -> dict[str, np.ndarray]:
    """The episodes of a task as the arrays of a file of motions."""
    episodes = [record_episode(_env, task.lot, seed) for seed in task.seeds]
    once = {key: np.array([episode.pop(key) for episode in episodes]) for key in ONCE}
    return {
        **{key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]},
        **once,
        "episode_ends": np.cumsum([len(episode["proprio"]) for episode in episodes]),
        "seeds": np.array(task.seeds),
        "suite": np.array([task.lot.suite] * len(episodes)),
    }


def _developed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The pictures of what `_simulated` gives, as the arrays of a file of demonstrations."""
    jpegs, seen, start = [], [], 0
    for seed, suite, end in zip(arrays["seeds"], arrays["suite"], arrays["episode_ends"], strict=True):
        rows = slice(start, end)
        shown = develop(_env, str(suite), int(seed), arrays["configuration"][rows], arrays["pressed"][rows])
        jpegs += shown["jpegs"]
        seen.append(shown["seen"])
        start = end
    return {
        "jpeg": np.frombuffer(b"".join(jpegs), np.uint8),
        "jpeg_ends": np.cumsum([len(image) for image in jpegs]).reshape(-1, 2),
        "seen": np.concatenate(seen),
    }


class _Progress:
    """How far a recording is, one line a file."""

    def __init__(self, episodes: int, limit_s: float | None):
        self._episodes, self._limit_s = episodes, limit_s
        self._began, self._done = time.monotonic(), 0

    def late(self) -> bool:
        """Whether no new file should be begun."""
        return self._limit_s is not None and time.monotonic() - self._began > self._limit_s

    def file(self, path: Path, count: int, steps: int, successes: int) -> None:
        self._done += count
        took_s = time.monotonic() - self._began
        left_min = (self._episodes - self._done) * took_s / self._done / 60
        print(
            f"{path.name}: {steps} rows, {successes} of {count} reach the goal; "
            f"{self._done}/{self._episodes} episodes, {left_min:.0f} min left",
            flush=True,
        )


def _pilot(folder: str, env: TabletopEnv, instruction: str):
    """What the policy of a checkpoint folder would execute, step by step; the label is not looked at."""
    policy, config = _policy(folder)
    from specprune_ros.types import InferenceRequest, Mode, Observation

    queue: list[np.ndarray] = []

    def fly(_label) -> np.ndarray:
        if not queue:
            images = tuple(env.render(camera).copy() for camera in CAMERAS)
            observation = Observation(0, images, env.proprio(), instruction, None)
            request = InferenceRequest(0, observation, None, 0, Mode.FINE, None, config.pruning)
            queue.extend(policy.infer(request).chunk.actions[:PILOT_STEPS])
        return queue.pop(0)

    return fly


@functools.cache
def _policy(folder: str):
    """The dense policy of a checkpoint folder and its configuration; torch is loaded only here."""
    from specprune_ros.config import Config
    from specprune_ros.infer.load import load_policy

    settings = {"policy.checkpoint": folder, "policy.threads": 1, "policy.device": "cpu", "pruning.aggressiveness": 0.0}
    config = Config().updated(settings)
    return load_policy(config), config


def _undisturbed_chunk(env: TabletopEnv, state) -> np.ndarray:
    """(HORIZON, 7): the expert's next actions without noise; the environment is left as it was."""
    before = env.snapshot()
    actions = [expert_action(state)]
    while len(actions) < HORIZON:
        actions.append(expert_action(env.step(actions[-1])))
    env.restore(before)
    return np.stack(actions)


def _row(env: TabletopEnv, state, executed) -> dict:
    names = list(state.things)
    positions = np.zeros((THINGS, 3), np.float32)
    positions[: len(names)] = [thing.position_m for thing in state.things.values()]
    return {
        "configuration": env.configuration(),
        "proprio": env.proprio(),
        "chunk": _undisturbed_chunk(env, state).astype(np.float32),
        "executed": executed.astype(np.float32),
        "positions_m": positions,
        "pressed": np.bool_(state.pressed),
        "focus": np.uint8(names.index(focus(state))),
        "offset_m": (waypoint(state) - state.ee_position_m).astype(np.float32),
        "about": np.uint8(sum(1 << names.index(name) for name in state.goal.names)),
    }


def _seen(cover: np.ndarray) -> np.ndarray:
    """(patches, 2) uint8 of (patches, things): which thing covers most of a patch, and what share."""
    share = cover.max(axis=1)
    return np.stack([np.where(share > 0, cover.argmax(axis=1) + 1, 0).astype(np.uint8), share], axis=1)


def _looks(state) -> dict[str, np.ndarray]:
    """kind, colour (THINGS,) of the things of an episode."""
    kind, colour = np.full(THINGS, NONE, np.uint8), np.full(THINGS, NONE, np.uint8)
    for i, thing in enumerate(state.things.values()):
        kind[i] = KIND_NAMES.index(thing.kind)
        if thing.colour:
            colour[i] = COLOURS.index(thing.colour)
    return {"kind": kind, "colour": colour}


JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def _jpeg(image: np.ndarray) -> bytes:
    """A JPEG file of (H, W, 3) uint8 RGB, with colour at full resolution."""
    _, file = cv2.imencode(".jpg", image[:, :, ::-1], JPEG)
    return file.tobytes()
