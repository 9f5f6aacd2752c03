"""Static pruning, once per action chunk: V_retain = V_global U V_dynamic U V_local per view.

Source: docs/explanation/method.md, Static pruning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from specprune_ros.prune.budgets import Budget
from specprune_ros.types import Source


def ranks(score: Tensor) -> Tensor:
    """Rank of every entry along the last axis, 0 = highest score; ties go to the lower index. Same shape, int64."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    positions = torch.arange(score.shape[-1], device=score.device).expand_as(order)
    return torch.zeros_like(order).scatter(-1, order, positions)


def select_static(
    local: Tensor, last_attention: Tensor | None, similarity: Tensor | None, threshold: float, budget: Budget
) -> tuple[Tensor, Tensor]:
    """Choose exactly `budget.static_keep` tokens of every view.

    local: (layers, V, N) scores of this pass; last_attention: (layers, V, N) scores of the last pass in original token
    space, -inf for tokens that did not reach the layer, or None; similarity: (V, N) of the patches to the reference
    frame, or None.

    The union of the three sets is kept. Spare slots take the next-best tokens by local attention; if the sets of
    several layers outgrow the budget, tokens chosen by more sources go first, then those that rank better within their
    set, then those of lower index, so that every engine keeps the same ones.

    Returns kept (V * static_keep,) int64 sorted original indices and sources (V, N) uint8 of `Source` bits.
    """
    sets = [(Source.LOCAL, local, None, budget.k_local), *_history(last_attention, similarity, threshold, budget)]
    rank = ranks(torch.cat([score for _, score, _, _ in sets])).split([score.shape[0] for _, score, _, _ in sets])
    chosen = []
    for (flag, _, valid, count), order in zip(sets, rank, strict=True):
        members, place = _top(order, count, valid)
        chosen.append(Chosen(flag, members, share_of(place, count)))
    return keep_union(chosen, chosen[0].share, budget.static_keep)


class Chosen(NamedTuple):
    """A set of tokens. members: (V, N) bool; share: (V, N) float32, how far down in its set a member ranks, 1 at its
    end."""

    flag: Source
    members: Tensor
    share: Tensor


def keep_union(chosen: Iterable[Chosen], fill: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Exactly `keep` tokens of every view: of the union of the sets, and of the rest those of the smallest `fill`, (V,
    N) float32. As `select_static` says, which also says what is returned."""
    best, sources = fill, torch.zeros_like(fill, dtype=torch.int64)
    counts = sources
    for flag, members, share in chosen:
        sources, counts = sources + members * int(flag), counts + members
        best = torch.where(members, torch.minimum(best, share), best)
    votes = counts.float()
    mask = ranks(votes * 4 - torch.where(votes > 0, best.clamp(max=1), best)) < keep
    sources = torch.where(votes > 0, sources, int(Source.FILL))
    return indices_of(mask, keep), marked(sources, mask)


def indices_of(mask: Tensor, keep: int) -> Tensor:
    """Indices (V * keep,) int64, sorted, of a mask (V, N) bool that is true `keep` times in every view."""
    views, patches = mask.shape
    # Falling values at the places that are kept: their indices come out sorted, and no value occurs twice.
    places = torch.arange(patches, device=mask.device)
    kept = torch.where(mask, patches - places, 0).topk(keep, dim=-1).indices
    return (kept + torch.arange(views, device=kept.device)[:, None] * patches).flatten()


def marked(sources: Tensor | int, mask: Tensor) -> Tensor:
    """(V, N) uint8: the `Source` bits of the tokens that are kept, of which all came so far; 0 for all others."""
    return ((sources + int(Source.AFTER_STATIC)) * mask).to(torch.uint8)


def share_of(place: Tensor, count: int) -> Tensor:
    """The share of a set of `count` that rank `place` takes. A product, which every engine rounds alike, and no
    quotient."""
    return (place + 1) * (1 / max(1, count))


def _history(
    last_attention: Tensor | None, similarity: Tensor | None, threshold: float, budget: Budget
) -> Iterator[tuple[Source, Tensor, Tensor, int]]:
    """(flag, scores (layers, V, N), valid (layers, V, N), count) of the sets that need an earlier chunk."""
    if last_attention is not None:
        yield Source.GLOBAL, last_attention, last_attention > -torch.inf, budget.k_global
    if similarity is not None:
        changed = similarity[None]
        yield Source.DYNAMIC, -changed, changed < threshold, budget.k_dynamic


def _top(rank: Tensor, count: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Union over layers of the top `count`: membership (V, N) bool and best rank (V, N)."""
    chosen = rank < count
    if valid is not None:
        chosen &= valid
    return chosen.any(0), rank.min(0).values
