"""Dynamic pruning on the way through the decoder: layer-wise importance with confidence and a moving average.

Source: docs/explanation/method.md, Dynamic pruning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from specprune_ros.config import Dynamic
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.scores import mean_entropy
from specprune_ros.prune.static import ranks

EPS = 1e-6

LOG_OF_ZERO = -1e30
"""Stands for the logarithm of 0: finite, so that differences of it are numbers."""


def log_rank_weight(score: Tensor, logarithms: Tensor) -> Tensor:
    """Logarithm of w_rank,i = sigmoid(-k rank_i) / sum_j sigmoid(-k rank_j), rank 0 = highest score. score (n,),
    logarithms (n,) `by_rank` -> (n,) float32."""
    return logarithms.index_select(0, ranks(score))


@cache  # captured graphs hold on to these tensors, which must therefore never be dropped
def by_rank(count: int, slope: float, device: torch.device) -> Tensor:
    """The logarithms of the weights of ranks 0 .. count - 1, which depend on nothing else: (count,) float32."""
    steps = slope * np.arange(count, dtype=np.float64)
    logs = -np.logaddexp(0.0, steps)
    with torch.inference_mode(False):
        return torch.from_numpy(logs - np.logaddexp.reduce(logs)).float().to(device)


def folded(
    log: Tensor, attention: Tensor, score: Tensor, kept: Tensor, logarithms: Tensor, kind: str, beta: float
) -> Tensor:
    """log S (visual,) after one more layer. attention (1, heads, T, L); score, kept (n,): of the visual tokens present;
    logarithms (n,): `by_rank`; kind: of confidence."""
    weight = confidence(attention, score, kind)
    new = log_rank_weight(score, logarithms) + weight.clamp(min=torch.finfo(weight.dtype).tiny).log()
    old = log.index_select(0, kept) + _log(1.0 - beta)
    return log.scatter(0, kept, _log_of_sum(old, new + _log(beta)))


def confidence(attention: Tensor, score: Tensor, kind: str) -> Tensor:
    """w_conf of a layer: 1 / (mean attention entropy + eps), or mean / (std + eps) of the visual scores (paper v1), or
    for `visual_entropy` the first with the entropy of rows averaged over heads, as shares of the visual tokens, and in
    units of the largest possible one (released code)."""
    if kind == "entropy":
        return 1.0 / (mean_entropy(attention) + EPS)
    if kind == "visual_entropy":
        count = score.shape[0]
        rows = attention[:, :, :, Layout.FIRST_VISUAL : Layout.FIRST_VISUAL + count].mean(1, keepdim=True)
        shares = rows / rows.sum(-1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
        return 1.0 / (mean_entropy(shares) / max(1.0, math.log(count)) + EPS)
    return score.mean() / (score.std(correction=0) + EPS)


Fold = Callable[..., Tensor]
"""`folded`, or a faster form of it."""


class Importance:
    """S = (1 - beta) S + beta w_rank w_conf, kept in ORIGINAL token space; S starts at 0.

    What is kept is log S: with a rank slope of 1, the authors' value, weights fall below the smallest float32 from
    rank 89 on, and all later tokens would tie.
    """

    def __init__(self, visual: int, config: Dynamic, device: torch.device | None = None, fold: Fold = folded):
        self.config, self.fold = config, fold
        self.log = torch.full((visual,), LOG_OF_ZERO, device=device)
        self.updates = 0

    def update(self, attention: Tensor, score: Tensor, kept: Tensor) -> None:
        """Fold in one layer. attention: (1, heads, T, L); score: (n,) eq. 1 of the visual tokens present, whose
        original indices are `kept` (n,)."""
        c, logarithms = self.config, by_rank(int(score.numel()), self.config.rank_slope, score.device)
        self.log = self.fold(self.log, attention, score, kept, logarithms, c.confidence, c.beta)
        self.updates += 1

    def select(self, kept: Tensor, count: int) -> Tensor:
        """Columns (count,) int64, sorted, of the `count` most important tokens. kept: (n,) int64, the original indices
        of the tokens that are still there, n >= count. RuntimeError before the first `update`."""
        if not self.updates:
            raise RuntimeError("dynamic pruning before any score update: all scores tie")
        return self.log.index_select(0, kept).topk(count).indices.sort().values


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else LOG_OF_ZERO


def _log_of_sum(one: Tensor, two: Tensor) -> Tensor:
    """log(e^one + e^two), of finite numbers."""
    return torch.maximum(one, two) + (-(one - two).abs()).exp().log1p()
