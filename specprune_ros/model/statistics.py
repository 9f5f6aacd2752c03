"""Normalisation of proprio and actions with a checkpoint's dataset statistics (openvla_oft.md, Normalisation).

`normalise_*` and `restore_actions` are mirrored: encoding then decoding gives the input back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EPS = 1e-8


@dataclass(frozen=True)
class Bounds:
    """q01, q99: (dims,) float64; mask: (dims,) bool, False where values pass unchanged."""

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    def encode(self, x: np.ndarray) -> np.ndarray:
        """(..., dims) raw -> normalised: 2 (x - q01) / (q99 - q01 + eps) - 1 where masked."""
        scaled = 2.0 * (x - self.q01) / (self.q99 - self.q01 + EPS) - 1.0
        return np.where(self.mask, scaled, x)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """(..., dims) normalised -> raw: 0.5 (x + 1) (q99 - q01 + eps) + q01 where masked."""
        return np.where(self.mask, 0.5 * (x + 1.0) * (self.q99 - self.q01 + EPS) + self.q01, x)


@dataclass(frozen=True)
class Statistics:
    """Bounds of one dataset; proprio is None for policies without a proprio token."""

    key: str
    action: Bounds
    proprio: Bounds | None

    def normalise_proprio(self, proprio: np.ndarray) -> np.ndarray:
        """(P,) raw -> (P,) float32 in [-1, 1]."""
        return np.clip(self.proprio.encode(proprio), -1.0, 1.0).astype(np.float32)

    def normalise_actions(self, actions: np.ndarray) -> np.ndarray:
        return self.action.encode(actions).astype(np.float32)

    def restore_actions(self, actions: np.ndarray) -> np.ndarray:
        """(T, 7) normalised -> (T, 7) float64 action units; gripper as predicted."""
        return self.action.decode(np.asarray(actions, np.float64))


def bounds_of(entry: dict) -> Bounds:
    """Bounds of one entry of `dataset_statistics.json`: q01, q99 and, where it has one, the mask."""
    q01, q99 = (np.asarray(entry[name], np.float64) for name in ("q01", "q99"))
    return Bounds(q01, q99, np.asarray(entry.get("mask", np.ones(q01.shape)), bool))


def read_statistics(folder: Path, key: str = "") -> Statistics:
    """Statistics of `key`, or of the only dataset in the file; ValueError lists the keys when none is chosen."""
    for name, path in (("dataset_statistics.json", None), ("config.json", "norm_stats")):
        file = folder / name
        if file.exists():
            table = json.loads(file.read_text())
            table = table[path] if path else table
            break
    chosen = key if key in table else f"{key}_no_noops" if f"{key}_no_noops" in table else None
    if chosen is None and not key and len(table) == 1:
        chosen = next(iter(table))
    if chosen is None:
        raise ValueError(f"{file}: has statistics for {', '.join(table)}; none is {key!r}; name one of them")
    entry = table[chosen]
    return Statistics(chosen, bounds_of(entry["action"]), bounds_of(entry["proprio"]) if "proprio" in entry else None)
