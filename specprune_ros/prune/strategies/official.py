"""`specprune_official`: the method as the authors' released code has it, as far as fixed shapes allow.

Source: docs/explanation/method.md, The profiles `paper` and `official`; what is left out, docs/reference/strategies.md,
The released code.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.dynamic import Importance
from specprune_ros.prune.layout import PLACEHOLDERS, TASK
from specprune_ros.prune.static import Chosen, keep_union, ranks, share_of
from specprune_ros.prune.strategies.protocol import Evidence, Start, required
from specprune_ros.types import Source

RANK_SLOPE, BETA = 1.0, 0.2
UNCHANGED = (0.986, 0.98)
"""Similarity from which on a patch may count as unchanged, of the first view and of every other one."""


class Official:
    """Other counts for every view and layer, more changed patches where much moves, and importance that the action
    placeholders decide about, at other layers."""

    name, rows, later_rows, remembers, noisy = "specprune_official", TASK, PLACEHOLDERS, True, False

    def select_static(self, seen: Evidence, threshold: float, budget: Budget) -> tuple[Tensor, Tensor]:
        """As `Strategy` says. The threshold is the released code's and not the configured one."""
        sets, scores = budget.sets, required(seen.scores)
        layers = [tuple(view.k_local[min(layer, 1)] for view in sets) for layer in range(scores.shape[0])]
        local = _top(Source.LOCAL, scores, layers)
        chosen = [local]
        if seen.last_attention is not None:
            counts = [tuple(view.k_global for view in sets)] * seen.last_attention.shape[0]
            chosen.append(_top(Source.GLOBAL, seen.last_attention, counts))
        if seen.similarity is not None:
            chosen.append(_changed(seen.similarity, tuple(view.k_dynamic for view in sets)))
        return keep_union(chosen, local.share, budget.static_keep)

    def ranking(self, start: Start) -> Importance:
        """`Importance` with the released code's constants."""
        constants = replace(start.dynamic, rank_slope=RANK_SLOPE, beta=BETA, confidence="visual_entropy")
        return Importance(start.visual, constants, start.device, start.fold)


def _top(flag: Source, scores: Tensor, counts: list[tuple[int, ...]]) -> Chosen:
    """The union over layers of the best of every view. scores: (layers, V, N), -inf where there is none; counts: of
    every layer and view."""
    members, shares = [], []
    for score, rank, of_views in zip(scores, ranks(scores), counts, strict=True):
        found, share = _places(rank, of_views)
        members.append(found & (score > -torch.inf))
        shares.append(share)
    return Chosen(flag, torch.stack(members).any(0), torch.stack(shares).min(0).values)


def _changed(similarity: Tensor, counts: tuple[int, ...]) -> Chosen:
    """All but the patches most alike: at least `counts` of every view, more where more are below the similarity of
    unchanged ones."""
    least, share = _places(ranks(-similarity), counts)
    thresholds = (UNCHANGED[0], *(UNCHANGED[1],) * (len(counts) - 1))
    below = torch.stack([row < threshold for row, threshold in zip(similarity, thresholds, strict=True)])
    return Chosen(Source.DYNAMIC, (least | below) & (similarity < torch.inf), share)


def _places(rank: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Of ranks (V, N): which are among the first `counts` of their view, and their share of that."""
    rows = list(zip(rank, counts, strict=True))
    members = torch.stack([row < count for row, count in rows])
    return members, torch.stack([share_of(row, count) for row, count in rows])
