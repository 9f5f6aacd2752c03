"""Dynamic pruning on the way through the decoder: layer-wise importance with confidence and a moving average (method.md 2)."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from specprune_ros.config import Dynamic
from specprune_ros.prune.scores import mean_entropy

EPS = 1e-6


def rank_weight(score: Tensor, slope: float) -> Tensor:
    """w_rank,i = sigmoid(-k rank_i) / sum_j sigmoid(-k rank_j), rank 0 = highest score. (n,) -> (n,) float32."""
    order = score.argsort(descending=True, stable=True)  # ties go to the lower index
    return torch.empty_like(score).scatter_(0, order, _by_rank(score.numel(), slope, score.device))


@cache  # captured graphs hold on to these tensors, which must therefore never be dropped
def _by_rank(count: int, slope: float, device: torch.device) -> Tensor:
    """The weights of ranks 0 .. count - 1, which depend on nothing else: (count,) float32."""
    weight = torch.sigmoid(-slope * torch.arange(count, dtype=torch.float32, device=device))
    return weight / weight.sum()


def confidence(attention: Tensor, score: Tensor, kind: str) -> Tensor:
    """w_conf of a layer: 1 / (mean attention entropy + eps), or mean / (std + eps) of the visual scores (paper v1)."""
    if kind == "entropy":
        return 1.0 / (mean_entropy(attention) + EPS)
    return score.mean() / (score.std(correction=0) + EPS)


class Importance:
    """S = (1 - beta) S + beta w_rank w_conf, kept in ORIGINAL token space; S starts at 0."""

    def __init__(self, visual: int, config: Dynamic, device=None):
        self.config = config
        self.value = torch.zeros(visual, device=device)
        self.updates = 0

    def update(self, attention: Tensor, score: Tensor, kept: Tensor) -> None:
        """Fold in one layer. attention: (1, heads, T, L); score: (n,) eq. 1 of the visual tokens present, whose original indices
        are `kept` (n,)."""
        weight = confidence(attention, score, self.config.confidence)
        new = rank_weight(score, self.config.rank_slope) * weight
        old = self.value.index_select(0, kept)
        self.value.index_copy_(0, kept, torch.lerp(old, new, self.config.beta))
        self.updates += 1

    def select(self, kept: Tensor, count: int) -> Tensor:
        """Columns (count,) int64, sorted, of the `count` most important of the tokens still there."""
        if not self.updates:
            raise RuntimeError("dynamic pruning before any score update: all scores tie")
        return self.value.index_select(0, kept).topk(count).indices.sort().values
