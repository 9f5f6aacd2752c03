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

SPECPRUNE, FASTV, OFFICIAL = "specprune", "fastv", "specprune_official"
"""Strategies whose layers or counts are their own; all others have those of `SPECPRUNE`."""


@dataclass(frozen=True)
class Layers:
    """1-based layers of the 32-layer model. prunes: where tokens leave dynamically; updates: where their ranking learns
    from scores, empty: in the prune layers; remembered: the two whose attention the next chunk reuses."""

    prunes: tuple[int, ...]
    remembered: tuple[int, int]
    updates: tuple[int, ...] = ()


LAYERS = {
    SPECPRUNE: Layers((5, 10, 15, 20), (15, 32)),
    FASTV: Layers((), (15, 32)),
    OFFICIAL: Layers((11, 16, 21, 26), (15, 31), (11, 15, 20, 25)),
}
"""docs/reference/strategies.md, Strategies; of the methods' own texts and code."""


@dataclass(frozen=True)
class ViewSets:
    """Counts of the sets of one view: k_global of every remembered layer, k_dynamic at least, k_local of layer 1, 2."""

    k_global: int
    k_dynamic: int
    k_local: tuple[int, int]


OFFICIAL_SETS = {
    Mode.COARSE: (ViewSets(12, 20, (48, 24)), ViewSets(9, 26, (38, 19))),
    Mode.FINE: (ViewSets(7, 16, (30, 15)), ViewSets(6, 20, (24, 12))),
}
"""Of the first view and of every other one, with 256 patches each (docs/explanation/method.md, The profiles `paper` and
`official`)."""

HARDEST_SHARE = 0.5
"""Share of the paper's token counts that is left at aggressiveness 1."""


@dataclass(frozen=True)
class Budget:
    """Fixed token counts of one pass. Per view: k_global, k_dynamic, k_local, static_keep; dynamic_keep: visual
    tokens of all views that are left after each layer of `Schedule.dynamic`. sets: where the counts of the sets differ
    from view to view, those of every view."""

    k_global: int
    k_dynamic: int
    k_local: int
    static_keep: int
    dynamic_keep: tuple[int, ...]
    sets: tuple[ViewSets, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """1-based layers where something happens, for a decoder of `depth` layers. The first of `updates` is not after the
    first of `dynamic`."""

    static: int
    dynamic: tuple[int, ...]
    local: tuple[int, ...]
    remembered: tuple[int, ...]
    updates: tuple[int, ...]


@cache
def schedule(depth: int, strategy: str = SPECPRUNE) -> Schedule:
    """A strategy's layers scaled to `depth`; every dynamic prune comes after the static one and before the last
    layer."""
    layers = LAYERS.get(strategy, LAYERS[SPECPRUNE])
    static = min(STATIC_LAYER, depth - 1)
    dynamic: list[int] = []
    for layer in layers.prunes:
        scaled = max(_scaled(layer, depth), (dynamic or [static])[-1] + 1)
        if scaled < depth:
            dynamic.append(scaled)
    remembered = tuple(max(1, _scaled(layer, depth)) for layer in layers.remembered)
    scaled_updates = {max(_scaled(layer, depth), static + 1) for layer in layers.updates}
    updates = sorted(layer for layer in scaled_updates or dynamic if layer < depth)
    return Schedule(static, tuple(dynamic), tuple(range(1, static + 1)), remembered, tuple(updates))


def _scaled(layer: int, depth: int) -> int:
    return round(layer * depth / PAPER_DEPTH)


def is_dense(pruning: Pruning) -> bool:
    """True when the configuration asks for exactly the dense model."""
    prunes_later = pruning.dynamic.enabled and bool(LAYERS.get(pruning.strategy, LAYERS[SPECPRUNE]).prunes)
    return pruning.aggressiveness == 0.0 or not (pruning.static.enabled or prunes_later)


@lru_cache(maxsize=256)
def budget(pruning: Pruning, mode: Mode, views: int, patches: int, depth: int) -> Budget:
    """Token counts for one pass.

    At aggressiveness 0.5 a view keeps K_G + K_D + 2 K_L tokens (the paper's counts, ~ 200 of 512 in two views);
    towards 0 the count grows linearly to all patches, towards 1 it shrinks linearly to `HARDEST_SHARE` of the
    paper's. Kept tokens never grow with aggressiveness, and fine keeps at least as many as coarse.

    With `pruning.keep` above 0 a view keeps that share of its patches, at least one, whatever the mode and the
    aggressiveness; dynamic pruning then removes as at 0.5, and only it heeds `min_tokens`.

    All strategies have these counts at as many prunes, so that what differs is which tokens are kept. `fastv`, which
    prunes once, has the mean over the layers after that prune instead: as many rows for the decoder's products.
    """
    s, a = pruning.static, pruning.aggressiveness
    k_local = round(s.alpha * (s.k_local_coarse if mode is Mode.COARSE else s.k_local_fine))
    paper = min(patches, s.k_global + s.k_dynamic + len(schedule(depth).local) * k_local)
    floor = -(-pruning.dynamic.min_tokens // views)
    if pruning.keep > 0.0:
        keep, floor = pruning.keep * patches, 1
    elif a <= 0.5:
        keep = patches + (paper - patches) * a / 0.5
    else:
        keep = paper * (1 - (1 - HARDEST_SHARE) * (a - 0.5) / 0.5)
    scale = keep / paper if paper else 0.0
    static_keep = round(keep) if s.enabled else patches
    static_keep = min(patches, max(static_keep, floor))
    k_global, k_dynamic, k_local = (min(patches, round(k * scale)) for k in (s.k_global, s.k_dynamic, k_local))
    dynamic_keep = _dynamic_keep(pruning, views * static_keep, len(schedule(depth).dynamic))
    if pruning.strategy == FASTV and s.enabled:
        static_keep, dynamic_keep = _one_prune(pruning, views, static_keep, dynamic_keep, depth), ()
    sets = _official_sets(mode, scale, views, patches) if pruning.strategy == OFFICIAL else ()
    return Budget(k_global, k_dynamic, k_local, static_keep, dynamic_keep, sets)


def _dynamic_keep(pruning: Pruning, present: int, prunes: int) -> tuple[int, ...]:
    """Visual tokens left after each dynamic prune: keep_ratio of what is there at aggressiveness 0.5."""
    d = pruning.dynamic
    if not d.enabled:
        return (present,) * prunes
    harder = 1.0 if pruning.keep > 0.0 else pruning.aggressiveness / 0.5
    ratio = max(0.0, 1.0 - (1.0 - d.keep_ratio) * harder)
    floor = min(present, d.min_tokens)
    kept = []
    for _ in range(prunes):
        present = max(floor, round(present * ratio))
        kept.append(present)
    return tuple(kept)


def _official_sets(mode: Mode, scale: float, views: int, patches: int) -> tuple[ViewSets, ...]:
    """The released code's counts times `scale`, as the paper's are."""

    def scaled(count: int) -> int:
        return min(patches, round(count * scale))

    first, other = OFFICIAL_SETS[Mode.COARSE if mode is Mode.COARSE else Mode.FINE]
    chosen = (first, *(other,) * (views - 1))
    return tuple(
        ViewSets(scaled(s.k_global), scaled(s.k_dynamic), (scaled(s.k_local[0]), scaled(s.k_local[1]))) for s in chosen
    )


def _one_prune(pruning: Pruning, views: int, static_keep: int, dynamic_keep: tuple[int, ...], depth: int) -> int:
    """Tokens per view whose sum over the layers after static pruning is what the other counts come to, up to
    rounding."""
    when = schedule(depth)
    layers = range(when.static + 1, depth + 1)
    done = [sum(prune < layer for prune in when.dynamic) for layer in layers]
    present = [dynamic_keep[count - 1] if count else views * static_keep for count in done]
    return max(1, round(sum(present) / len(present) / views))


def layer_lengths(
    layout: Layout, depth: int, static: Static, dynamic: Dynamic, budget: Budget | None, strategy: str = SPECPRUNE
) -> list[int]:
    """Tokens of all kinds that each of `depth` decoder layers processes under `budget`; None: nothing is pruned."""
    when, present = schedule(depth, strategy), layout.visual
    lengths = []
    for number in range(1, depth + 1):
        lengths.append(layout.length - layout.visual + present)
        if budget is not None and static.enabled and number == when.static:
            present = layout.views * budget.static_keep
        if budget is not None and dynamic.enabled and number in when.dynamic:
            present = min(present, budget.dynamic_keep[when.dynamic.index(number)])
    return lengths
