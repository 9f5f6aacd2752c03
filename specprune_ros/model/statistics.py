"""Normalisation of proprio and actions with a checkpoint's dataset statistics (docs/reference/openvla_oft.md,
Normalisation).

`normalise_*` and `restore_actions` are mirrored: encoding then decoding gives the input back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from specprune_ros.model.errors import CheckpointError, Unfit
from specprune_ros.model.files import read_json

EPS = 1e-8
ENDS = {"quantiles": ("q01", "q99"), "min_max": ("min", "max")}
"""Normalisation -> the keys of the bounds in `dataset_statistics.json`."""
TRANSLATION = slice(0, 3)
"""Dimensions of an action that move the end effector."""
FALLBACK_SUFFIX = "_no_noops"
"""LIBERO suites are named without it, the data sets they were trained on with it."""


@dataclass(frozen=True)
class Bounds:
    """low, high: (dims,) float64; mask: (dims,) bool, False where values pass unchanged."""

    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray

    def encode(self, x: np.ndarray) -> np.ndarray:
        """(..., dims) raw -> normalised: 2 (x - low) / (high - low + eps) - 1 where masked."""
        scaled = 2.0 * (x - self.low) / (self.high - self.low + EPS) - 1.0
        return np.where(self.mask, scaled, x)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """(..., dims) normalised -> raw: 0.5 (x + 1) (high - low + eps) + low where masked."""
        return np.where(self.mask, 0.5 * (x + 1.0) * (self.high - self.low + EPS) + self.low, x)


@dataclass(frozen=True)
class Statistics:
    """Bounds of one dataset; proprio is None for policies without a proprio token.

    reach: the largest translation in the numbers that the policy was trained on, rare ones apart; None while unknown.
    """

    key: str
    action: Bounds
    proprio: Bounds | None
    reach: float | None = None

    def normalise_proprio(self, proprio: np.ndarray) -> np.ndarray:
        """(P,) raw -> (P,) float32 in [-1, 1]."""
        return np.clip(self.proprio.encode(proprio), -1.0, 1.0).astype(np.float32)

    def normalise_actions(self, actions: np.ndarray) -> np.ndarray:
        return self.action.encode(actions).astype(np.float32)

    def restore_actions(self, actions: np.ndarray) -> np.ndarray:
        """(T, 7) network outputs -> (T, 7) float64 in the numbers of the training data (see `model.units`); gripper as
        predicted."""
        return self.action.decode(np.asarray(actions, np.float64))


def statistics_table(folder: Path) -> tuple[str, dict[str, Any]]:
    """Where the statistics are, for messages, and the table itself: dataset -> {action, proprio}.

    `dataset_statistics.json` replaces `norm_stats` of config.json as a whole.
    """
    path = folder / "dataset_statistics.json"
    if path.exists() or path.is_symlink():
        return str(path), read_json(path)
    table = read_json(folder / "config.json").get("norm_stats")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{path}: missing, and config.json has no norm_stats; copy it from the checkpoint")
    return f"{folder / 'config.json'}: norm_stats", table


def read_statistics(
    folder: Path, key: str = "", normalisation: str = "quantiles", action_dims: int = 0, proprio_dims: int = 0
) -> Statistics:
    """Statistics of `key`, of `<key>_no_noops`, or of the only dataset there is; CheckpointError lists the keys when
    none is chosen.

    Lengths are held against `action_dims` and `proprio_dims` where given; without proprio_dims, proprio may be absent.
    """
    where, table = statistics_table(folder)
    chosen = _choice(where, table, key)
    entry = table[chosen]
    if not isinstance(entry, Mapping):
        raise CheckpointError(f"{where}: {chosen} holds {entry!r}, expected action and proprio; copy the file again")
    proprio = None
    if proprio_dims:
        proprio = _named_bounds(entry, "proprio", f"{where}: {chosen}", normalisation, proprio_dims)
    elif "proprio" in entry:
        with suppress(CheckpointError):  # nobody asks for it
            proprio = _named_bounds(entry, "proprio", where, normalisation, 0)
    action = _named_bounds(entry, "action", f"{where}: {chosen}", normalisation, action_dims)
    return Statistics(chosen, action, proprio, _reach(entry["action"], action))


def bounds_of(entry: Mapping[str, Any], normalisation: str = "quantiles") -> Bounds:
    """Bounds of one entry of `dataset_statistics.json`: its ends and, where it has one, the mask; ValueError names what
    is wrong."""
    low, high = (_numbers(entry, name) for name in ENDS[normalisation])
    names = "{} and {}".format(*ENDS[normalisation])
    if low.shape != high.shape:
        raise ValueError(f"{names} have {low.size} and {high.size} numbers")
    if (crossed := np.flatnonzero(low > high)).size:
        i = crossed[0]
        raise ValueError(f"{names} of dimension {i} are {low[i]:g} and {high[i]:g}: the lower end is above the upper")
    return Bounds(low, high, _mask(entry.get("mask"), low.size))


def datasets(table: Mapping[str, Any]) -> list[str]:
    """The entries of a table of statistics that are datasets; all of them where none looks like one."""
    return [key for key, entry in table.items() if isinstance(entry, Mapping) and "action" in entry] or list(table)


def _choice(where: str, table: Mapping[str, Any], key: str) -> str:
    for name in (key, key + FALLBACK_SUFFIX):
        if key and name in table:
            return name
    names = datasets(table)
    if not key and len(names) == 1:
        return names[0]
    if not names:
        raise CheckpointError(f"{where}: holds no dataset; copy it again from where the checkpoint is published")
    problem = f"has none for {key!r}" if key else "has several"
    raise Unfit(f"{where}: {problem}; set policy.unnorm_key to one of: {', '.join(names)}")


def _named_bounds(entry: Mapping[str, Any], name: str, where: str, normalisation: str, dims: int) -> Bounds:
    try:
        bounds = bounds_of(entry[name], normalisation)
    except KeyError:
        raise CheckpointError(
            f"{where} has no {name}; the policy cannot be used without its bounds, copy the file again"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{where}.{name}: {error}; copy the file again") from error
    if dims and bounds.low.size != dims:
        raise CheckpointError(
            f"{where}.{name} has bounds for {bounds.low.size} dimensions, the model has {dims}; use the statistics "
            "of this checkpoint"
        )
    return bounds


def _mask(given: Any, dims: int) -> np.ndarray:
    """(dims,) bool: which dimensions are normalised; all where nothing is said, as upstream's code has it."""
    mask = np.ones(dims, bool) if given is None else np.asarray(given)
    if mask.shape != (dims,) or mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"mask is {given!r}; expected {dims} of true or false")
    return mask.astype(bool)


def _reach(entry: Mapping[str, Any], bounds: Bounds) -> float | None:
    """Largest absolute translation: of the quantiles where there are any (min and max hold outliers), else of
    `bounds`."""
    with suppress(ValueError, TypeError):  # there are none
        bounds = bounds_of(entry, "quantiles")
    moves = bounds.mask[TRANSLATION]
    extremes = np.maximum(np.abs(bounds.low[TRANSLATION]), np.abs(bounds.high[TRANSLATION]))
    return float(extremes[moves].max()) if moves.any() else None


def _numbers(entry: Mapping[str, Any], name: str) -> np.ndarray:
    if name not in entry:
        have = ", ".join(entry)
        raise ValueError(f"no {name} (there is {have}); see the parameter policy.normalisation")
    numbers = np.asarray(entry[name], np.float64)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is {entry[name]!r}; expected a list of finite numbers")
    return numbers
