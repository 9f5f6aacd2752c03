"""Sizes of an OpenVLA-OFT style model, read from a checkpoint's `config.json`; nothing about 7B is hard-wired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specprune_ros.config import Policy as Settings
from specprune_ros.model.towers import TowerConfig, read_towers

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

LLAMA_ONLY = {
    "model_type": "llama",
    "hidden_act": "silu",
    "rope_scaling": None,
    "rope_parameters": None,
    "attention_bias": False,
    "mlp_bias": False,
}
"""Settings of a text model that change its arithmetic, and the one value that this decoder computes."""

OFT_DEFAULTS = {
    "views": 2,
    "proprio_dims": 8,
    "chunk_steps": 8,
    "action_dims": 7,
    "center_crop": True,
    "jpeg_round_trip": True,
    "normalisation": "quantiles",
    "suffix_token_id": 29871,
    "stop_token_id": 2,
}
"""What an upstream checkpoint does not say about itself; ours says it under the key `specprune`."""


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
    """The whole model: towers -> projector -> decoder -> chunk_steps x action_dims."""

    towers: tuple[TowerConfig, ...]
    decoder: DecoderConfig
    views: int
    proprio_dims: int
    chunk_steps: int
    action_dims: int
    center_crop: bool
    jpeg_round_trip: bool
    normalisation: str
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


@dataclass(frozen=True)
class PartDims:
    """What the tensors beside the language model say. proprio: inputs of the proprio projector, 0 without one."""

    actions: int
    proprio: int


def model_config(
    config: Mapping[str, Any],
    preprocessor: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    parts: PartDims | None = None,
) -> ModelConfig:
    """ModelConfig from the parsed `config.json` and `preprocessor_config.json`; ValueError names what is wrong.

    What `config.json` does not say comes from `parts`, else from OFT_DEFAULTS; `settings` overrides it.
    """
    if config.get("model_type") != "openvla":
        raise ValueError(f"model_type is {config.get('model_type')!r}; this loader reads 'openvla'")
    facts = _facts(config.get("specprune", {}), settings or Settings(), parts)
    return ModelConfig(towers=read_towers(config, preprocessor or {}), decoder=_decoder(config), **facts)


def _facts(section: Mapping[str, Any], settings: Settings, parts: PartDims | None) -> dict[str, Any]:
    """The fields of OFT_DEFAULTS: settings, else the section `specprune`, else the part files, else the defaults."""
    said = {name: value for name, value in section.items() if name != "towers"}
    if unknown := sorted(said.keys() - OFT_DEFAULTS.keys()):
        raise ValueError(f"specprune.{unknown[0]} is not known; known: {', '.join(OFT_DEFAULTS)}, towers")
    facts = {**OFT_DEFAULTS, **said}
    if parts:
        facts["action_dims"] = _agreed("action_dims", said, parts.actions, "action_head")
        facts["proprio_dims"] = _proprio_dims(said, settings.proprio, parts.proprio)
    facts["views"] = settings.views or facts["views"]
    facts["chunk_steps"] = settings.chunk_steps or facts["chunk_steps"]
    if settings.center_crop != "auto":
        facts["center_crop"] = settings.center_crop == "on"
    if settings.normalisation != "auto":
        facts["normalisation"] = settings.normalisation
    _check_facts(facts)
    return facts


def _proprio_dims(said: Mapping[str, Any], choice: str, stored: int) -> int:
    """Inputs of the proprio token, 0 for none; `choice` is the parameter policy.proprio."""
    if choice == "off" or (choice == "auto" and said.get("proprio_dims") == 0):
        return 0
    if not stored and (choice == "on" or said.get("proprio_dims")):
        asks = "policy.proprio is 'on'" if choice == "on" else f"specprune.proprio_dims is {said['proprio_dims']}"
        raise ValueError(
            f"{asks}, but there is no proprio_projector--<step>_checkpoint.pt; copy it, or say proprio: off"
        )
    return _agreed("proprio_dims", said, stored, "proprio_projector") if said.get("proprio_dims") else stored


def _agreed(name: str, said: Mapping[str, Any], stored: int, part: str) -> int:
    if said.get(name, stored) != stored:
        raise ValueError(f"specprune.{name} is {said[name]}, but the tensors of the {part} file say {stored}")
    return stored


def _check_facts(facts: Mapping[str, Any]) -> None:
    for name in ("views", "chunk_steps", "action_dims"):
        if type(facts[name]) is not int or facts[name] < 1:
            raise ValueError(f"specprune.{name} is {facts[name]!r}; expected a whole number of at least 1")
    if facts["normalisation"] not in ("quantiles", "min_max"):
        raise ValueError(f"specprune.normalisation is {facts['normalisation']!r}; expected quantiles or min_max")


def _decoder(config: Mapping[str, Any]) -> DecoderConfig:
    given = config.get("text_config", {})
    text = {**LLAMA_DEFAULTS, **given}
    for name, value in LLAMA_ONLY.items():
        if given.get(name, value) != value:
            raise ValueError(f"text_config.{name} is {given[name]!r}; this decoder computes only {value!r}")
    width, heads = text["hidden_size"], text["num_attention_heads"]
    kv_heads = text["num_key_value_heads"] or heads
    if width % heads:
        raise ValueError(f"text_config: hidden_size {width} is not a multiple of num_attention_heads {heads}")
    if heads % kv_heads:
        raise ValueError(
            f"text_config: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    if (given.get("head_dim") or width // heads) != width // heads:
        raise ValueError(
            f"text_config.head_dim is {given['head_dim']}; this decoder has hidden_size / num_attention_heads = {width // heads}"
        )
    return DecoderConfig(
        width=width,
        mlp=text["intermediate_size"],
        layers=text["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        vocab=text["vocab_size"],
        norm_eps=text["rms_norm_eps"],
        rope_theta=text["rope_theta"],
    )
