"""What the policy is trained on: imitation, and targets that the simulator gives for free.

Vision stage: the colour coverage of every patch and where the cube it shows is. Decoder stages: the action chunk (L1), which visual
tokens show the named cube, where that cube is relative to the gripper, read from the proprio token and the instruction's words, and
grounding: the words' attention, in every layer, belongs on the patches that show the named cube. Large models have that from web-scale
pre-training, and it is what SpecPrune-VLA's scores rest on; a small one must be taught.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.model.config import ModelConfig
from specprune_ros.model.decoder import Rope
from specprune_ros.model.vla import Vla
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.scores import task_attention

PLACE_CENTRE_M = (0.525, 0.0, 0.05)
PLACE_SCALE_M = 0.15
OFFSET_SCALE_M = 0.1
FAR_M = 0.08
"""Horizontal distance to the named cube beyond which a step belongs to the approach from afar."""

VISIBLE_COVER = 0.15
"""A patch shows a cube when this share of it does."""


class Auxiliary(nn.Module):
    """Linear heads that exist only during training."""

    def __init__(self, config: ModelConfig, colours: int):
        super().__init__()
        width = config.decoder.width
        self.cover = nn.Linear(config.vision_width, colours)
        self.place = nn.Linear(config.vision_width, 3)
        self.named = nn.Linear(width, 1)
        self.offset = nn.Linear(width, 3)
        self.task_offset = nn.Linear(width, 3)


@dataclass(frozen=True)
class Batch:
    """Inputs and labels of B steps: features (B, V * N, vision width), proprio (B, P) normalised, prompt (B, 1 + n_prompt) ids,
    chunk (B, T, 7) normalised, cover (B, V * N) of the named cube in [0, 1], any_cover (B, V * N) of any cube, offset (B, 3) [m]."""

    features: Tensor
    proprio: Tensor
    prompt: Tensor
    chunk: Tensor
    cover: Tensor
    any_cover: Tensor
    offset: Tensor

    def to(self, device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def vision_loss(aux: Auxiliary, features: Tensor, cover: Tensor, places: Tensor) -> dict[str, Tensor]:
    """features (B, N, width); cover (B, N, colours) in [0, 1]; places (B, colours, 3) of every colour's cube, in scaled units."""
    logits = aux.cover(features).float()
    share, colour = cover.max(-1)
    seen = share > VISIBLE_COVER
    target = places.gather(1, colour[..., None].expand(-1, -1, 3))
    error = F.smooth_l1_loss(aux.place(features).float(), target, beta=0.1, reduction="none").sum(-1)
    return {
        "cover": F.binary_cross_entropy_with_logits(logits, cover, pos_weight=logits.new_tensor(4.0)) * 5,
        "place": (error * seen).sum() / seen.sum().clamp(min=1),
    }


FIELD = 4
"""Cells along each side of a view in the random field that makes some regions likelier than others."""


def choose_subset(cover: Tensor, any_cover: Tensor, views: int, count: int, generator: torch.Generator) -> Tensor:
    """(B, views * count) sorted indices: `count` random tokens per view, most of those that show the named cube among them.

    Regions are drawn unevenly, differently in every sample, and other cubes are favoured in half of the samples: what a policy
    learns from evenly spread tokens leans on the average of the background, and fails when that changes.
    """
    batch, visual = cover.shape
    patches = visual // views
    side = round(patches**0.5)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    field = F.interpolate(rand(batch, views, FIELD, FIELD), size=(side, side), mode="bilinear").flatten(1)
    uneven = rand(batch, 1) * 3
    lost = rand(batch, visual) < 0.3 * rand(batch, 1)
    favoured = (cover > 0) * 4.0 * ~lost + (any_cover > 0) * (rand(batch, 1) < 0.5)
    priority = (rand(batch, visual) + uneven * field + favoured).view(batch, views, patches)
    index = priority.topk(count, dim=-1).indices + torch.arange(views)[:, None] * patches
    return index.flatten(1).sort(-1).values


def policy_loss(model: Vla, aux: Auxiliary, layout: Layout, batch: Batch, subset: Tensor | None) -> dict[str, Tensor]:
    """Losses of one batch; `subset` (B, n) original indices of the visual tokens to use, None: all."""
    states, scores = _states(model, layout, batch, subset)
    n_visual = scores.shape[-1]
    tail, first = states.shape[1] - layout.tail, layout.FIRST_VISUAL
    readout = layout.readout_rows(states.shape[1])
    action = (model.action_head(states[:, readout]).float() - batch.chunk).abs()
    cover = batch.cover if subset is None else batch.cover.gather(1, subset)
    named = aux.named(states[:, first : first + n_visual])[..., 0].float()
    words = states[:, layout.task_rows(states.shape[1])].mean(1)
    offset = batch.offset / OFFSET_SCALE_M
    return {
        "action": action.mean(),
        "named": F.binary_cross_entropy_with_logits(named, cover, pos_weight=named.new_tensor(8.0)),
        "offset": F.smooth_l1_loss(aux.offset(states[:, tail]).float(), offset, beta=0.1),
        "task_offset": F.smooth_l1_loss(aux.task_offset(words).float(), offset, beta=0.1),
        "grounding": grounding_loss(scores, cover, layout.views),
        "far": _far(action, batch.offset),
    }


WEIGHTS = {
    "cover": 1.0,
    "place": 1.0,
    "action": 1.0,
    "named": 0.5,
    "offset": 0.5,
    "task_offset": 0.25,
    "grounding": 0.2,
    "far": 0.0,
}


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(WEIGHTS[name] * loss for name, loss in losses.items())


def _far(action: Tensor, offset: Tensor) -> Tensor:
    """Translation error of the approach from afar, watched apart from the mean: it is what fails first."""
    far = offset[:, :2].norm(dim=-1) > FAR_M
    return (action[:, :, :3].mean((1, 2)) * far).sum() / far.sum().clamp(min=1)


def grounding_loss(scores: Tensor, cover: Tensor, views: int) -> Tensor:
    """Cross-entropy of the words' attention over visual tokens (method.md, eq. 1) against the patches that show the named cube.

    scores (layers, B, n); cover (B, n), views one after the other. Each view's patches get the same share of the target, so that a far
    camera's few are not outweighed by a near one's many.
    """
    seen = (cover > VISIBLE_COVER).float().unflatten(1, (views, -1))
    target = seen / seen.sum(-1, keepdim=True).clamp(min=1)
    target = (target / target.sum((1, 2), keepdim=True).clamp(min=1)).flatten(1)
    share = scores / scores.sum(-1, keepdim=True)
    return -(target * (share + 1e-5).log()).sum(-1).mean()


def _states(model: Vla, layout: Layout, batch: Batch, subset: Tensor | None) -> tuple[Tensor, Tensor]:
    """Final normed states of all rows (B, L, width), and eq. 1's scores of the visual tokens in every layer (layers, B, n)."""
    features = batch.features
    if subset is not None:
        features = features.gather(1, subset[..., None].expand(-1, -1, features.shape[-1]))
    visual = model.projector(features)
    x = model.assemble(visual, batch.proprio, batch.prompt)
    rope = model.rope(layout.length, x)
    if subset is not None:
        rope = _rope_of(rope, layout, subset)
    task, first, scores = layout.task_rows(x.shape[1]), layout.FIRST_VISUAL, []
    for layer in model.decoder.layers:
        x, rows = layer(x, rope, task)
        scores.append(task_attention(*rows)[..., first : first + visual.shape[1]].mean((1, 2)))
    return model.decoder.norm(x), torch.stack(scores)


def _rope_of(rope: Rope, layout: Layout, subset: Tensor) -> Rope:
    """Tables for each sample's own tokens, at their original positions."""
    batch, first = subset.shape[0], layout.FIRST_VISUAL
    before = torch.arange(first, device=subset.device).expand(batch, -1)
    tail = torch.arange(first + layout.visual, layout.length, device=subset.device).expand(batch, -1)
    rows = torch.cat((before, subset + first, tail), dim=1)
    return Rope(rope.table[:, rows][:, :, None])
