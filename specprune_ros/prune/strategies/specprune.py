"""`specprune`: the method as the paper's text has it (docs/explanation/method.md; arXiv 2509.05614). The default."""

from __future__ import annotations

from torch import Tensor

from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.dynamic import Importance
from specprune_ros.prune.layout import TASK
from specprune_ros.prune.static import select_static
from specprune_ros.prune.strategies.protocol import Evidence, Start, required


class SpecPrune:
    """Global reuse, changed patches and local attention; then importance averaged over layers."""

    name, rows, later_rows, remembers, noisy = "specprune", TASK, TASK, True, False

    def select_static(self, seen: Evidence, threshold: float, budget: Budget) -> tuple[Tensor, Tensor]:
        return select_static(required(seen.scores), seen.last_attention, seen.similarity, threshold, budget)

    def ranking(self, start: Start) -> Importance:
        return Importance(start.visual, start.dynamic, start.device, start.fold)
