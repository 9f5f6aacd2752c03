"""Upstream's tensor names and ours, in both directions.

Ours differ only in the decoder, whose query/key/value and gate/up projections are fused (docs/reference/openvla_oft.md,
Files in a checkpoint folder).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from specprune_ros.model.config import ModelConfig

OUTER = {
    "decoder.embed_tokens.weight": "language_model.model.embed_tokens.weight",
    "decoder.norm.weight": "language_model.model.norm.weight",
}
LAYER = {
    "input_layernorm.weight": ("input_layernorm.weight",),
    "qkv.weight": tuple(f"self_attn.{x}_proj.weight" for x in "qkv"),
    "o_proj.weight": ("self_attn.o_proj.weight",),
    "post_attention_layernorm.weight": ("post_attention_layernorm.weight",),
    "gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "down_proj.weight": ("mlp.down_proj.weight",),
}
"""Our parameter of a decoder layer -> the stored tensors that make it up, one below the other."""

NEVER_READ = re.compile(
    r"language_model\.(lm_head\.|model\.layers\.\d+\.self_attn\.rotary_emb\.)"
    r"|vision_backbone\.(fused_)?featurizer\.(norm|fc_norm|attn_pool|head)\."
)
"""Stored by upstream but without influence on continuous actions, like every ViT's last block."""


@dataclass(frozen=True)
class Piece:
    """One stored tensor and the rows of our parameter that it fills."""

    stored: str
    parameter: str
    rows: slice
    shape: tuple[int, ...]


def pieces(model: nn.Module, config: ModelConfig) -> Iterator[Piece]:
    """What every parameter of `model` (a Vla, possibly on the meta device) is read from."""
    sizes = fused_sizes(config)
    for name, parameter in model.named_parameters():
        sources = stored_names(name)
        start = 0
        for source, count in zip(sources, sizes.get(_kind(name), (parameter.shape[0],)), strict=True):
            yield Piece(source, name, slice(start, start + count), (count, *parameter.shape[1:]))
            start += count


def stored_names(parameter: str) -> tuple[str, ...]:
    """Upstream's names for one of our parameters."""
    if parameter in OUTER:
        return (OUTER[parameter],)
    if not parameter.startswith("decoder.layers."):
        return (parameter,)
    _, _, number, rest = parameter.split(".", 3)
    return tuple(f"language_model.model.layers.{number}.{part}" for part in LAYER[rest])


def split(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our tensors under upstream's names."""
    sizes = fused_sizes(config)
    theirs = {}
    for name, tensor in state.items():
        parts = tensor.split(sizes.get(_kind(name), (tensor.shape[0],)))
        theirs |= {source: part.contiguous() for source, part in zip(stored_names(name), parts, strict=True)}
    return theirs


def fused_sizes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Rows of the parts of the decoder's fused parameters."""
    d = config.decoder
    kv = d.kv_heads * d.head_dim
    return {"decoder.qkv.weight": (d.heads * d.head_dim, kv, kv), "decoder.gate_up.weight": (d.mlp, d.mlp)}


def never_read(name: str, config: ModelConfig) -> bool:
    """True for stored tensors that this model has no use for and that upstream ships all the same."""
    last_blocks = tuple(
        f"vision_backbone.{field}.blocks.{tower.depth - 1}."
        for field, tower in zip(("featurizer", "fused_featurizer"), config.towers, strict=False)
    )
    return name.startswith(last_blocks) or NEVER_READ.match(name) is not None


def _kind(parameter: str) -> str:
    """`decoder.layers.3.qkv.weight` -> `decoder.qkv.weight`: the key of `fused_sizes`."""
    return re.sub(r"^decoder\.layers\.\d+\.", "decoder.", parameter)
