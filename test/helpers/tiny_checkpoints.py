"""Small random checkpoints, for tests and for trying the node without the bundled weights.

`write_tiny_checkpoint` writes what this package saves; `write_upstream_checkpoint` what OpenVLA-OFT's own scripts leave
in a folder.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from specprune_ros.model.checkpoint import save_checkpoint
from specprune_ros.model.config import DecoderConfig, model_config
from specprune_ros.model.small import POLICY_CONFIG, tokenizer_json
from specprune_ros.model.stored import INDEX
from specprune_ros.model.towers import TowerConfig
from specprune_ros.model.vla import RESIDUAL_BLOCKS, Vla

TINY_TOWERS = {
    "vit_tiny_reg4_dinov2": dict(width=48, depth=3, heads=3, mlp=96, class_token=True, registers=4, layer_scale=True),
    "vit_tiny_siglip": dict(width=32, depth=4, heads=2, mlp=72, class_token=False, registers=0, layer_scale=False),
}
"""Towers of `upstream_config`. Upstream's config.json only names timm models: tests register these in
`towers.KNOWN_TOWERS`."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def tiny_config() -> dict:
    """A `config.json` with few, narrow layers and the bundled policy's token layout."""
    config = copy.deepcopy(POLICY_CONFIG)
    config["text_config"] |= {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
    }
    for tower in config["specprune"]["towers"].values():
        tower |= {"width": 16, "depth": 2, "heads": 1, "mlp": 32}
    return config


def write_tiny_checkpoint(folder: str | Path, seed: int = 0, config: dict | None = None) -> Path:
    """Random weights in `folder`, loadable by `load_checkpoint`; returns the folder."""
    torch.manual_seed(seed)
    config = config or tiny_config()
    model = Vla(model_config(config))
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=0.2)
    one = [1.0] * 7
    statistics = {
        "tiny": {
            "action": {"q01": [-x for x in one], "q99": one, "mask": [True] * 6 + [False]},
            "proprio": {"q01": [-1.0] * 8, "q99": [1.0] * 8},
        }
    }
    save_checkpoint(model, Path(folder), 0, config=config, statistics=statistics, tokenizer=tokenizer_json())
    return Path(folder)


def upstream_config(towers: tuple[str, ...] = tuple(TINY_TOWERS), **text: Any) -> dict:
    """A `config.json` as upstream writes it, in small; `text` adds to text_config. Nothing of ours is in it."""
    small = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 32064,
    }
    return {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "arch_specifier": "no-align+fused-gelu-mlp" if len(towers) == 2 else "no-align+gelu-mlp",
        "auto_map": {"AutoModelForVision2Seq": "modeling_prismatic.OpenVLAForActionPrediction"},
        "image_resize_strategy": "resize-naive",
        "image_sizes": [224] * len(towers),
        "n_action_bins": 256,
        "norm_stats": {"bridge_orig": {}},
        "text_config": {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", **small, **text},
        "timm_model_ids": list(towers),
        "timm_override_act_layers": [None] * len(towers),
        "use_fused_vision_backbone": len(towers) == 2,
    }


def upstream_statistics(action_dims: int = 7, proprio_dims: int = 8) -> dict:
    """A `dataset_statistics.json` as upstream writes it, with one suite."""

    def entry(dims: int) -> dict:
        low, high = [-0.5 - 0.1 * i for i in range(dims)], [0.4 + 0.1 * i for i in range(dims)]
        outer = {"min": [2 * x for x in low], "max": [2 * x for x in high]}
        return {"mean": [0.0] * dims, "std": [0.3] * dims, **outer, "q01": low, "q99": high}

    mask = {"mask": [True] * (action_dims - 1) + [False]}
    proprio = {"proprio": entry(proprio_dims)} if proprio_dims else {}
    counts = {"num_transitions": 52970, "num_trajectories": 432}
    return {"libero_spatial_no_noops": {"action": entry(action_dims) | mask, **proprio, **counts}}


def write_upstream_checkpoint(
    folder: str | Path,
    config: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    shards: int = 3,
    proprio_dims: int = 8,
    action_dims: int = 7,
    preprocessor: Mapping[str, Any] | None = None,
) -> Path:
    """Random weights under upstream's names, with what upstream stores and nobody reads; returns the folder.

    Language model and head in bf16, proprio projector in fp32, both part files as parallel training leaves them
    (`module.`).
    """
    folder, config = Path(folder), config or upstream_config()
    folder.mkdir(parents=True, exist_ok=True)
    sizes = model_config(config)
    generator = torch.Generator().manual_seed(seed)
    width = sizes.decoder.width
    body = {name: _random(name, shape, generator) for name, shape in _body(sizes.towers, sizes.decoder)}
    _write_shards(folder, body, shards)
    head = _tensors(_head(width, action_dims), generator, torch.bfloat16)
    torch.save(head, folder / "action_head--latest_checkpoint.pt")
    if proprio_dims:
        projector = _tensors(
            [*_linear("fc1", proprio_dims, width), *_linear("fc2", width, width)], generator, torch.float32
        )
        torch.save(projector, folder / "proprio_projector--latest_checkpoint.pt")
    files = {"config.json": config, "dataset_statistics.json": upstream_statistics(action_dims, proprio_dims)}
    for name, content in (files | ({"preprocessor_config.json": preprocessor} if preprocessor else {})).items():
        (folder / name).write_text(json.dumps(content, indent=2))
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return folder


def _write_shards(folder: Path, body: Mapping[str, Tensor], count: int) -> None:
    names = sorted(body)
    size = -(-len(names) // count)
    weight_map = {}
    for number in range(count):
        shard = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = names[number * size : (number + 1) * size]
        save_file({name: body[name] for name in part}, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    total = sum(tensor.nbytes for tensor in body.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2))


def _tensors(shapes, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
    return {f"module.{name}": _random(name, shape, generator).to(dtype) for name, shape in shapes}


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """bf16 of a size that keeps activations near 1: matrices by their fan-in, gains around 1."""
    noise = torch.randn(shape, generator=generator)
    gain = len(shape) == 1 and not name.endswith("bias")
    fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 25
    return (noise * fan_in**-0.5 + float(gain)).to(torch.bfloat16)


def _body(towers: tuple[TowerConfig, ...], d: DecoderConfig) -> Shapes:
    for field, tower in zip(("featurizer", "fused_featurizer"), towers, strict=False):
        yield from ((f"vision_backbone.{field}.{name}", shape) for name, shape in _tower(tower))
    vision = sum(tower.width for tower in towers)
    hidden = [4 * vision, d.width, d.width] if len(towers) == 2 else [d.width, d.width]
    for number, (fan_in, out) in enumerate(zip([vision, *hidden], hidden, strict=False), start=1):
        yield from _linear(f"projector.fc{number}", fan_in, out)
    yield "language_model.model.embed_tokens.weight", (d.vocab, d.width)
    yield "language_model.model.norm.weight", (d.width,)
    yield "language_model.lm_head.weight", (d.vocab, d.width)
    for i in range(d.layers):
        layer, kv = f"language_model.model.layers.{i}", d.kv_heads * d.head_dim
        for part, rows in (("q_proj", d.width), ("k_proj", kv), ("v_proj", kv), ("o_proj", d.width)):
            yield f"{layer}.self_attn.{part}.weight", (rows, d.width)
        yield f"{layer}.mlp.gate_proj.weight", (d.mlp, d.width)
        yield f"{layer}.mlp.up_proj.weight", (d.mlp, d.width)
        yield f"{layer}.mlp.down_proj.weight", (d.width, d.mlp)
        yield f"{layer}.input_layernorm.weight", (d.width,)
        yield f"{layer}.post_attention_layernorm.weight", (d.width,)


def _tower(t: TowerConfig) -> Shapes:
    """A timm VisionTransformer's state, final norm included, and SigLIP's attention pool where there is no class
    token."""
    yield "pos_embed", (1, t.grid**2, t.width)
    yield "patch_embed.proj.weight", (t.width, 3, t.patch, t.patch)
    yield "patch_embed.proj.bias", (t.width,)
    if t.class_token:
        yield "cls_token", (1, 1, t.width)
    if t.registers:
        yield "reg_token", (1, t.registers, t.width)
    for i in range(t.depth):
        block = f"blocks.{i}"
        yield from (*_norm(f"{block}.norm1", t.width), *_norm(f"{block}.norm2", t.width))
        yield from (
            *_linear(f"{block}.attn.qkv", t.width, 3 * t.width),
            *_linear(f"{block}.attn.proj", t.width, t.width),
        )
        yield from (*_linear(f"{block}.mlp.fc1", t.width, t.mlp), *_linear(f"{block}.mlp.fc2", t.mlp, t.width))
        if t.layer_scale:
            yield from ((f"{block}.{scale}.scale_factor", (t.width,)) for scale in ("ls1", "ls2"))
    yield from _norm("norm", t.width)
    if not t.class_token:
        yield "attn_pool.latent", (1, 1, t.width)
        yield from (*_linear("attn_pool.q", t.width, t.width), *_linear("attn_pool.kv", t.width, 2 * t.width))
        yield from (*_linear("attn_pool.proj", t.width, t.width), *_norm("attn_pool.norm", t.width))
        yield from (*_linear("attn_pool.mlp.fc1", t.width, t.mlp), *_linear("attn_pool.mlp.fc2", t.mlp, t.width))


def _head(width: int, dims: int) -> Shapes:
    yield from (*_norm("model.layer_norm1", width * dims), *_linear("model.fc1", width * dims, width))
    for block in range(RESIDUAL_BLOCKS):
        ffn = f"model.mlp_resnet_blocks.{block}.ffn"
        yield from (*_norm(f"{ffn}.0", width), *_linear(f"{ffn}.1", width, width))
    yield from (*_norm("model.layer_norm2", width), *_linear("model.fc2", width, dims))


def _linear(name: str, fan_in: int, out: int) -> Shapes:
    yield f"{name}.weight", (out, fan_in)
    yield f"{name}.bias", (out,)


def _norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
