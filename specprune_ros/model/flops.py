"""Analytic cost of one inference: multiply-adds of the matrix products, two FLOP each (openvla_oft.md, Cost model)."""

from __future__ import annotations

from collections.abc import Sequence

from .config import DecoderConfig, ModelConfig, TowerConfig


def tower_flop(tower: TowerConfig) -> float:
    """One image through one tower: patch embedding and the blocks that run."""
    patches, width = tower.grid**2, tower.width
    length = patches + tower.prefix
    block = 2 * length * (4 * width**2 + 2 * width * tower.mlp) + 4 * length**2 * width
    return 2 * patches * 3 * tower.patch**2 * width + (tower.depth - 1) * block


def projector_flop(config: ModelConfig) -> float:
    """One view through the projector."""
    vision, llm = config.vision_width, config.decoder.width
    sizes = [(vision, 4 * vision), (4 * vision, llm), (llm, llm)] if config.fused else [(vision, llm), (llm, llm)]
    return sum(2 * config.patches * a * b for a, b in sizes)


def layer_flop(config: DecoderConfig, length: int, rows: int | None = None) -> float:
    """One decoder layer over `length` tokens; `rows` queries only (keys and values still of all tokens)."""
    rows = length if rows is None else rows
    width, kv = config.width, config.kv_heads * config.head_dim
    projections = 2 * rows * 2 * width**2 + 2 * length * 2 * width * kv
    return projections + 2 * rows * 3 * width * config.mlp + 4 * rows * length * width


def head_flop(config: ModelConfig) -> float:
    width, dims = config.decoder.width, config.action_dims
    return 2 * config.chunk_steps * (dims * width**2 + 2 * width**2 + width * dims)


def inference_flop(config: ModelConfig, layer_lengths: Sequence[int]) -> float:
    """One inference in which layer i processed `layer_lengths[i]` tokens; the last computes only the rows that are read."""
    vision = config.views * (sum(map(tower_flop, config.towers)) + projector_flop(config))
    decoder = sum(layer_flop(config.decoder, length) for length in layer_lengths[:-1])
    last = layer_flop(config.decoder, layer_lengths[-1], config.placeholders)
    return vision + decoder + last + head_flop(config)
