"""A Llama decoder with bidirectional attention, exposed layer by layer so that tokens can leave on the way.

Query/key/value and gate/up projections are fused; `checkpoint.py` splits and joins them. Rotary embeddings follow each
token's ORIGINAL position for the whole pass (docs/explanation/method.md, Setting).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.model.attention import attend
from specprune_ros.model.config import DecoderConfig

PRODUCTS = ("qkv", "o_proj", "gate_up", "down_proj")
"""The products of a layer with its weights, in the order of the pass."""


@dataclass(frozen=True)
class Rope:
    """Rotary tables of the tokens present: cos and sin, (2, L, head_dim), or (2, B, 1, L, head_dim) where samples
    differ."""

    table: Tensor

    def rotate(self, x: Tensor) -> Tensor:
        """x (B, heads, L, head_dim) in Llama's half-split convention."""
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * self.table[0] + turned * self.table[1]

    def take(self, rows: Tensor) -> Rope:
        return Rope(self.table.index_select(1, rows))


def rope_table(config: DecoderConfig, length: int, device, dtype) -> Rope:
    """Tables for positions 0..length-1."""
    half = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32) / config.head_dim
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] / config.rope_theta**half
    angles = torch.cat((angles, angles), dim=-1)
    return Rope(torch.stack((angles.cos(), angles.sin())).to(dtype))


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        width, dim = config.width, config.head_dim
        self.input_layernorm = RmsNorm(width, config.norm_eps)
        self.qkv = nn.Linear(width, (config.heads + 2 * config.kv_heads) * dim, bias=False)
        self.o_proj = nn.Linear(config.heads * dim, width, bias=False)
        self.post_attention_layernorm = RmsNorm(width, config.norm_eps)
        self.gate_up = nn.Linear(width, 2 * config.mlp, bias=False)
        self.down_proj = nn.Linear(config.mlp, width, bias=False)

    def forward(
        self, x: Tensor, rope: Rope, task: slice | None = None, rows: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """One layer.

        x: (B, L, width). task: rows whose attention is wanted; their queries (B, heads, T, d) and all keys (B, heads,
        L, d) are returned for `task_attention`. rows: compute the output of these query rows only (the last layer
        needs no others); default all.
        """
        q, k, v = self._project(self.input_layernorm(x), rope)
        scored = None if task is None else (q[:, :, task], k)
        if rows is not None:
            q, x = q.index_select(2, rows), x.index_select(1, rows)
        out = attend(q, k, v)
        x = x + self.o_proj(out.transpose(1, 2).flatten(2))
        return x + self._mlp(self.post_attention_layernorm(x)), scored

    def _project(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        heads = self.qkv(x).unflatten(-1, (c.heads + 2 * c.kv_heads, c.head_dim)).transpose(1, 2)
        turned, v = heads.split((c.heads + c.kv_heads, c.kv_heads), dim=1)
        q, k = rope.rotate(turned).split((c.heads, c.kv_heads), dim=1)
        if c.kv_heads != c.heads:
            repeat = c.heads // c.kv_heads
            k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        return q, k, v

    def _mlp(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.norm_eps)
