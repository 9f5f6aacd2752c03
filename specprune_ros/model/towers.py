"""Sizes of the vision towers: which timm ViT, which input, which normalisation of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SIGLIP_SO400M = dict(width=1152, depth=27, heads=16, mlp=4304, class_token=False, registers=0, layer_scale=False)
KNOWN_TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": dict(
        width=1024, depth=24, heads=16, mlp=4096, class_token=True, registers=4, layer_scale=True
    ),
    "vit_so400m_patch14_siglip_224": SIGLIP_SO400M,
    "vit_so400m_patch14_siglip_384": SIGLIP_SO400M,
}
"""timm model ids of the DINOv2 and SigLIP towers in OpenVLA; others can be described under `specprune.towers`."""
EXACT_GELU = (None, "gelu")
"""Spellings of the one activation that these towers compute (timm's `gelu` is the exact one)."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


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


def read_towers(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> tuple[TowerConfig, ...]:
    """The one or two towers of a parsed `config.json`; ValueError names what is wrong."""
    names = _names(config)
    sizes = config.get("image_sizes") or [224] * len(names)
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"image_sizes is {sizes!r}; expected one side length in pixels per vision tower")
    if len(sizes) < len(names):
        raise ValueError(f"image_sizes has {len(sizes)} entries for {len(names)} vision towers; give one per tower")
    described = (config.get("specprune") or {}).get("towers", {})
    towers = tuple(
        TowerConfig(name=name, image=sizes[index], **_pixels(preprocessor, index, name), **_dims(name, described))
        for index, name in enumerate(names)
    )
    for tower in towers[1:]:
        if (tower.image, tower.grid) != (towers[0].image, towers[0].grid):
            raise ValueError(
                f"the vision towers see different grids: {towers[0].grid} patches a side at {towers[0].image} px and "
                f"{tower.grid} at {tower.image} px; one token per patch needs equal ones"
            )
    return towers


def _names(config: Mapping[str, Any]) -> list[str]:
    names, fused = config.get("timm_model_ids"), config.get("use_fused_vision_backbone")
    count = (2 if fused else 1) if fused is not None else len(names or (None,))
    if not isinstance(names, list) or not 0 < count <= min(len(names), 2):
        raise ValueError(f"timm_model_ids is {names!r}; expected the timm ids of {count} vision towers")
    activations = config.get("timm_override_act_layers") or [None] * count
    for name, activation in zip(names[:count], activations, strict=False):
        if activation not in EXACT_GELU:
            raise ValueError(
                f"vision tower {name!r} has activation {activation!r}; these towers compute only exact GELU"
            )
    return names[:count]


def _dims(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    dims = described.get(name) or _known(name)
    if dims is None:
        raise ValueError(
            f"unknown vision tower {name!r}; known: {', '.join(KNOWN_TOWERS)}; others can be described in "
            "specprune.towers"
        )
    if dims["width"] % dims["heads"]:
        raise ValueError(f"vision tower {name!r}: width {dims['width']} is not a multiple of its {dims['heads']} heads")
    return dims


def _known(name: str) -> dict[str, Any] | None:
    """Sizes by timm id. A repository before it (`hf_hub:timm/`) and a tag behind it (`.webli`) say which weights, not
    which sizes."""
    by_architecture = {known.partition(".")[0]: dims for known, dims in KNOWN_TOWERS.items()}
    return KNOWN_TOWERS.get(name) or by_architecture.get(str(name).rpartition("/")[2].partition(".")[0])


def _pixels(preprocessor: Mapping[str, Any], index: int, name: str) -> dict[str, tuple[float, ...]]:
    """mean and std per channel of one tower; without a preprocessor_config.json those that the tower was trained
    with."""
    fallback = dict(zip(("means", "stds"), HALF if "siglip" in name else IMAGENET, strict=True))
    pixels = {}
    for key in ("means", "stds"):
        rows = preprocessor.get(key) or [fallback[key]] * (index + 1)
        row = rows[index] if isinstance(rows, list) and index < len(rows) else None
        three = isinstance(row, (list, tuple)) and len(row) == 3
        if not three or not all(type(x) in (int, float) and math.isfinite(x) for x in row):
            raise ValueError(
                f"preprocessor_config.json: {key} has no three numbers for vision tower {index + 1}: {row!r}"
            )
        pixels[key.removesuffix("s")] = tuple(row)
    if min(pixels["std"]) <= 0:
        raise ValueError(
            f"preprocessor_config.json: stds of vision tower {index + 1} are {pixels['std']}; expected > 0"
        )
    return pixels
