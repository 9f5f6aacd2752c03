"""Sizes of an OpenVLA-OFT style model, read from a checkpoint's `config.json`; nothing about 7B is hard-wired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specprune_ros.config import PolicySettings
from specprune_ros.model.llama import DecoderConfig, read_decoder
from specprune_ros.model.towers import TowerConfig, read_towers

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
    "action_units": None,
}
"""What an upstream checkpoint does not say about itself; ours says it under the key `specprune`."""
NORMALISATIONS = ("quantiles", "min_max")
ACTION_UNITS = (None, "normalised", "metres")


@dataclass(frozen=True)
class ModelConfig:
    """The whole model: towers -> projector -> decoder -> chunk_steps x action_dims.

    action_units: what the checkpoint says about its actions ("normalised" or "metres"), None where it does not.
    """

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
    action_units: str | None = None

    @property
    def fixed_tokens(self) -> int:
        """Length of the sequence without the prompt: visual tokens, proprio token, placeholders and the stop token."""
        return self.views * self.patches + int(self.proprio_dims > 0) + self.placeholders + 1

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
    settings: PolicySettings | None = None,
    parts: PartDims | None = None,
) -> ModelConfig:
    """ModelConfig from the parsed `config.json` and `preprocessor_config.json`; ValueError names what is wrong.

    What `config.json` does not say comes from `parts`, else from OFT_DEFAULTS; `settings` overrides it.
    """
    if config.get("model_type") != "openvla":
        raise ValueError(f"model_type is {config.get('model_type')!r}; this loader reads 'openvla'")
    section = config.get("specprune") or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"specprune is {section!r}; expected an object")
    facts = _facts(section, settings or PolicySettings(), parts)
    return ModelConfig(towers=read_towers(config, preprocessor or {}), decoder=read_decoder(config), **facts)


def _facts(section: Mapping[str, Any], settings: PolicySettings, parts: PartDims | None) -> dict[str, Any]:
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
    for name, least in (
        ("views", 1),
        ("chunk_steps", 1),
        ("action_dims", 1),
        ("proprio_dims", 0),
        ("stop_token_id", 0),
    ):
        if type(facts[name]) is not int or facts[name] < least:
            raise ValueError(f"specprune.{name} is {facts[name]!r}; expected a whole number of at least {least}")
    suffix = facts["suffix_token_id"]
    if suffix is not None and (type(suffix) is not int or suffix < 0):
        raise ValueError(f"specprune.suffix_token_id is {suffix!r}; expected a token id, or null for none")
    for name in ("center_crop", "jpeg_round_trip"):
        if type(facts[name]) is not bool:
            raise ValueError(f"specprune.{name} is {facts[name]!r}; expected true or false")
    for name, choices in (("normalisation", NORMALISATIONS), ("action_units", ACTION_UNITS)):
        if facts[name] not in choices:
            listed = " or ".join(choice for choice in choices if choice)
            raise ValueError(f"specprune.{name} is {facts[name]!r}; expected {listed}")
