"""Sizes of an OpenVLA-OFT style model, read from a checkpoint's `config.json`; nothing about 7B is hard-wired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LLAMA_DEFAULTS = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
"""transformers' `LlamaConfig()` defaults: `text_config` holds only the differences from them (openvla_oft.md)."""

OFT_DEFAULTS = {
    "views": 2,
    "proprio_dims": 8,
    "chunk_steps": 8,
    "action_dims": 7,
    "center_crop": True,
    "jpeg_round_trip": True,
    "suffix_token_id": 29871,
    "stop_token_id": 2,
}
"""What an upstream checkpoint does not say about itself; ours says it under the key `specprune`."""

KNOWN_TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": dict(
        width=1024, depth=24, heads=16, mlp=4096, class_token=True, registers=4, layer_scale=True
    ),
    "vit_so400m_patch14_siglip_224": dict(
        width=1152, depth=27, heads=16, mlp=4304, class_token=False, registers=0, layer_scale=False
    ),
}
"""timm model ids used by OpenVLA."""

NORMALISATION = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True)
class TowerConfig:
    """One timm ViT. `depth` counts stored blocks; features come from the second-to-last, so depth - 1 blocks run."""

    name: str
    width: int
    depth: int
    heads: int
    mlp: int
    class_token: bool
    registers: int
    layer_scale: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int = 14
    image: int = 224

    @property
    def prefix(self) -> int:
        return int(self.class_token) + self.registers

    @property
    def grid(self) -> int:
        return self.image // self.patch


@dataclass(frozen=True)
class DecoderConfig:
    """A Llama decoder."""

    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    norm_eps: float
    rope_theta: float

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class ModelConfig:
    """The whole model: towers -> projector -> decoder -> 8 x 7 chunk."""

    towers: tuple[TowerConfig, ...]
    decoder: DecoderConfig
    views: int
    proprio_dims: int
    chunk_steps: int
    action_dims: int
    center_crop: bool
    jpeg_round_trip: bool
    suffix_token_id: int | None
    stop_token_id: int

    @property
    def image_size(self) -> int:
        return self.towers[0].image

    @property
    def grid(self) -> int:
        return self.towers[0].grid

    @property
    def patches(self) -> int:
        """Visual tokens per view."""
        return self.grid**2

    @property
    def placeholders(self) -> int:
        return self.chunk_steps * self.action_dims

    @property
    def fused(self) -> bool:
        return len(self.towers) == 2

    @property
    def vision_width(self) -> int:
        return sum(tower.width for tower in self.towers)


def model_config(config: dict[str, Any], preprocessor: dict[str, Any] | None = None) -> ModelConfig:
    """ModelConfig from the parsed `config.json` (and `preprocessor_config.json`); ValueError names what is wrong."""
    if config.get("model_type") != "openvla":
        raise ValueError(f"config.json: model_type is {config.get('model_type')!r}; this loader reads 'openvla'")
    oft = {**OFT_DEFAULTS, **config.get("specprune", {})}
    towers = oft.pop("towers", {})
    return ModelConfig(towers=_towers(config, preprocessor or {}, towers), decoder=_decoder(config), **oft)


def _decoder(config) -> DecoderConfig:
    text = {**LLAMA_DEFAULTS, **config.get("text_config", {})}
    if text["hidden_size"] % text["num_attention_heads"]:
        raise ValueError(
            f"config.json: hidden_size {text['hidden_size']} is not a multiple of "
            f"num_attention_heads {text['num_attention_heads']}"
        )
    return DecoderConfig(
        width=text["hidden_size"],
        mlp=text["intermediate_size"],
        layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        kv_heads=text["num_key_value_heads"] or text["num_attention_heads"],
        vocab=text["vocab_size"],
        norm_eps=text["rms_norm_eps"],
        rope_theta=text["rope_theta"],
    )


def _towers(config, preprocessor, described) -> tuple[TowerConfig, ...]:
    ids = config["timm_model_ids"][: 2 if config.get("use_fused_vision_backbone", True) else 1]
    sizes = config.get("image_sizes", [224] * len(ids))
    fallback = (NORMALISATION["imagenet"], NORMALISATION["half"])
    means = preprocessor.get("means", [mean for mean, _ in fallback])
    stds = preprocessor.get("stds", [std for _, std in fallback])
    towers = []
    for index, name in enumerate(ids):
        dims = described.get(name) or KNOWN_TOWERS.get(name)
        if dims is None:
            raise ValueError(f"config.json: unknown vision tower {name!r}; known: {', '.join(KNOWN_TOWERS)}")
        towers.append(
            TowerConfig(name=name, image=sizes[index], mean=tuple(means[index]), std=tuple(stds[index]), **dims)
        )
    if len({tower.grid for tower in towers}) != 1:
        raise ValueError("config.json: the two vision towers have different patch grids")
    return tuple(towers)
