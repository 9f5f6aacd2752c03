"""`random`: the control that every claim about a selection needs. What it keeps says nothing about the images."""

from __future__ import annotations

from torch import Tensor

from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.static import indices_of, marked, ranks
from specprune_ros.prune.strategies.protocol import Evidence, Start, required
from specprune_ros.types import Source


class Random:
    """Every set of `static_keep` tokens of a view is as likely as any other, and so is every set that a dynamic prune
    leaves of the tokens of all views that are still there.

    One order decides about all prunes of a pass: those in front stay. Within a view and among the tokens that stayed,
    every order is as likely as any other, so later prunes are uniform as well. The order comes from outside, as whole
    numbers that no arithmetic rounds; engines that have no generator, or one of their own, so draw alike.
    """

    name, rows, later_rows, remembers, noisy = "random", "", "", False, True

    def select_static(self, seen: Evidence, threshold: float, budget: Budget) -> tuple[Tensor, Tensor]:
        mask = ranks(-required(seen.noise)) < budget.static_keep
        return indices_of(mask, budget.static_keep), marked(int(Source.FILL), mask)

    def ranking(self, start: Start) -> Drawn:
        return Drawn(required(start.noise).flatten())


class Drawn:
    """An order that is known beforehand. order: (visual,) int32."""

    def __init__(self, order: Tensor):
        self.order = order

    def update(self, attention: Tensor, score: Tensor, kept: Tensor) -> None:
        """Nothing is learnt from scores."""

    def select(self, kept: Tensor, count: int) -> Tensor:
        """The `count` foremost of `kept`; see `Ranking`."""
        return (-self.order.index_select(0, kept)).topk(count).indices.sort().values
