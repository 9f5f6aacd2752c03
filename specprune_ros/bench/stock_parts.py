"""The two big parts of the stock baseline: transformers' Llama and timm's ViTs on given weights, or the same
operations here.

transformers is a dependency of the package, timm comes with its extra `stock`. Where one cannot be imported, a plain
torch version with the same operations runs instead, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.model.config import DecoderConfig
from specprune_ros.model.vision import Block, Tower

Weights = Mapping[str, Tensor]
"""Under upstream's names (`model.names`)."""

TRANSFORMERS_SINCE = (4, 48)
"""The first version whose SDPA attention can be told not to be causal."""


def llama(weights: Weights, config: DecoderConfig, libraries: bool) -> tuple[Callable[[Tensor], Tensor], str]:
    """((1, L, width) embeddings -> (1, L, width) states after the final norm, what runs it)."""
    own = _below(weights, "language_model.model.")
    return _or_plain(_transformers_llama, PlainLlama, "transformers", own, config, libraries)


def tower(weights: Weights, prefix: str, ours: Tower, libraries: bool) -> tuple[Callable[[Tensor], Tensor], str]:
    """((1, 3, H, W) normalised -> (1, N, width) features of the second-to-last block, what runs it)."""
    own = _below(weights, prefix)
    return _or_plain(_timm_tower, PlainTower, "timm", own, ours, libraries)


def _or_plain(build, plain, package: str, weights: Weights, sizes, libraries: bool):
    """By the package where it is wanted and works, by plain torch otherwise; and which of them it is."""
    if not libraries:
        return plain(weights, sizes), "plain torch, as asked"
    try:
        return build(weights, sizes)
    except Exception as error:  # a missing or broken install raises anything
        return plain(weights, sizes), f"plain torch, same operations; pip install {package} ({_first_line(error)})"


def _transformers_llama(weights: Weights, c: DecoderConfig) -> tuple[Callable[[Tensor], Tensor], str]:
    import transformers
    from transformers.models.llama.modeling_llama import LlamaConfig, LlamaModel, LlamaRotaryEmbedding

    version = transformers.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < TRANSFORMERS_SINCE:
        raise ImportError(f"transformers {version} cannot attend in both directions; 4.48 or newer can")
    sizes = dict(hidden_size=c.width, intermediate_size=c.mlp, num_hidden_layers=c.layers, vocab_size=c.vocab)
    heads = dict(num_attention_heads=c.heads, num_key_value_heads=c.kv_heads)
    settings = LlamaConfig(
        **sizes, **heads, rms_norm_eps=c.norm_eps, rope_theta=c.rope_theta, attn_implementation="sdpa"
    )
    with torch.device("meta"):
        model = LlamaModel(settings)
    model.load_state_dict(weights, assign=True)
    with weights["norm.weight"].device:
        model.rotary_emb = LlamaRotaryEmbedding(config=settings)
    for layer in model.layers:
        layer.self_attn.is_causal = False
    model.eval().requires_grad_(False)
    return lambda x: model(inputs_embeds=x, use_cache=True).last_hidden_state, f"transformers {version}"


class PlainLlama:
    """transformers' Llama, operation for operation, without its modules."""

    def __init__(self, weights: Weights, config: DecoderConfig):
        self.config, self.norm = config, weights["norm.weight"]
        self.layers = [_below(weights, f"layers.{number}.") for number in range(config.layers)]

    def __call__(self, x: Tensor) -> Tensor:
        c = self.config
        half = torch.arange(0, c.head_dim, 2, device=x.device).float() / c.head_dim
        angles = torch.arange(x.shape[1], device=x.device).float()[:, None] / c.rope_theta**half
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = x + self._attend(layer, self._norm(x, layer["input_layernorm.weight"]), cos, sin)
            y = self._norm(x, layer["post_attention_layernorm.weight"])
            gate, up = F.linear(y, layer["mlp.gate_proj.weight"]), F.linear(y, layer["mlp.up_proj.weight"])
            x = x + F.linear(F.silu(gate) * up, layer["mlp.down_proj.weight"])
        return self._norm(x, self.norm)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.config.norm_eps)
        return weight * wide.to(x.dtype)

    def _attend(self, layer: Weights, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        c = self.config
        q, k, v = (
            F.linear(x, layer[f"self_attn.{name}_proj.weight"]).unflatten(-1, (-1, c.head_dim)).transpose(1, 2)
            for name in "qkv"
        )
        q, k = q * cos + _turned(q) * sin, k * cos + _turned(k) * sin
        if c.heads != c.kv_heads:
            k, v = (part.repeat_interleave(c.heads // c.kv_heads, dim=1) for part in (k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return F.linear(out.transpose(1, 2).flatten(2), layer["self_attn.o_proj.weight"])


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def _timm_tower(weights: Weights, ours: Tower) -> tuple[Callable[[Tensor], Tensor], str]:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    c, like = ours.config, ours.pos_embed
    with torch.device(like.device):
        model = VisionTransformer(
            img_size=c.image,
            patch_size=c.patch,
            embed_dim=c.width,
            depth=c.depth,
            num_heads=c.heads,
            mlp_ratio=(c.mlp + 0.5) / c.width,  # timm rounds width * ratio down
            class_token=c.class_token,
            reg_tokens=c.registers,
            no_embed_class=True,
            init_values=1.0 if c.layer_scale else None,
            num_classes=0,
            global_pool="",
        ).to(like.dtype)
    theirs = {name.replace("scale_factor", "gamma"): tensor for name, tensor in weights.items()}
    if surplus := model.load_state_dict(theirs, strict=False, assign=True).unexpected_keys:
        raise RuntimeError(f"timm {timm.__version__} has no place for {surplus[0]}")
    model.eval().requires_grad_(False)
    index = {c.depth - 2}
    return lambda x: model.get_intermediate_layers(x, n=index)[0], f"timm {timm.__version__}"


class PlainTower:
    """timm's ViT: patches by a convolution, then all stored blocks, the features kept one block before the end."""

    def __init__(self, weights: Weights, ours: Tower):
        self.weights, self.config = weights, ours.config
        with torch.device(ours.pos_embed.device):
            last = Block(ours.config).to(ours.pos_embed.dtype).requires_grad_(False)
        self.blocks: list[nn.Module] = [*ours.blocks, last]

    def __call__(self, x: Tensor) -> Tensor:
        w, c = self.weights, self.config
        x = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=c.patch)
        x = x.flatten(2).transpose(1, 2) + w["pos_embed"]
        x = torch.cat([*(w[name] for name in ("cls_token", "reg_token") if name in w), x], dim=1)
        for block in self.blocks:
            before, x = x, block(x)
        return before[:, c.prefix :]


def _below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
