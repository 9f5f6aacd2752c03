"""`fastv`: one prune after the second layer by the attention of the last token (FastV, arXiv 2403.06764)."""

from __future__ import annotations

from torch import Tensor

from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.layout import READOUT
from specprune_ros.prune.static import indices_of, marked, ranks
from specprune_ros.prune.strategies.local import Newest
from specprune_ros.prune.strategies.protocol import Evidence, Start, required
from specprune_ros.types import Source


class FastV:
    """Keeps the visual tokens of all views together to which layer 2 attends most, averaged over heads.

    FastV asks the last token of the prompt, because that is the one whose state predicts the next word. Here no words
    follow: the answer is read from the rows before the placeholders, all at once, so those are asked, and their
    attention is averaged. The last token of this sequence, the stop token, has a state that nobody reads.

    FastV leaves the share of tokens to its user. Here it is the one with which the decoder's layers compute as many
    rows as under `specprune` (`prune.budgets.budget`): equal work, while the prunes are not at equal layers.
    """

    name, rows, later_rows, remembers, noisy = "fastv", READOUT, "", False, False

    def select_static(self, seen: Evidence, threshold: float, budget: Budget) -> tuple[Tensor, Tensor]:
        score = required(seen.scores)[-1]
        views, patches = score.shape
        keep = views * budget.static_keep
        mask = ranks(score.flatten()) < keep
        return indices_of(mask[None], keep), marked(int(Source.LOCAL), mask.view(views, patches))

    def ranking(self, start: Start) -> Newest:
        return Newest()
