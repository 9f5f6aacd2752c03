"""OpenVLA-OFT's dense forward straight from the formulas in docs/reference/openvla_oft.md, in plain float64 torch
without a single module.

Independent of specprune_ros.model on purpose: it reads the checkpoint's files by upstream's names and shares no code.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tensors_of(folder: Path) -> dict:
    state = {}
    for path in folder.glob("*.safetensors"):
        state |= load_file(path)
    for part in ("action_head", "proprio_projector"):
        for path in folder.glob(f"{part}--*.pt"):
            state |= {f"{part}.{k.replace('module.', '')}": v for k, v in torch.load(path, weights_only=True).items()}
    return {name: tensor.double() for name, tensor in state.items()}


def layer_norm(x, w, b, eps):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(-1, keepdim=True) + eps).sqrt() * w + b


def rms(x, w, eps):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w


def linear(s, name, x):
    y = x @ s[name + ".weight"].T
    return y + s[name + ".bias"] if name + ".bias" in s else y


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def attend(q, k, v, allowed=None):
    """(heads, L, d) each -> (L, heads * d) and the probabilities; `allowed` (L,) bool keys."""
    logits = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    p = torch.exp(logits - logits.amax(-1, keepdim=True))
    p = p / p.sum(-1, keepdim=True)
    return (p @ v).permute(1, 0, 2).flatten(1), p


def split_heads(x, heads):
    return x.view(x.shape[0], heads, -1).permute(1, 0, 2)


def tower(s, prefix, dims, image, mean, std):
    """One image (3, 224, 224) in [0, 1] -> (256, width): the second-to-last block's patch tokens."""
    pixels = (image - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(3, 1, 1)
    weight = s[prefix + "patch_embed.proj.weight"]
    tokens = []
    for row in range(16):
        for column in range(16):
            patch = pixels[:, 14 * row : 14 * row + 14, 14 * column : 14 * column + 14]
            tokens.append((weight * patch).sum((1, 2, 3)) + s[prefix + "patch_embed.proj.bias"])
    x = torch.stack(tokens) + s[prefix + "pos_embed"][0]
    front = [s[prefix + n][0] for n in ("cls_token", "reg_token") if prefix + n in s]
    x = torch.cat([*front, x])
    for i in range(dims["depth"] - 1):
        p = f"{prefix}blocks.{i}."
        scale = [s.get(p + f"ls{n}.scale_factor", 1.0) for n in (1, 2)]
        h = layer_norm(x, s[p + "norm1.weight"], s[p + "norm1.bias"], 1e-6)
        q, k, v = (split_heads(part, dims["heads"]) for part in linear(s, p + "attn.qkv", h).chunk(3, -1))
        x = x + scale[0] * linear(s, p + "attn.proj", attend(q, k, v)[0])
        h = layer_norm(x, s[p + "norm2.weight"], s[p + "norm2.bias"], 1e-6)
        x = x + scale[1] * linear(s, p + "mlp.fc2", gelu(linear(s, p + "mlp.fc1", h)))
    return x[sum(len(f) for f in front) :]


def rotate(x, positions, theta):
    """RoPE by rotating pairs (i, i + d/2), one position at a time."""
    half = x.shape[-1] // 2
    out = x.clone()
    for column, position in enumerate(positions):
        for i in range(half):
            angle = position * theta ** (-2 * i / x.shape[-1])
            a, b = x[:, column, i], x[:, column, i + half]
            out[:, column, i] = a * math.cos(angle) - b * math.sin(angle)
            out[:, column, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


class Reference:
    """The model of a checkpoint folder. `decode` takes a hook that may forbid tokens as keys after each layer.

    towers: sizes by timm id, for checkpoints that do not carry them; steps: actions in a chunk.
    """

    def __init__(self, folder: Path, towers=None, steps=8):
        self.s, self.steps = tensors_of(folder), steps
        config = json.loads((folder / "config.json").read_text())
        self.text = config["text_config"]
        self.eps = self.text.get("rms_norm_eps", 1e-6)
        self.theta = self.text.get("rope_parameters", self.text).get("rope_theta", 10000.0)
        towers = towers or config["specprune"]["towers"]
        self.towers = [towers[name] for name in config["timm_model_ids"]]
        self.pixels = [((0.5,) * 3,) * 2 if "siglip" in name else IMAGENET for name in config["timm_model_ids"]]
        if (file := folder / "preprocessor_config.json").exists():
            given = json.loads(file.read_text())
            self.pixels = list(zip(given["means"], given["stds"], strict=True))

    def encode(self, images):
        """(V, 3, 224, 224) in [0, 1] -> (V * 256, width)."""
        views = []
        for image in images.double():
            parts = [
                tower(self.s, f"vision_backbone.{name}.", dims, image, *stat)
                for name, dims, stat in zip(("featurizer", "fused_featurizer"), self.towers, self.pixels, strict=False)
            ]
            x = torch.cat(parts, -1)
            x = linear(self.s, "projector.fc2", gelu(linear(self.s, "projector.fc1", x)))
            views.append(x if len(parts) == 1 else linear(self.s, "projector.fc3", gelu(x)))
        return torch.cat(views)

    def assemble(self, visual, proprio, ids):
        words = self.s["language_model.model.embed_tokens.weight"][torch.tensor([*ids, 2])]
        state = []
        if proprio is not None:
            state = [
                linear(
                    self.s, "proprio_projector.fc2", gelu(linear(self.s, "proprio_projector.fc1", proprio.double()))
                )[None]
            ]
        blank = torch.zeros(7 * self.steps, words.shape[1]).double()
        return torch.cat([words[:1], visual, *state, words[1:-1], blank, words[-1:]])

    def decode(self, x, after=None):
        """(L, width) -> (L, width) before the final norm. after(layer, probabilities (heads, L, L), allowed) ->
        allowed."""
        heads = self.text["num_attention_heads"]
        groups = self.text.get("num_key_value_heads", heads)
        allowed = torch.ones(len(x), dtype=torch.bool)
        for i in range(self.text["num_hidden_layers"]):
            p = f"language_model.model.layers.{i}."
            h = rms(x, self.s[p + "input_layernorm.weight"], self.eps)
            counts = {"q": heads, "k": groups, "v": groups}
            q, k, v = (split_heads(linear(self.s, p + f"self_attn.{n}_proj", h), counts[n]) for n in "qkv")
            q, k = (rotate(each, range(len(x)), self.theta) for each in (q, k))
            k, v = (torch.stack([each[head * groups // heads] for head in range(heads)]) for each in (k, v))
            out, probabilities = attend(q, k, v, allowed)
            x = x + linear(self.s, p + "self_attn.o_proj", out)
            h = rms(x, self.s[p + "post_attention_layernorm.weight"], self.eps)
            gate = linear(self.s, p + "mlp.gate_proj", h)
            x = x + linear(
                self.s, p + "mlp.down_proj", gate / (1 + torch.exp(-gate)) * linear(self.s, p + "mlp.up_proj", h)
            )
            if after:
                allowed = after(i + 1, probabilities, allowed)
        return x

    def act(self, x):
        """States of the whole sequence -> (steps, 7) normalised actions; reads 7 * steps states from one before the
        placeholders."""
        states = rms(x, self.s["language_model.model.norm.weight"], self.eps)[-7 * self.steps - 2 : -2].view(
            self.steps, -1
        )
        m = "action_head.model."
        h = layer_norm(states, self.s[m + "layer_norm1.weight"], self.s[m + "layer_norm1.bias"], 1e-5)
        h = linear(self.s, m + "fc1", h).clamp(min=0)
        for block in range(2):
            f = f"{m}mlp_resnet_blocks.{block}.ffn."
            normed = layer_norm(h, self.s[f + "0.weight"], self.s[f + "0.bias"], 1e-5)
            h = h + linear(self.s, f + "1", normed).clamp(min=0)
        h = layer_norm(h, self.s[m + "layer_norm2.weight"], self.s[m + "layer_norm2.bias"], 1e-5)
        return linear(self.s, m + "fc2", h)
