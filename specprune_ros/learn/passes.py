"""Training passes of the decoder: on all visual tokens, on parts of them, or on tokens pooled from 2 x 2 patches.

Parts keep their original positions. A pooled token stands at its block's centre, and its key counts four times (its
logit is raised by log 4), as four equal tokens would: what was learned on pooled tokens then nearly holds for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from specprune_ros.model.config import DecoderConfig
from specprune_ros.model.decoder import DecoderLayer, Rope
from specprune_ros.model.vla import Vla
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.scores import task_attention

BLOCK = 2
"""Patches along each side of what is pooled into one token."""


@dataclass(frozen=True)
class Tokens:
    """The visual tokens of a pass. features (B, n, width); places (B or 1, n) float: positions among all visual tokens;
    copies: how many tokens each one stands for."""

    features: Tensor
    places: Tensor
    copies: int = 1


def all_tokens(features: Tensor) -> Tokens:
    """features (B, V * N, width): every token where it is."""
    return Tokens(features, torch.arange(features.shape[1], device=features.device, dtype=torch.float32)[None])


def some_tokens(features: Tensor, subset: Tensor) -> Tokens:
    """subset (B, n): indices of the tokens to use."""
    return Tokens(features.gather(1, subset[..., None].expand(-1, -1, features.shape[-1])), subset.float())


def pooled_tokens(features: Tensor, views: int) -> Tokens:
    """features (B, V * N, width) -> V * N / 4 tokens, the means of 2 x 2 blocks."""
    batch, visual, width = features.shape
    side = math.isqrt(visual // views)
    grid = features.view(batch * views, side, side, width).permute(0, 3, 1, 2)
    means = F.avg_pool2d(grid.float(), BLOCK).to(features.dtype)
    index = torch.arange(visual, device=features.device, dtype=torch.float32).view(views, 1, side, side)
    places = F.avg_pool2d(index, BLOCK).flatten()[None]
    return Tokens(means.permute(0, 2, 3, 1).reshape(batch, -1, width), places, BLOCK**2)


def pooled_labels(labels: Tensor, views: int) -> Tensor:
    """(B, V * N) shares of patches -> (B, V * N / 4) shares of blocks."""
    batch, visual = labels.shape
    side = math.isqrt(visual // views)
    return F.avg_pool2d(labels.view(batch, views, side, side), BLOCK).flatten(1)


def states(model: Vla, layout: Layout, tokens: Tokens, proprio: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Final normed states of all rows (B, L, width), and eq. 1's scores of the visual tokens in every layer
    (layers, B, n)."""
    x = model.assemble(model.projector(tokens.features), proprio, prompt)
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype  # of queries and keys
    rope = rope_at(model.config.decoder, _positions(layout, tokens.places), dtype)
    first, count = layout.FIRST_VISUAL, tokens.features.shape[1]
    bias = None
    if tokens.copies > 1:
        bias = x.new_zeros(x.shape[1])
        bias[first : first + count] = math.log(tokens.copies)
    task, scores = layout.task_rows(x.shape[1]), []
    for layer in model.decoder.layers:
        x, rows = layer_pass(layer, x, rope, bias, task)
        scores.append(task_attention(*rows)[..., first : first + count].mean((1, 2)))
    return model.decoder.norm(x), torch.stack(scores)


def layer_pass(layer: DecoderLayer, x: Tensor, rope: Rope, bias: Tensor | None, task: slice):
    """As the layer itself, with `bias` (L,) added to the logits of the keys."""
    q, k, v = layer._project(layer.input_layernorm(x), rope)
    out = attend(q, k, v, bias)
    x = x + layer.o_proj(out.transpose(1, 2).flatten(2))
    return x + layer._mlp(layer.post_attention_layernorm(x)), (q[:, :, task], k)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """(B, heads, L, d) each -> (B, heads, L, d).

    On a CPU by plain products: their backward is faster than SDPA's at 600 tokens and about as fast at 200.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype).expand(1, 1, 1, -1))
    logits = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul((logits if bias is None else logits + bias).softmax(-1), v)


def rope_at(config: DecoderConfig, positions: Tensor, dtype) -> Rope:
    """Rotary tables at any positions (B or 1, L) float, which need not be whole: (2, B or 1, 1, L, head_dim)."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32) / config.head_dim
    angles = positions[..., None] / config.rope_theta**half
    angles = torch.cat((angles, angles), dim=-1)
    return Rope(torch.stack((angles.cos(), angles.sin()))[:, :, None].to(dtype))


def _positions(layout: Layout, places: Tensor) -> Tensor:
    """(B or 1, L) of all rows: the tail stands where it stands with all visual tokens."""
    batch, first = places.shape[0], layout.FIRST_VISUAL
    before = torch.arange(first, device=places.device, dtype=torch.float32).expand(batch, -1)
    tail = torch.arange(first + layout.visual, layout.length, device=places.device, dtype=torch.float32)
    return torch.cat((before, places + first, tail.expand(batch, -1)), dim=1)
