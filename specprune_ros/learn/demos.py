"""Demonstrations: record the expert under noise, read them back, cut them into action chunks.

The noise is on the executed action, never on the label (DART): short pushes in a random direction and false gripper commands lead
away from the expert's path, and the labels show the way back. The label of a step is a whole chunk: what the expert would do in
the next HORIZON steps if nothing disturbed it, found by branching the simulation. It never contains a noise nobody can foresee.

One file ``demos_<first seed>_<episodes>.npz`` holds these arrays for N steps of E episodes (base frame, m, rad):

    jpeg (bytes,) u8, jpeg_ends (N, 2) i64   third-person and wrist image, 224 x 224 RGB, JPEG quality 95, one after the other
    proprio (N, 8) f32                       see TabletopEnv.proprio
    action (N, 7) f32                        the expert's action at this state: the label
    executed (N, 7) f32                      what was executed: the label plus noise
    chunk (N, 8, 7) f32                      the expert's next 8 actions without noise; chunk[:, 0] equals action
    cover (N, 2, 256, 6) u8                  share of every 14 px patch that each colour's cube covers, 255 = all
    target (N,) u8                           index into COLOURS of the cube the instruction names
    target_offset_m (N, 3) f32               that cube's position minus the TCP's
    cube_present (N, 6) bool                 which colours are on the table
    cube_positions_m (N, 6, 3) f32           their positions, zero where absent
    episode_ends (E,) i64, seeds (E,) i64, success (E,) bool
"""

import argparse
import functools
import io
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from specprune_ros.sim.env import CAMERAS, COLOURS, TabletopEnv
from specprune_ros.sim.expert import expert_action

#: Seeds below are for evaluation only; demonstrations start above.
EVALUATION_SEEDS = range(10_000)
TRAINING_SEED0 = 100_000
APPROACH_SEED0, SCATTER_SEED0, PILOT_SEED0 = 200_000, 300_000, 400_000  # short recordings, and those a policy flew
HORIZON = 8
EXTRA_STEPS = 6  # recorded after success, so that holding the cube up is shown too
PER_STEP = (
    "jpeg_ends",
    "proprio",
    "action",
    "executed",
    "chunk",
    "cover",
    "target",
    "target_offset_m",
    "cube_present",
    "cube_positions_m",
)
PER_EPISODE = ("episode_ends", "seeds", "success")

_env: TabletopEnv | None = None  # one per worker process


class PushNoise:
    """Noise added to executed actions. Every fourth episode has none; after ``last_step`` there is none, so that episodes end."""

    last_step = 80

    def __init__(self, rng):
        self._rng = rng
        self._quiet = rng.random() < 0.25
        self._push, self._push_left, self._flip_left, self._step = np.zeros(6), 0, 0, 0

    def __call__(self, action) -> np.ndarray:
        """The action (7,) to execute instead of the label (7,)."""
        self._step += 1
        executed = np.array(action, dtype=float)
        if self._quiet or self._step > self.last_step:
            return executed
        self._draw()
        if self._push_left:
            executed[:6] += self._push
        executed[:6] += self._rng.normal(0.0, 0.02, 6)
        if self._flip_left:
            executed[6] = 1.0 - executed[6]
        self._push_left, self._flip_left = max(0, self._push_left - 1), max(0, self._flip_left - 1)
        executed[:6] = np.clip(executed[:6], -1.0, 1.0)
        return executed

    def _draw(self) -> None:
        rng = self._rng
        if not self._push_left and rng.random() < 0.07:
            self._push_left = int(rng.integers(2, 7))
            self._push = np.concatenate(
                [
                    _direction(rng) * np.exp(rng.uniform(np.log(0.05), np.log(0.6))),
                    _direction(rng) * rng.uniform(0.0, 0.12),
                ]
            )
        if not self._flip_left and rng.random() < 0.012:
            self._flip_left = int(rng.integers(2, 6))


def record(
    out_dir,
    episodes: int,
    seed0: int = TRAINING_SEED0,
    workers: int = 2,
    per_file: int = 25,
    max_steps: int | None = None,
    scattered: bool = False,
    pilot: str | None = None,
) -> list:
    """Record ``episodes`` demonstrations of the seeds from ``seed0`` on; return the files' paths.

    ``max_steps`` cuts every episode short: many approaches from afar instead of few whole episodes. ``scattered``: see
    ``TabletopEnv.reset``. ``pilot`` names a checkpoint folder whose policy flies instead of the noisy expert, who still labels
    every step: the states in which an imitator ends up (DAgger).
    Files that exist are kept, so an interrupted recording continues where it stopped. ValueError for seeds kept for evaluation.
    """
    if seed0 in EVALUATION_SEEDS:
        raise ValueError(
            f"seed0 {seed0} is among the evaluation seeds 0..{EVALUATION_SEEDS[-1]}; start at {TRAINING_SEED0} or above"
        )
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    starts = range(seed0, seed0 + episodes, per_file)
    counts = [min(per_file, seed0 + episodes - start) for start in starts]
    tasks = [
        (out / f"demos_{start}_{n}.npz", start, n, max_steps, scattered, pilot)
        for start, n in zip(starts, counts, strict=True)
    ]
    todo = [task for task in tasks if not task[0].exists()]
    began, done, steps, good = time.monotonic(), 0, 0, 0
    with multiprocessing.get_context("spawn").Pool(min(workers, max(1, len(todo)))) as pool:
        for count, file_steps, successes in pool.imap_unordered(_record_file, todo):
            done, steps, good = done + count, steps + file_steps, good + successes
            left = sum(n for _, _, n, *_ in todo) - done
            rate = done / (time.monotonic() - began)
            print(
                f"{done} episodes, {steps} steps, success {good / done:.3f}, {60 * rate:.1f} episodes/min, {left / rate / 60:.1f} min left",
                flush=True,
            )
    return [path for path, *_ in tasks]


def record_episode(
    env: TabletopEnv, seed: int, max_steps: int | None = None, scattered: bool = False, pilot: str | None = None
) -> dict:
    """One demonstration, or its first ``max_steps`` steps, as arrays with a leading step axis, as in the file, except ``jpegs``: a list of (bytes, bytes)."""
    env.reset(seed, scattered)
    fly = _pilot(pilot, env) if pilot else PushNoise(np.random.default_rng([seed, 1]))
    rows, after_success = [], 0
    state = env.state()
    for _ in range(max_steps or env.max_steps):
        label, chunk = expert_action(state), _undisturbed_chunk(env, state)
        executed = fly(label) if not after_success else label
        rows.append(_row(env, state, label, executed, chunk))
        state = env.step(executed)
        after_success += env.success() or after_success > 0
        if after_success > EXTRA_STEPS:
            break
    episode = {key: np.stack([row[key] for row in rows]) for key in rows[0] if key != "jpegs"}
    return {**episode, "jpegs": [row["jpegs"] for row in rows], "success": bool(after_success)}


def chunk_labels(actions, episode_ends, horizon: int = HORIZON) -> np.ndarray:
    """(N, horizon, 7) of per-step actions (N, 7): past an episode's end no motion and the last gripper command.

    ``episode_ends`` (E,) are the exclusive ends of the episodes. Unlike the recorded ``chunk``, these contain reactions to noise.
    """
    actions = np.asarray(actions)
    steps = np.arange(len(actions))
    ends = np.asarray(episode_ends)
    end = ends[np.searchsorted(ends, steps, side="right")]
    ahead = steps[:, None] + np.arange(horizon)
    chunks = actions[np.minimum(ahead, end[:, None] - 1)]
    chunks[..., :6] *= (ahead < end[:, None])[..., None]
    return chunks


@dataclass(frozen=True)
class Demos:
    """All files of a folder joined. ``arrays`` has the per-step arrays but ``jpeg_ends``; images are decoded on request."""

    arrays: dict
    episode_ends: np.ndarray  # (E,) exclusive
    seeds: np.ndarray  # (E,)
    success: np.ndarray  # (E,) bool
    jpeg: np.ndarray  # (bytes,) u8
    jpeg_ends: np.ndarray  # (N, 2)

    def __len__(self) -> int:
        return len(self.jpeg_ends)

    def images(self, step: int) -> np.ndarray:
        """(2, 224, 224, 3) uint8 RGB of one step: third-person, wrist."""
        ends = self.jpeg_ends.reshape(-1)
        parts = [self.jpeg[ends[k - 1] if k else 0 : ends[k]] for k in (2 * step, 2 * step + 1)]
        return np.stack([np.asarray(Image.open(io.BytesIO(part.tobytes()))) for part in parts])

    def chunk_labels(self, horizon: int = HORIZON) -> np.ndarray:
        """(N, horizon, 7) from the per-step labels; see ``chunk_labels``."""
        return chunk_labels(self.arrays["action"], self.episode_ends, horizon)


def load(folder) -> Demos:
    """Read every ``demos_*.npz`` of a folder, ordered by seed. FileNotFoundError when there is none."""
    paths = sorted(Path(folder).glob("demos_*_*.npz"), key=lambda path: int(path.stem.split("_")[1]))
    if not paths:
        raise FileNotFoundError(f"no demos_*.npz in {folder}; record some with specprune_ros.learn.demos.record")
    files = []
    for path in paths:
        with np.load(path) as data:
            files.append({key: data[key] for key in data.files})
    step_starts = np.cumsum([0] + [len(f["proprio"]) for f in files])
    byte_starts = np.cumsum([0] + [len(f["jpeg"]) for f in files])
    return Demos(
        arrays={key: np.concatenate([f[key] for f in files]) for key in PER_STEP if key != "jpeg_ends"},
        episode_ends=np.concatenate([f["episode_ends"] + start for f, start in zip(files, step_starts, strict=False)]),
        seeds=np.concatenate([f["seeds"] for f in files]),
        success=np.concatenate([f["success"] for f in files]),
        jpeg=np.concatenate([f["jpeg"] for f in files]),
        jpeg_ends=np.concatenate([f["jpeg_ends"] + start for f, start in zip(files, byte_starts, strict=False)]),
    )


def _record_file(task) -> tuple:
    """Record one file; (episodes, steps, successes)."""
    global _env
    path, start, count, *how = task
    _env = _env or TabletopEnv()
    episodes = [record_episode(_env, seed, *how) for seed in range(start, start + count)]
    jpegs = [image for episode in episodes for pair in episode.pop("jpegs") for image in pair]
    success = np.array([episode.pop("success") for episode in episodes])
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            **arrays,
            jpeg=np.frombuffer(b"".join(jpegs), np.uint8),
            jpeg_ends=np.cumsum([len(image) for image in jpegs]).reshape(-1, 2),
            episode_ends=np.cumsum([len(episode["proprio"]) for episode in episodes]),
            seeds=np.arange(start, start + count),
            success=success,
        )
    temporary.rename(path)
    return count, len(arrays["proprio"]), int(success.sum())


PILOT_STEPS = 6  # of a chunk, before the next one is asked for


def _pilot(folder: str, env: TabletopEnv):
    """What the policy of a checkpoint folder would execute, step by step; the label is not looked at."""
    policy, config = _policy(folder)
    from specprune_ros.types import InferenceRequest, Mode, Observation

    instruction = f"pick up the {env.state().target} cube"
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

    config = Config().updated({"policy.checkpoint": folder, "policy.threads": 1, "pruning.aggressiveness": 0.0})
    return load_policy(config), config


def _undisturbed_chunk(env: TabletopEnv, state) -> np.ndarray:
    """(HORIZON, 7): the expert's next actions without noise; the environment is left as it was."""
    before = env.snapshot()
    actions = [expert_action(state)]
    while len(actions) < HORIZON:
        actions.append(expert_action(env.step(actions[-1])))
    env.restore(before)
    return np.stack(actions)


def _row(env: TabletopEnv, state, label, executed, chunk) -> dict:
    present = np.array([colour in state.cubes for colour in COLOURS])
    positions = np.stack([state.cubes.get(colour, np.zeros(3)) for colour in COLOURS])
    return {
        "jpegs": tuple(_jpeg(env.render(camera)) for camera in CAMERAS),
        "proprio": env.proprio(),
        "action": label.astype(np.float32),
        "executed": executed.astype(np.float32),
        "chunk": chunk.astype(np.float32),
        "cover": np.stack([env.render_cover(camera) for camera in CAMERAS]),
        "target": np.uint8(COLOURS.index(state.target)),
        "target_offset_m": (state.cubes[state.target] - state.ee_position_m).astype(np.float32),
        "cube_present": present,
        "cube_positions_m": positions.astype(np.float32),
    }


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _direction(rng) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def main() -> None:
    """Command line: record demonstrations."""
    parser = argparse.ArgumentParser(description="Record demonstrations of the tabletop pick task.")
    parser.add_argument("out_dir")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed0", type=int, default=TRAINING_SEED0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-steps", type=int, help="cut every episode after so many steps")
    args = parser.parse_args()
    record(args.out_dir, args.episodes, args.seed0, args.workers, max_steps=args.max_steps)


if __name__ == "__main__":
    main()
