"""What a selection strategy is: two decisions, and what they need to see.

How many tokens are kept, and at which layers, is not a strategy's business but that of `prune.budgets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from specprune_ros.config import Dynamic
from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.dynamic import Fold


@dataclass(frozen=True)
class Evidence:
    """What the static selection may look at. None where there is none, or where the strategy does not want it.

    scores: (layers, V, N) float32 attention that the strategy's `rows` paid in the layers up to here; last_attention:
    (layers, V, N) scores of the last pass, -inf for tokens that did not reach a layer; similarity: (V, N) of the
    patches to the reference frame, +inf for no such frame; noise: (V, N) int32, every number from 0 to V N - 1 once, in
    an order that was drawn for this pass.
    """

    scores: Tensor | None
    last_attention: Tensor | None = None
    similarity: Tensor | None = None
    noise: Tensor | None = None


def required(tensor: Tensor | None) -> Tensor:
    """What a strategy asks for; RuntimeError where it was not given."""
    if tensor is None:
        raise RuntimeError("the pass does not give the selection strategy what it asks for")
    return tensor


@dataclass(frozen=True)
class Start:
    """What is known of a pass before its first layer. visual: tokens of all views; noise: as in `Evidence`."""

    visual: int
    dynamic: Dynamic
    noise: Tensor | None
    device: torch.device
    fold: Fold


class Ranking(Protocol):
    """What is known about the tokens on the way through the decoder."""

    def update(self, attention: Tensor, score: Tensor, kept: Tensor) -> None:
        """One more layer was scored. attention: (1, heads, T, L) of the strategy's `later_rows`; score: (n,) of the
        visual tokens present; kept: (n,) int64, their original indices."""
        ...

    def select(self, kept: Tensor, count: int) -> Tensor:
        """Columns (count,) int64, sorted, of the tokens that stay, of those of the original indices `kept` (n,).
        RuntimeError where an `update` had to come first."""
        ...


class Strategy(Protocol):
    """Chooses tokens by operations on tensors alone, so that every engine can run it.

    name: what `pruning.strategy` calls it; rows: whose attention it wants in the layers before the static selection,
    one of the names in `prune.layout`, empty for nobody's; later_rows: likewise in the update layers after that;
    remembers: whether it uses the last pass's attention, and with it the reference frame; noisy: whether it wants
    noise.
    """

    name: str
    rows: str
    later_rows: str
    remembers: bool
    noisy: bool

    def select_static(self, seen: Evidence, threshold: float, budget: Budget) -> tuple[Tensor, Tensor]:
        """V times `budget.static_keep` tokens: sorted original indices int64, and (V, N) uint8 of `Source` bits.
        threshold: `pruning.static.similarity_threshold`."""
        ...

    def ranking(self, start: Start) -> Ranking:
        """For the dynamic prunes of one pass."""
        ...
