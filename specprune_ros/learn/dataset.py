"""Demonstrations as tensors: images decoded on demand, vision features computed once and kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from specprune_ros.learn.demos import PILOT_SEED0, Demos
from specprune_ros.learn.objectives import FAR_M, OFFSET_SCALE_M, PLACE_CENTRE_M, PLACE_SCALE_M, Batch
from specprune_ros.learn.recipe import Recipe
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.statistics import Statistics
from specprune_ros.sim.scene import COLOURS

HELD_OUT_EVERY = 25
"""Every so many episodes one is never seen by training."""

NARROWEST = 0.1
"""Smallest q99 - q01 of an action dimension: keeps a nearly constant one from being blown up."""


def statistics_of(demos: Demos, key: str) -> dict:
    """`dataset_statistics.json` content: q01/q99 of actions and proprio in the episodes that were recorded to their end; the
    gripper is not normalised."""
    whole = _in_whole_episodes(demos)
    action, proprio = demos.arrays["chunk"][whole].reshape(-1, 7), demos.arrays["proprio"][whole]
    entries = {}
    for name, values, mask in (("action", action, [True] * 6 + [False]), ("proprio", proprio, None)):
        q01, q99 = np.quantile(values, [0.01, 0.99], axis=0).astype(float)
        if name == "action":
            middle, half = (q01 + q99) / 2, np.maximum(q99 - q01, NARROWEST) / 2
            q01, q99 = middle - half, middle + half
        entries[name] = {"q01": q01.round(6).tolist(), "q99": q99.round(6).tolist()}
        if mask:
            entries[name]["mask"] = mask
    return {key: {**entries, "num_transitions": len(demos), "num_trajectories": len(demos.episode_ends)}}


def _in_whole_episodes(demos: Demos) -> np.ndarray:
    """(n,) bool: steps of successful episodes, which were not cut short."""
    return np.repeat(demos.success, np.diff(demos.episode_ends, prepend=0))


class Dataset:
    """Random access to normalised training steps."""

    def __init__(self, demos: Demos, statistics: Statistics, prompt: PromptEncoder):
        self.demos, self.statistics = demos, statistics
        arrays = demos.arrays
        self.proprio = torch.from_numpy(statistics.normalise_proprio(arrays["proprio"]))
        self.chunk = torch.from_numpy(statistics.normalise_actions(arrays["chunk"]))
        self.cover = torch.from_numpy(arrays["cover"])
        self.target = torch.from_numpy(arrays["target"].astype(np.int64))
        self.offset = torch.from_numpy(arrays["target_offset_m"])
        self.places = torch.from_numpy(_places(arrays))
        prompts = [prompt.encode(f"pick up the {colour} cube") for colour in COLOURS]
        self.prompt = torch.tensor([p.ids for p in prompts])
        self.task = prompts[0].task
        lengths = np.diff(demos.episode_ends, prepend=0)
        held_out = np.repeat(np.arange(len(lengths)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1, lengths)
        self.training, self.held_out = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self.piloted = np.repeat(demos.seeds >= PILOT_SEED0, lengths)
        self.far = np.linalg.norm(arrays["target_offset_m"][:, :2], axis=1) > FAR_M

    def sample(self, rng, count: int, recipe: Recipe) -> np.ndarray:
        """(count,) sorted training steps: shares of the recipe far from the named cube and flown by a policy, the others from
        every `stride`-th step."""
        steps = self.training
        pools = [steps[self.far[steps]], steps[self.piloted[steps]], steps[:: recipe.stride]]
        shares = np.array([recipe.far_share, recipe.piloted_share, 1.0 - recipe.far_share - recipe.piloted_share])
        shares *= [len(pool) > 0 for pool in pools]
        chosen = rng.choice(len(pools), count, p=shares / shares.sum())
        return np.sort([rng.choice(pools[pool]) for pool in chosen])

    def images(self, steps) -> Tensor:
        """(B, V, H, W, 3) uint8."""
        return torch.from_numpy(np.stack([self.demos.images(int(step)) for step in steps]))

    def batch(self, steps, features: Tensor) -> Batch:
        index = torch.as_tensor(steps)
        cover = self.cover[index].float().flatten(1, 2) / 255
        target = self.target[index]
        named = cover.gather(2, target[:, None, None].expand(-1, cover.shape[1], 1))[..., 0]
        return Batch(
            features,
            self.proprio[index],
            self.prompt[target],
            self.chunk[index],
            named,
            cover.amax(-1),
            self.offset[index],
        )


class FeatureCache:
    """Vision features of every step, bf16, computed at the first visit and kept in a file beside the training state."""

    def __init__(self, path: Path, steps: int, shape: tuple[int, int]):
        mode = "r+" if path.exists() else "w+"  # both files grow with the demonstrations
        self.values = np.memmap(path, np.int16, mode, shape=(steps, *shape))
        self.done = np.memmap(path.with_suffix(".done"), np.bool_, mode, shape=(steps,))

    def get(self, steps, compute) -> Tensor:
        """(B, V * N, width) bf16; `compute(missing steps)` gives what is not there yet."""
        missing = [step for step in steps if not self.done[step]]
        if missing:
            self.values[missing] = compute(missing).to(torch.bfloat16).view(torch.int16).numpy()
            self.done[missing] = True
        return torch.from_numpy(self.values[steps]).view(torch.bfloat16)


def image_floats(images: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float32 in [0, 1]."""
    return images.movedim(-1, -3).float() / 255


def _places(arrays) -> np.ndarray:
    """(n, V, colours, 3) float32: where each cube is, as each camera can know it: third-person in the base frame, wrist
    relative to the gripper and turned with it."""
    positions = arrays["cube_positions_m"]
    base = (positions - np.asarray(PLACE_CENTRE_M)) / PLACE_SCALE_M
    turn = _rotations(arrays["proprio"][:, 3:6])
    relative = np.einsum("nij,nci->ncj", turn, positions - arrays["proprio"][:, None, :3]) / OFFSET_SCALE_M
    return np.clip(np.stack([base, relative], axis=1), -4, 4).astype(np.float32)


def _rotations(rotvec: np.ndarray) -> np.ndarray:
    """(n, 3) axis-angle [rad] -> (n, 3, 3) rotation matrices, by Rodrigues' formula."""
    angle = np.linalg.norm(rotvec, axis=-1)[:, None, None]
    x, y, z = (rotvec / np.maximum(angle[:, 0], 1e-9)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
