"""`local`: the attention that the instruction's words pay in this pass, and nothing else. What the rest of the method
adds to it is the difference between `specprune` and this."""

from __future__ import annotations

from torch import Tensor

from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.layout import TASK
from specprune_ros.prune.static import indices_of, marked, ranks
from specprune_ros.prune.strategies.protocol import Evidence, Start, required
from specprune_ros.types import Source


class Local:
    """Static: per view the union of the best tokens of layers 1 and 2, as many of each as fill the budget; where the
    last place is asked for twice, the token of lower index has it. Dynamic: the best tokens by the prune layer's own
    scores, not averaged over layers and not weighted by confidence."""

    name, rows, later_rows, remembers, noisy = "local", TASK, TASK, False, False

    def select_static(self, seen: Evidence, threshold: float, budget: Budget) -> tuple[Tensor, Tensor]:
        foremost = ranks(required(seen.scores)).min(0).values
        mask = ranks(-foremost) < budget.static_keep
        return indices_of(mask, budget.static_keep), marked(int(Source.LOCAL), mask)

    def ranking(self, start: Start) -> Newest:
        return Newest()


class Newest:
    """The scores of the last layer that was scored."""

    def __init__(self) -> None:
        self._score: Tensor | None = None

    def update(self, attention: Tensor, score: Tensor, kept: Tensor) -> None:
        """Forget all earlier scores; see `Ranking`."""
        self._score = score

    def select(self, kept: Tensor, count: int) -> Tensor:
        """The `count` best; see `Ranking`. RuntimeError when the tokens present were not scored."""
        if self._score is None or self._score.shape != kept.shape:
            raise RuntimeError("dynamic pruning of tokens that were not scored")
        return self._score.topk(count).indices.sort().values
