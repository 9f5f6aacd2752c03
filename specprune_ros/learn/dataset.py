"""Demonstrations as tensors: which rows to train on, their labels, and their pictures, decoded on demand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from specprune_ros.learn.demos import KIND_NAMES, NONE, PILOT_SEED0, Demos
from specprune_ros.learn.objectives import (
    FAR_M,
    LOOKS,
    OFFSET_SCALE_M,
    PLACE_CENTRE_M,
    PLACE_SCALE_M,
    Batch,
    VisionBatch,
)
from specprune_ros.learn.recipe import Recipe
from specprune_ros.learn.wording import said
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.statistics import Statistics
from specprune_ros.prune.layout import Layout

HELD_OUT_EVERY = 25
"""Seeds with the last remainder of this are never trained on, however many demonstrations there are."""

NARROWEST = 0.1
"""Smallest q99 - q01 of an action dimension: keeps a nearly constant one from being blown up."""


def statistics_of(demos: Demos, key: str) -> dict:
    """`dataset_statistics.json` content: q01/q99 of actions and proprio in the episodes that reach their goal, which
    were not cut short; the gripper is not normalised."""
    whole = demos.episodes["success"][demos.episode]
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


class Dataset:
    """Random access to normalised training rows, all but the pictures in the memory of a device."""

    def __init__(self, demos: Demos, statistics: Statistics, prompt: PromptEncoder, device: str = "cpu"):
        self.demos, self.statistics, self.device = demos, statistics, device
        arrays, episodes, self.episode = demos.arrays, demos.episodes, demos.episode

        def there(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.proprio = there(statistics.normalise_proprio(arrays["proprio"]))
        self.chunk = there(statistics.normalise_actions(arrays["chunk"]))
        self.offset, self.seen, self.pressed = (there(arrays[name]) for name in ("offset_m", "seen", "pressed"))
        self.focus, self.about = (there(arrays[name].astype(np.int64)) for name in ("focus", "about"))
        self.places = there(_places(arrays["positions_m"], arrays["proprio"]))
        self._episode = there(self.episode)
        texts = [
            said(str(text), int(seed)) for text, seed in zip(episodes["instruction"], episodes["seeds"], strict=True)
        ]
        prompts = {text: prompt.encode(text) for text in set(texts)}
        self.prompts = [prompts[text] for text in texts]
        lengths = np.array([len(p.ids) for p in self.prompts])
        self.words = lengths[self.episode]
        ids = np.zeros((len(lengths), lengths.max()), np.int64)
        for row, p in zip(ids, self.prompts, strict=True):
            row[: len(p.ids)] = p.ids
        self.ids = there(ids)
        self.look, self.kind = (there(of_things) for of_things in _looks(episodes["kind"], episodes["colour"]))
        self._split()

    def _split(self) -> None:
        """Who is trained on, and the pools that samples are drawn from, by suite."""
        seeds = self.demos.episodes["seeds"][self.episode]
        suites = self.demos.episodes["suite"][self.episode]
        held_out = seeds % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        self.training, self.held_out = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        far = np.linalg.norm(self.demos.arrays["offset_m"][:, :2], axis=1) > FAR_M
        piloted = seeds >= PILOT_SEED0
        self.pools = {
            str(suite): tuple(
                np.flatnonzero(~held_out & (suites == suite) & chosen) for chosen in (far, piloted, ~piloted)
            )
            for suite in np.unique(suites[self.training])
        }

    def sample(self, rng, count: int, recipe: Recipe) -> np.ndarray:
        """(count,) sorted training rows of prompts of one length.

        Suites by their shares; in each, shares of the recipe far from the goal and flown by a policy.
        """
        found = self._draw(rng, count, recipe)
        length = self.words[found[0]]
        found = found[self.words[found] == length]
        while len(found) < count:
            more = self._draw(rng, 4 * count, recipe)
            found = np.concatenate([found, more[self.words[more] == length]])
        return np.sort(found[:count])

    def _draw(self, rng, count: int, recipe: Recipe) -> np.ndarray:
        suites = list(self.pools)
        wanted = np.array([recipe.data[suite].share if suite in recipe.data else 0.0 for suite in suites])
        by_suite = rng.multinomial(count, wanted / wanted.sum())
        rows = []
        for suite, number in zip(suites, by_suite, strict=True):
            pools = self.pools[suite]
            shares = np.array([recipe.far_share, recipe.piloted_share, 1 - recipe.far_share - recipe.piloted_share])
            shares *= [len(pool) > 0 for pool in pools]
            for pool, part in zip(pools, rng.multinomial(number, shares / shares.sum()), strict=True):
                if part:
                    rows.append(rng.choice(pool, part))
        found = np.concatenate(rows)
        rng.shuffle(found)
        return found

    def layout(self, row: int, views: int, patches: int, placeholders: int) -> Layout:
        """Where the tokens of a row, and of every row with as long a prompt, stand."""
        prompt = self.prompts[self.episode[row]]
        return Layout(views, patches, 1, len(prompt.ids) - 1, prompt.task, placeholders)

    def images(self, rows) -> Tensor:
        """(B, V, H, W, 3) uint8, in the CPU's memory."""
        found = np.empty((len(rows), *self.demos.images(int(rows[0])).shape), np.uint8)

        def put(at: int) -> None:
            found[at] = self.demos.images(int(rows[at]))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(put, range(len(rows))))  # what went wrong in a thread is raised here
        return torch.from_numpy(found)

    def batch(self, rows: np.ndarray, features: Tensor) -> Batch:
        """Rows of prompts of one length; features (B, V * N, width): what the towers make of them."""
        at = torch.from_numpy(rows).to(self.device)
        seen = self.seen[at].flatten(1, 2)  # (B, V * N, 2)
        thing, share = seen[..., 0].long() - 1, seen[..., 1].float() / 255
        is_about = (self.about[at][:, None] >> thing.clamp(min=0)) & 1
        return Batch(
            features,
            self.proprio[at],
            self.ids[self._episode[at], : self.words[rows[0]]],
            self.chunk[at],
            share * (thing == self.focus[at][:, None]),
            share * is_about,
            share,
            self.offset[at],
        )

    def vision_batch(self, rows: np.ndarray) -> VisionBatch:
        """Labels of the pictures of rows, view after view: B * V pictures."""
        at = torch.from_numpy(rows).to(self.device)
        seen = self.seen[at]  # (B, V, N, 2)
        thing = (seen[..., 0].long() - 1).clamp(min=0)
        look, kind = self.look[self._episode[at]], self.kind[self._episode[at]]  # (B, THINGS)
        unlit, lit = LOOKS.index("button"), LOOKS.index("lit button")
        look = torch.where((look == unlit) & self.pressed[at][:, None], lit, look)
        views = thing.shape[1]
        return VisionBatch(
            look[:, None].expand(-1, views, -1).gather(2, thing).flatten(0, 1),
            kind[:, None].expand(-1, views, -1).gather(2, thing).flatten(0, 1),
            (seen[..., 1].float() / 255).flatten(0, 1),
            self.places[at].gather(2, thing[..., None].expand(-1, -1, -1, 3)).flatten(0, 1),
        )


def image_floats(images: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float32 in [0, 1]."""
    return images.movedim(-1, -3).float() / 255


def _looks(kind: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E, THINGS) indices into LOOKS and KIND_NAMES; 0 where there is no thing."""
    fixture = {KIND_NAMES.index(name): LOOKS.index(name) for name in ("plate", "button")}
    look = np.where(colour == NONE, 0, colour).astype(np.int64)
    for which, shown in fixture.items():
        look[kind == which] = shown
    return look, np.where(kind == NONE, 0, kind).astype(np.int64)


def _places(positions_m: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    """(B, V, THINGS, 3) float32 of (B, THINGS, 3): where each thing is, as each camera can know it: third-person in the
    base frame, wrist relative to the gripper and turned with it; scaled."""
    base = (positions_m - np.asarray(PLACE_CENTRE_M)) / PLACE_SCALE_M
    turn = _rotations(proprio[:, 3:6])
    relative = np.einsum("nij,nci->ncj", turn, positions_m - proprio[:, None, :3]) / OFFSET_SCALE_M
    return np.clip(np.stack([base, relative], axis=1), -4, 4).astype(np.float32)


def _rotations(rotvec: np.ndarray) -> np.ndarray:
    """(n, 3) axis-angle [rad] -> (n, 3, 3) rotation matrices, by Rodrigues' formula."""
    angle = np.linalg.norm(rotvec, axis=-1)[:, None, None]
    x, y, z = (rotvec / np.maximum(angle[:, 0], 1e-9)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
