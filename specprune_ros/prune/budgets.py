"""How many visual tokens to keep: fixed counts per mode and aggressiveness, so that shapes are static.

Token counts depend only on the configuration. Which tokens are kept depends on the images and is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from specprune_ros.config import Dynamic, Pruning, Static
from specprune_ros.prune.layout import Layout
from specprune_ros.types import Mode

PAPER_DEPTH = 32
STATIC_LAYER = 2
"""Static pruning happens after this many layers (docs/explanation/method.md, Static pruning)."""

PRUNE_LAYERS = (5, 10, 15, 20)
GLOBAL_LAYER = 15
"""1-based layers of the 32-layer model: dynamic prunes, and the middle layer whose attention the next chunk reuses."""

HARDEST_SHARE = 0.5
"""Share of the paper's token counts that is left at aggressiveness 1."""


@dataclass(frozen=True)
class Budget:
    """Fixed token counts of one pass. Per view: k_global, k_dynamic, k_local, static_keep; dynamic_keep: visual
    tokens of all views that are left after each layer of `Schedule.dynamic`."""

    k_global: int
    k_dynamic: int
    k_local: int
    static_keep: int
    dynamic_keep: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """1-based layers where something happens, for a decoder of `depth` layers."""

    static: int
    dynamic: tuple[int, ...]
    local: tuple[int, ...]
    remembered: tuple[int, ...]


@cache
def schedule(depth: int) -> Schedule:
    """The paper's layers scaled to `depth`; every dynamic prune comes after the static one and before the last
    layer."""
    static = min(STATIC_LAYER, depth - 1)
    dynamic: list[int] = []
    for layer in PRUNE_LAYERS:
        scaled = max(round(layer * depth / PAPER_DEPTH), (dynamic or [static])[-1] + 1)
        if scaled < depth:
            dynamic.append(scaled)
    middle = max(1, round(GLOBAL_LAYER * depth / PAPER_DEPTH))
    return Schedule(static, tuple(dynamic), tuple(range(1, static + 1)), (middle, depth))


def is_dense(pruning: Pruning) -> bool:
    """True when the configuration asks for exactly the dense model."""
    return pruning.aggressiveness == 0.0 or not (pruning.static.enabled or pruning.dynamic.enabled)


@lru_cache(maxsize=256)
def budget(pruning: Pruning, mode: Mode, views: int, patches: int, depth: int) -> Budget:
    """Token counts for one pass.

    At aggressiveness 0.5 a view keeps K_G + K_D + 2 K_L tokens (the paper's counts, ~ 200 of 512 in two views);
    towards 0 the count grows linearly to all patches, towards 1 it shrinks linearly to `HARDEST_SHARE` of the
    paper's. Kept tokens never grow with aggressiveness, and fine keeps at least as many as coarse.
    """
    s, a = pruning.static, pruning.aggressiveness
    k_local = round(s.alpha * (s.k_local_coarse if mode is Mode.COARSE else s.k_local_fine))
    paper = min(patches, s.k_global + s.k_dynamic + len(schedule(depth).local) * k_local)
    if a <= 0.5:
        keep = patches + (paper - patches) * a / 0.5
    else:
        keep = paper * (1 - (1 - HARDEST_SHARE) * (a - 0.5) / 0.5)
    scale = keep / paper if paper else 0.0
    static_keep = round(keep) if s.enabled else patches
    floor = -(-pruning.dynamic.min_tokens // views)
    static_keep = min(patches, max(static_keep, floor))
    k_global, k_dynamic, k_local = (min(patches, round(k * scale)) for k in (s.k_global, s.k_dynamic, k_local))
    dynamic_keep = _dynamic_keep(pruning, views * static_keep, len(schedule(depth).dynamic))
    return Budget(k_global, k_dynamic, k_local, static_keep, dynamic_keep)


def _dynamic_keep(pruning: Pruning, present: int, prunes: int) -> tuple[int, ...]:
    """Visual tokens left after each dynamic prune: keep_ratio of what is there at aggressiveness 0.5."""
    d = pruning.dynamic
    if not d.enabled:
        return (present,) * prunes
    ratio = max(0.0, 1.0 - (1.0 - d.keep_ratio) * pruning.aggressiveness / 0.5)
    floor = min(present, d.min_tokens)
    kept = []
    for _ in range(prunes):
        present = max(floor, round(present * ratio))
        kept.append(present)
    return tuple(kept)


def layer_lengths(layout: Layout, depth: int, static: Static, dynamic: Dynamic, budget: Budget | None) -> list[int]:
    """Tokens of all kinds that each of `depth` decoder layers processes under `budget`; None: nothing is pruned."""
    when, present = schedule(depth), layout.visual
    lengths = []
    for number in range(1, depth + 1):
        lengths.append(layout.length - layout.visual + present)
        if budget is not None and static.enabled and number == when.static:
            present = layout.views * budget.static_keep
        if budget is not None and dynamic.enabled and number in when.dynamic:
            present = min(present, budget.dynamic_keep[when.dynamic.index(number)])
    return lengths
