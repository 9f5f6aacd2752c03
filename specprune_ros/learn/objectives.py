"""What training asks for besides imitation: targets that the simulator gives for free.

Vision stage: what every patch shows (colour or fixture, kind, how much of it) and where that thing is. Decoder stages:
the action chunk (L1), which visual tokens show the thing that the expert is heading for, and where that is from the
gripper, read from the proprio token and from the instruction's words. For the policy `robust` only, grounding: the
words' attention, in every layer, belongs on the patches that show what they name. Large models have that from web-scale
pre-training, and it is what SpecPrune-VLA's scores rest on; a small one must be taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.learn.demos import KIND_NAMES
from specprune_ros.learn.passes import all_tokens, pooled_labels, pooled_tokens, some_tokens, states
from specprune_ros.model.config import ModelConfig
from specprune_ros.model.vla import Vla
from specprune_ros.prune.layout import Layout
from specprune_ros.sim.scene import COLOURS

LOOKS = (*COLOURS, "plate", "button", "lit button")
"""What a patch can show."""
PLACE_CENTRE_M = (0.525, 0.0, 0.05)
PLACE_SCALE_M = 0.15
OFFSET_SCALE_M = 0.1
FAR_M = 0.08
"""Horizontal distance beyond which a row belongs to the approach from afar."""

VISIBLE_COVER = 0.15
"""A patch shows a thing when this share of it does."""


class VisionHeads(nn.Module):
    """Linear heads on the towers' features, only during training."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.look = nn.Linear(config.vision_width, len(LOOKS))
        self.kind = nn.Linear(config.vision_width, len(KIND_NAMES))
        self.place = nn.Linear(config.vision_width, 3)


class PolicyHeads(nn.Module):
    """Linear heads on the decoder's states, only during training."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.decoder.width
        self.named = nn.Linear(width, 1)
        self.offset = nn.Linear(width, 3)
        self.task_offset = nn.Linear(width, 3)


@dataclass(frozen=True)
class VisionBatch:
    """Labels of B pictures: look and kind (B, N) int64 of what covers most of a patch (any value where nothing does),
    share (B, N) of the patch that it covers, place (B, N, 3) where it is, scaled."""

    look: Tensor
    kind: Tensor
    share: Tensor
    place: Tensor


@dataclass(frozen=True)
class Batch:
    """Inputs and labels of B rows: features (B, V * N, vision width), proprio (B, P) normalised, prompt (B, 1 +
    n_prompt) ids, chunk (B, T, 7) normalised; shares (B, V * N) in [0, 1] of every patch that show the thing in focus,
    something that the goal names, anything; offset (B, 3) [m] to the thing in focus."""

    features: Tensor
    proprio: Tensor
    prompt: Tensor
    chunk: Tensor
    focus: Tensor
    about: Tensor
    anything: Tensor
    offset: Tensor


def vision_loss(heads: VisionHeads, features: Tensor, batch: VisionBatch) -> dict[str, Tensor]:
    """features (B, N, width)."""
    seen = batch.share > VISIBLE_COVER
    error = F.smooth_l1_loss(heads.place(features).float(), batch.place, beta=0.1, reduction="none").sum(-1)
    return {
        "look": 5 * _shares_loss(heads.look(features), batch.look, batch.share),
        "kind": 5 * _shares_loss(heads.kind(features), batch.kind, batch.share),
        "place": (error * seen).sum() / seen.sum().clamp(min=1),
    }


def _shares_loss(logits: Tensor, which: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of each class's share of a patch: that of one class is given, that of all others is 0."""
    wanted = torch.zeros_like(logits, dtype=torch.float32).scatter_(-1, which[..., None], share[..., None])
    return F.binary_cross_entropy_with_logits(logits.float(), wanted, pos_weight=wanted.new_tensor(4.0))


FIELD = 4
"""Cells along each side of a view in the random field that makes some regions likelier than others."""


def choose_subset(named: Tensor, anything: Tensor, views: int, count: int, generator: torch.Generator) -> Tensor:
    """(B, views * count) sorted indices: `count` random tokens per view, most of those that show what is named among
    them. named, anything: (B, V * N) shares, on the generator's device.

    Regions are drawn unevenly, differently in every sample, and other things are favoured in half of the samples: what
    a policy learns from evenly spread tokens leans on the average of the background, and fails when that changes.
    """
    batch, visual = named.shape
    patches = visual // views
    side = round(patches**0.5)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, device=generator.device)

    field = F.interpolate(rand(batch, views, FIELD, FIELD), size=(side, side), mode="bilinear").flatten(1)
    uneven = rand(batch, 1) * 3
    lost = rand(batch, visual) < 0.3 * rand(batch, 1)
    favoured = (named > 0) * 4.0 * ~lost + (anything > 0) * (rand(batch, 1) < 0.5)
    priority = (rand(batch, visual) + uneven * field + favoured).view(batch, views, patches)
    first = torch.arange(views, device=generator.device)[:, None] * patches
    index = priority.topk(count, dim=-1).indices + first
    return index.flatten(1).sort(-1).values


def policy_loss(
    model: Vla, heads: PolicyHeads, layout: Layout, batch: Batch, tokens: str, subset: Tensor | None = None
) -> dict[str, Tensor]:
    """Losses of one batch. tokens: "all", "pooled" or "parts", these with their indices `subset` (B, n)."""
    focus, about = batch.focus, batch.about
    if tokens == "pooled":
        seen = pooled_tokens(batch.features, layout.views)
        focus, about = pooled_labels(focus, layout.views), pooled_labels(about, layout.views)
    elif tokens == "parts":
        seen = some_tokens(batch.features, subset)
        focus, about = focus.gather(1, subset), about.gather(1, subset)
    else:
        seen = all_tokens(batch.features)
    x, scores = states(model, layout, seen, batch.proprio, batch.prompt)
    tail, first, count = x.shape[1] - layout.tail, layout.FIRST_VISUAL, scores.shape[-1]
    action = (model.action_head(x[:, layout.readout_rows(x.shape[1])]).float() - batch.chunk).abs()
    named = heads.named(x[:, first : first + count])[..., 0].float()
    words = x[:, layout.task_rows(x.shape[1])].mean(1)
    offset = batch.offset / OFFSET_SCALE_M
    return {
        "action": action.mean(),
        "named": F.binary_cross_entropy_with_logits(named, focus, pos_weight=named.new_tensor(8.0)),
        "offset": F.smooth_l1_loss(heads.offset(x[:, tail]).float(), offset, beta=0.1),
        "task_offset": F.smooth_l1_loss(heads.task_offset(words).float(), offset, beta=0.1),
        "grounding": grounding_loss(scores, about, layout.views),
        "far": _far(action, batch.offset),
    }


WEIGHTS = {
    "look": 1.0,
    "kind": 0.5,
    "place": 1.0,
    "action": 1.0,
    "named": 0.5,
    "offset": 0.5,
    "task_offset": 0.25,
}
"""Losses without a weight are watched only; that of grounding is the stage's."""


def total(losses: dict[str, Tensor], grounding: float = 0.0) -> Tensor:
    weights = WEIGHTS | ({"grounding": grounding} if grounding else {})
    return sum(weights[name] * loss for name, loss in losses.items() if name in weights)


def _far(action: Tensor, offset: Tensor) -> Tensor:
    """Translation error of the approach from afar, watched apart from the mean: it is what fails first."""
    far = offset[:, :2].norm(dim=-1) > FAR_M
    return (action[:, :, :3].mean((1, 2)) * far).sum() / far.sum().clamp(min=1)


def grounding_loss(scores: Tensor, named: Tensor, views: int) -> Tensor:
    """Cross-entropy of the words' attention over visual tokens (eq. 1 of the paper) against the patches that show what
    is named.

    scores (layers, B, n); named (B, n), views one after the other. Each view's patches get the same share of the
    target, so that a far camera's few are not outweighed by a near one's many.
    """
    seen = (named > VISIBLE_COVER).float().unflatten(1, (views, -1))
    target = seen / seen.sum(-1, keepdim=True).clamp(min=1)
    target = (target / target.sum((1, 2), keepdim=True).clamp(min=1)).flatten(1)
    share = scores / scores.sum(-1, keepdim=True)
    return -(target * (share + 1e-5).log()).sum(-1).mean()
