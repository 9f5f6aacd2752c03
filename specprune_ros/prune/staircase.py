"""Budgets that know their machine: how long a decoder layer takes by rows, and which rows cost nothing.

On a GPU the time of a matrix product is a staircase in its rows, and not always a rising one: whole tiles are computed,
and the library chooses another kernel now and then. Tokens up to the end of a step are free accuracy
(docs/explanation/method.md, Budgets that know their machine).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from specprune_ros.config import Pruning
from specprune_ros.prune.budgets import Budget, budget, layer_lengths
from specprune_ros.prune.layout import Layout
from specprune_ros.types import Mode

FREE_SHARE = 0.02
"""Rows that take this much longer, relative to the rows asked for, still count as free."""

GAIN_SHARE = 0.03
"""Harder pruning is pointless where it saves less than this share of the decoder's predicted time."""

LEVELS = tuple(level / 20 for level in range(21))
"""Aggressiveness that is looked at to find out from where on harder pruning is pointless."""


@dataclass(frozen=True)
class Staircase:
    """rows: counts of rows, rising; seconds: what one decoder layer's products with weights (qkv, o, gate_up, down)
    take together at each [s]. ValueError when that is not what they are.

    Between two measured counts the time is interpolated, below the first it is the first one's, and above the last it
    grows in proportion to the rows.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.rows, self.rows[1:], strict=False))
        if not self.rows or len(self.rows) != len(self.seconds) or self.rows[0] < 1 or not rising:
            raise ValueError(f"a staircase needs rising counts of rows, each with a time, not {self.rows}")
        if not all(math.isfinite(second) and second > 0.0 for second in self.seconds):
            raise ValueError(f"a staircase needs times above 0, not {self.seconds}")

    def seconds_at(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Time of one layer's products [s] at each of `rows`; float64, same length."""
        asked = np.asarray(rows, dtype=np.float64)
        return np.interp(asked, self.rows, self.seconds) * np.maximum(1.0, asked / self.rows[-1])

    def snapped(self, rows: int, most: int, step: int = 1) -> int:
        """The largest of rows, rows + step, ... up to `most` that takes no longer than `rows`, up to FREE_SHARE.

        How long `rows` takes is here what the cheapest of these counts takes: where a larger count is cheaper, nobody
        has to pay for the smaller one. So the result never falls when `rows` or `most` grows by whole steps.
        """
        counts = np.arange(rows, max(rows, most) + 1, step)
        seconds = self.seconds_at(counts)
        return int(counts[np.flatnonzero(seconds <= seconds.min() * (1.0 + FREE_SHARE))[-1]])

    def straightened(self) -> Staircase:
        """The straight line through these times, each weighted by its inverse; it never falls."""
        if len(self.rows) < 2:
            return self
        seconds = np.asarray(self.seconds)
        slope, start = np.polyfit(self.rows, seconds, 1, w=1.0 / seconds)
        if slope <= 0.0 or start + slope * self.rows[0] <= 0.0:
            slope, start = 0.0, float(np.median(seconds))
        ends = (self.rows[0], self.rows[-1])
        return Staircase(ends, tuple(float(start + slope * rows) for rows in ends))


@lru_cache(maxsize=256)
def snapped_budget(counts: Budget, pruning: Pruning, layout: Layout, staircase: Staircase) -> Budget:
    """`counts` with as many more visual tokens as cost nothing on the machine of the staircase.

    The rows of a layer, which are the visual tokens kept and all other tokens of the layout, are snapped: after static
    pruning by as many tokens in every view, after each dynamic prune up to what is present there. No layer gets fewer
    tokens than under `counts`, and no prune leaves more than there were.

    The counts of the three sets stay, so the tokens added are the next-best by local attention, and every token that
    `counts` keeps in static pruning is kept here too.
    """
    others = layout.length - layout.visual
    keep = counts.static_keep
    if pruning.static.enabled:
        rows = staircase.snapped(others + layout.views * keep, layout.length, step=layout.views)
        keep = (rows - others) // layout.views
    present, left = layout.views * keep, []
    for count in counts.dynamic_keep:
        if pruning.dynamic.enabled:
            present = staircase.snapped(others + count, others + present) - others
        left.append(present)
    return replace(counts, static_keep=keep, dynamic_keep=tuple(left))


def decoder_seconds(pruning: Pruning, mode: Mode, layout: Layout, depth: int, staircase: Staircase) -> float:
    """Predicted time of all decoder layers' products with weights [s], under the snapped budget. Attention, scores and
    selection are left out, and so is that the last layer computes few rows."""
    kept = None
    if pruning.aggressiveness > 0.0:
        counts = budget(pruning, mode, layout.views, layout.patches, depth)
        kept = snapped_budget(counts, pruning, layout, staircase)
    lengths = layer_lengths(layout, depth, pruning.static, pruning.dynamic, kept, pruning.strategy)
    return float(staircase.seconds_at(lengths).sum())


def pointless_from(pruning: Pruning, layout: Layout, depth: int, staircase: Staircase) -> float:
    """The aggressiveness from which on harder pruning saves less than GAIN_SHARE of the decoder's predicted time in
    either mode; 1.0 where it saves more up to the end, 0.0 where pruning saves nothing at all. One of LEVELS.

    The other settings of the method are those of `pruning`.
    """
    return max(_pointless_from(pruning, mode, layout, depth, staircase) for mode in (Mode.COARSE, Mode.FINE))


def _pointless_from(pruning: Pruning, mode: Mode, layout: Layout, depth: int, staircase: Staircase) -> float:
    levels = (replace(pruning, aggressiveness=level, keep=0.0) for level in LEVELS)
    seconds = [decoder_seconds(each, mode, layout, depth, staircase) for each in levels]
    harder = np.minimum.accumulate(seconds[::-1])[::-1]
    return LEVELS[int(np.flatnonzero(np.asarray(seconds) - harder < GAIN_SHARE * np.asarray(seconds))[0])]
