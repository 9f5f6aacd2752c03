"""The vision side: timm-style ViT towers whose patch features are concatenated and projected.

Source: docs/reference/openvla_oft.md, Vision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.model.attention import attend
from specprune_ros.model.config import ModelConfig, TowerConfig
from specprune_ros.prune.frames import patches

NORM_EPS = 1e-6


class LayerScale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_factor


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = attend(q, k, v, one_shape=True)
        return self.proj(out.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        scale = (lambda: LayerScale(config.width)) if config.layer_scale else nn.Identity
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.attn = Attention(config.width, config.heads)
        self.ls1 = scale()
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.mlp = Mlp(config.width, config.mlp)
        self.ls2 = scale()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """timm's patch convolution, computed as one matrix product over flattened patches."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, stride=config.patch)

    def forward(self, cut: Tensor) -> Tensor:
        """(B, N, patch * patch * 3) as `prune.frames.patches` orders them -> (B, N, width)."""
        return F.linear(cut, self.proj.weight.permute(0, 2, 3, 1).flatten(1), self.proj.bias)


class Tower(nn.Module):
    """One ViT in timm's key names. Only the blocks that feed the second-to-last block's output exist here."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid**2, config.width))
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth - 1))
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def forward(self, cut: Tensor) -> Tensor:
        """(B, N, patch * patch * 3) of values in [0, 1] -> (B, N, width) features of the second-to-last block, no
        final norm."""
        weight, pixels = self.patch_embed.proj.weight, self.config.patch**2
        mean, std = (value.flatten().repeat(pixels) for value in (self.mean, self.std))
        x = self.patch_embed(((cut - mean) / std).to(weight.dtype)) + self.pos_embed
        prefix = [getattr(self, name) for name in ("cls_token", "reg_token") if hasattr(self, name)]
        x = torch.cat([*(token.expand(x.shape[0], -1, -1) for token in prefix), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, self.config.prefix :]


class VisionBackbone(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.featurizer = Tower(config.towers[0])
        if config.fused:
            self.fused_featurizer = Tower(config.towers[1])
        self._beside: torch.cuda.Stream | None = None

    def __getstate__(self) -> dict[str, object]:
        """Without the stream, which cannot be copied: a copy makes its own."""
        return {**self.__dict__, "_beside": None}

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) floats in [0, 1] or (B, H, W, 3) uint8 -> (B, N, sum of tower widths)."""
        patch = self.featurizer.config.patch  # the same for both: they see one grid of one image
        if images.dtype == torch.uint8:
            cut = patches(images, patch).float() / 255
        else:
            cut = patches(images.movedim(1, -1), patch)
        return torch.cat(self._features(cut), dim=-1)

    def _features(self, cut: Tensor) -> list[Tensor]:
        """One tower after the other on a CPU; at the same time, on streams of their own, on a GPU: each leaves part
        of it idle."""
        first, *others = self.children()
        if not others or not cut.is_cuda:
            return [tower(cut) for tower in (first, *others)]
        here, self._beside = torch.cuda.current_stream(cut.device), self._beside or torch.cuda.Stream(cut.device)
        self._beside.wait_stream(here)
        with torch.cuda.stream(self._beside):
            second = others[0](cut)
        features = [first(cut), second]
        # Memory needs no record_stream: each stream waits for the other before it goes on to allocate again.
        here.wait_stream(self._beside)
        return features


class Projector(nn.Module):
    """Fused backbones: d -> 4d -> llm -> llm; a single backbone: d -> llm -> llm (docs/reference/openvla_oft.md,
    Files)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        vision, llm = config.vision_width, config.decoder.width
        self.fc1 = nn.Linear(vision, 4 * vision if config.fused else llm)
        self.fc2 = nn.Linear(self.fc1.out_features, llm)
        if config.fused:
            self.fc3 = nn.Linear(llm, llm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(F.gelu(self.fc1(x)))
        return self.fc3(F.gelu(x)) if hasattr(self, "fc3") else x
