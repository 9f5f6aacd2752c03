"""Pictures and vision features of demonstrations, made once: in a file beside the training state, or in a GPU's
memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from specprune_ros.learn.demos import Demos

Compute = Callable[[np.ndarray], Tensor]
"""Rows (n,) -> features (n, V * N, width)."""


class FeatureCache:
    """bf16 features in a file, computed at the first visit.

    A row's place is found by what its features were computed from: the pictures of its file of demonstrations and the
    weights of the towers. More demonstrations extend the cache, in whatever order they are read.
    """

    def __init__(self, folder: Path, demos: Demos, shape: tuple[int, int], weights: str):
        """shape: of one row's features; weights: see `digest`."""
        path = folder / f"features-{weights}.bf16"
        self._slots = _slots(path.with_suffix(".json"), demos)
        self._values = _grown(path, np.int16, (int(self._slots.max()) + 1, *shape))
        self._done = _grown(path.with_suffix(".done"), np.bool_, (int(self._slots.max()) + 1,))
        for old in folder.glob("features-*"):
            if not old.name.startswith(path.stem):
                old.unlink()  # of other weights, and large

    def get(self, rows: np.ndarray, compute: Compute) -> Tensor:
        """(n, V * N, width) bf16 of distinct or repeated rows."""
        slots = self._slots[rows]
        if len(absent := np.unique(rows[~self._done[slots]])):
            places = self._slots[absent]
            self._values[places] = compute(absent).to(torch.bfloat16).cpu().view(torch.int16).numpy()
            self._done[places] = True
        return torch.from_numpy(self._values[slots]).view(torch.bfloat16)


class DevicePictures:
    """All pictures in the memory of a GPU, decoded once: 0.3 MB a row."""

    BATCH = 1024

    def __init__(self, rows: int, images: Callable[[np.ndarray], Tensor], device: str):
        """images: rows (n,) -> (n, V, H, W, 3) uint8 in the CPU's memory."""
        parts = (images(np.arange(i, min(i + self.BATCH, rows))) for i in range(0, rows, self.BATCH))
        self._values = torch.cat([part.to(device) for part in parts])

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        return self._values[torch.from_numpy(rows).to(self._values.device)]


class DeviceFeatures:
    """All features in the memory of a GPU, computed when it is made."""

    BATCH = 256

    def __init__(self, rows: int, compute: Compute):
        parts = (compute(np.arange(i, min(i + self.BATCH, rows))) for i in range(0, rows, self.BATCH))
        self._values = torch.cat([part.to(torch.bfloat16) for part in parts])

    def get(self, rows: np.ndarray, compute: Compute) -> Tensor:
        return self._values[torch.as_tensor(rows, device=self._values.device)]


def digest(module: nn.Module) -> str:
    """Short name of a module's weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]


def _slots(path: Path, demos: Demos) -> np.ndarray:
    """(N,) the place of every row in the cache; files that are new to its index get places at its end."""
    index = json.loads(path.read_text()) if path.exists() else {}
    end = max((first + count for first, count in index.values()), default=0)
    slots = []
    for name, count in zip(demos.digests, np.diff(demos.file_ends, prepend=0).tolist(), strict=True):
        if name not in index:
            index[name] = (end, count)
            end += count
        slots.append(index[name][0] + np.arange(count))
    path.write_text(json.dumps(index))
    return np.concatenate(slots)


def _grown(path: Path, dtype, shape: tuple[int, ...]) -> np.memmap:
    """A file as an array of at least this shape; what was in it stays, what is new is zero."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with open(path, "ab"):
        pass
    if path.stat().st_size < size:
        os.truncate(path, size)
    return np.memmap(path, dtype, "r+", shape=shape)
