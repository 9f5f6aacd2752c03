"""The 7B model's exact shape with random weights, made on the device: for measuring, where no weights need to be
downloaded.

Latency does not depend on the values: token budgets are fixed, so shapes and work are those of the real checkpoint.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from specprune_ros.model.checkpoint import Checkpoint
from specprune_ros.model.config import ModelConfig, model_config
from specprune_ros.model.prompt import Prompt
from specprune_ros.model.statistics import Statistics, bounds_of
from specprune_ros.model.vla import Vla

OPENVLA_7B = {
    "model_type": "openvla",
    "architectures": ["OpenVLAForActionPrediction"],
    "use_fused_vision_backbone": True,
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    "image_sizes": [224, 224],
    "text_config": {"model_type": "llama", "vocab_size": 32064},
}
"""`config.json` of the OpenVLA-OFT checkpoints, as far as shapes go: Llama-2-7B, DINOv2 ViT-L/14, SigLIP SO400M/14."""

_SMALL_TOWER = dict(width=32, depth=3, heads=2, mlp=64)
OPENVLA_TINY = {
    **OPENVLA_7B,
    "text_config": dict(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=8,
        num_attention_heads=2,
        vocab_size=128,
        rms_norm_eps=1e-6,
    ),
    "specprune": {
        "towers": {
            OPENVLA_7B["timm_model_ids"][0]: dict(**_SMALL_TOWER, class_token=True, registers=4, layer_scale=True),
            OPENVLA_7B["timm_model_ids"][1]: dict(**_SMALL_TOWER, class_token=False, registers=0, layer_scale=False),
        }
    },
}
"""The same path and the same 605 tokens in a width that a CPU runs in milliseconds: to try the benchmark, not to
measure."""

SCALES = {"full": OPENVLA_7B, "tiny": OPENVLA_TINY}

BEFORE, TASK, AFTER = 9, 20, 5
"""Llama tokens, BOS apart, before, in and after the instruction: a long LIBERO one, 605 tokens in all
(docs/reference/openvla_oft.md)."""

ACTION_STD = 0.1
"""Actions this small are never clipped, so that two forwards can be compared by them."""


class FixedPrompt:
    """Stands in for a tokenizer: every instruction takes the tokens of a long LIBERO instruction."""

    def __init__(self, vocabulary: int):
        self.vocabulary = vocabulary

    def encode(self, instruction: str) -> Prompt:
        ids = tuple(1 + i % (self.vocabulary - 1) for i in range(1 + BEFORE + TASK + AFTER))
        return Prompt(ids, (BEFORE, BEFORE + TASK))

    def known_instruction(self) -> str:
        return "put the black bowl between the plate and the ramekin on the plate"


def random_checkpoint(
    config: dict, device: str | torch.device, dtype: torch.dtype, seed: int = 0, name: str = "random"
) -> Checkpoint:
    """A checkpoint of the shape in `config` (a `config.json`), built directly on `device`; no file and no host copy."""
    sizes = model_config(config)
    with torch.device("meta"):
        model = Vla(sizes).to(dtype)
    model.to_empty(device=device)
    fill(model, sizes, torch.Generator(device).manual_seed(seed))
    model.eval().requires_grad_(False)
    statistics = Statistics("random", _unit(sizes.action_dims, gripper=True), _unit(sizes.proprio_dims))
    return Checkpoint(model, sizes, statistics, FixedPrompt(sizes.decoder.vocab), Path(name), name)


@torch.no_grad()
def fill(model: Vla, config: ModelConfig, generator: torch.Generator) -> None:
    """Random values under which activations stay near unit size through any depth.

    Weights have std 1 / sqrt(inputs); those that write into a residual stream of n layers 1 / sqrt(2 n) of that, so
    that the stream grows by a factor of about 1.4 in all. Norms are the identity.
    """
    layers = config.decoder.layers
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        inputs = 1 if "embed_tokens" in name else math.prod(parameter.shape[1:])
        writes = name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.fc2.weight"))
        shrink = 1 / math.sqrt(2 * layers) if writes else 1.0
        parameter.normal_(0.0, shrink / math.sqrt(inputs), generator=generator)
    for name in ("pos_embed", "cls_token", "reg_token"):
        for parameter in _named(model.vision_backbone, name):
            parameter.normal_(0.0, 0.1, generator=generator)
    model.action_head.model.fc2.weight.mul_(ACTION_STD)
    for tower, sizes in zip(model.vision_backbone.children(), config.towers, strict=True):
        tower.mean = torch.tensor(sizes.mean, device=tower.pos_embed.device).view(3, 1, 1)
        tower.std = torch.tensor(sizes.std, device=tower.pos_embed.device).view(3, 1, 1)


def _named(module: nn.Module, name: str) -> list[Tensor]:
    return [parameter for key, parameter in module.named_parameters() if key.endswith(name)]


def _unit(dims: int, gripper: bool = False):
    """Bounds of [-1, 1]; the last dimension, a gripper, passes unchanged."""
    if not dims:
        return None
    mask = [True] * (dims - gripper) + [False] * gripper
    return bounds_of({"q01": [-1.0] * dims, "q99": [1.0] * dims, "mask": mask})
