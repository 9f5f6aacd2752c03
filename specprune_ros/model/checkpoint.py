"""Reading and writing checkpoints in OpenVLA-OFT's layout (openvla_oft.md, Files in a checkpoint folder).

Tensor files are read without executing code: safetensors, and `torch.load(weights_only=True)` for the two `.pt` files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..types import BadInput
from .config import ModelConfig, model_config
from .prompt import PromptEncoder
from .statistics import Statistics, read_statistics
from .vla import Vla

SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"
CHECKSUMS = "SHA256SUMS"
UNUSED = ("language_model.lm_head.", ".norm.", ".attn_pool.", ".head.", ".fc_norm.")
"""Stored by upstream, read by nobody: every ViT's last block (see `_unused`), final norm and pooling, and `lm_head`."""


class CheckpointError(BadInput):
    """A checkpoint that cannot be used: the text names the file, the key and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded policy: weights, statistics and prompt encoder."""

    model: Vla
    config: ModelConfig
    statistics: Statistics
    prompt: PromptEncoder
    folder: Path


def load_checkpoint(folder: str | Path, device="cpu", dtype=torch.float32) -> Checkpoint:
    """Load everything a policy needs from `folder`; CheckpointError names what is missing or wrong."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"checkpoint {folder}: no such folder; give a folder with config.json and safetensors")
    verify_checksums(folder)
    try:
        config = model_config(_json(folder, "config.json"), _json(folder, "preprocessor_config.json", required=False))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    with torch.device("meta"):
        model = Vla(config)
    tensors = {**_shards(folder), **_part(folder, "action_head")}
    if config.proprio_dims:
        tensors |= _part(folder, "proprio_projector")
    _assign(model, _fused(tensors, config), folder, device, dtype)
    return Checkpoint(
        model.eval().requires_grad_(False), config, read_statistics(folder), PromptEncoder.read(folder, config), folder
    )


def save_checkpoint(
    model: Vla, folder: Path, step: int, *, config: dict, statistics: dict, tokenizer: str, dtype=torch.bfloat16
) -> None:
    """Write `model` in the upstream layout, with checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    body, parts = {}, {"action_head": {}, "proprio_projector": {}}
    for name, tensor in _split(state, model.config).items():
        head, _, rest = name.partition(".")
        if head in parts:
            parts[head][rest] = tensor
        else:
            body[name] = tensor
    save_file(body, folder / SHARD, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: SHARD for name in sorted(body)}}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    for part, tensors in parts.items():
        if tensors:
            torch.save(tensors, folder / f"{part}--{step}_checkpoint.pt")
    for name, content in (("config.json", config), ("dataset_statistics.json", statistics)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer)
    write_checksums(folder)


def write_checksums(folder: Path) -> None:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".pt", ".json"))
    (folder / CHECKSUMS).write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in files))


def verify_checksums(folder: Path) -> None:
    """Compare with SHA256SUMS where the checkpoint has one; upstream checkpoints have none."""
    sums = folder / CHECKSUMS
    if not sums.exists():
        return
    for line in sums.read_text().splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{path}: listed in {CHECKSUMS} but missing; copy the checkpoint again")
        if _sha256(path) != expected:
            raise CheckpointError(f"{path}: checksum differs from {CHECKSUMS}; the file is damaged, copy it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _json(folder: Path, name: str, required: bool = True) -> dict:
    path = folder / name
    if not path.exists():
        if required:
            raise CheckpointError(f"{path}: missing; is this an OpenVLA-OFT checkpoint folder?")
        return {}
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); copy the file again") from error


def _shards(folder: Path) -> dict[str, Tensor]:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(f"{folder}: no *.safetensors file; give a merged OpenVLA-OFT checkpoint")
    tensors = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(name) for name in file.keys() if not _unused(name)}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: truncated or damaged ({error}); copy the file again") from error
    return tensors


def _unused(name: str) -> bool:
    if name.startswith("vision_backbone."):
        return any(mark in name for mark in UNUSED)
    return name.startswith(UNUSED[0])


def _part(folder: Path, part: str) -> dict[str, Tensor]:
    """`action_head--<step>_checkpoint.pt` and its sibling: exactly one file each, `module.` prefixes dropped."""
    paths = [p for p in folder.glob("*.pt") if part in p.name and "checkpoint" in p.name]
    if len(paths) != 1:
        names = ", ".join(p.name for p in paths) or "none"
        raise CheckpointError(f"{folder}: expected exactly one {part}--<step>_checkpoint.pt, found {names}")
    try:
        state = torch.load(paths[0], map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged or unsafe files
        raise CheckpointError(f"{paths[0]}: cannot be read as plain tensors ({error}); copy the file again") from error
    return {f"{part}.{name.removeprefix('module.')}": tensor for name, tensor in state.items()}


def _joined(config: ModelConfig):
    """(prefix of ours, prefix of theirs, {our fused name: their parts}) per decoder layer."""
    for i in range(config.decoder.layers):
        yield f"decoder.layers.{i}.", f"language_model.model.layers.{i}.", {
            "qkv.weight": [f"self_attn.{x}_proj.weight" for x in "qkv"],
            "o_proj.weight": ["self_attn.o_proj.weight"],
            "gate_up.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
            "down_proj.weight": ["mlp.down_proj.weight"],
            "input_layernorm.weight": ["input_layernorm.weight"],
            "post_attention_layernorm.weight": ["post_attention_layernorm.weight"],
        }


OUTER = {
    "decoder.embed_tokens.weight": "language_model.model.embed_tokens.weight",
    "decoder.norm.weight": "language_model.model.norm.weight",
}


def _fused(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Upstream's keys to ours. Missing parts are left out, so that `_assign` can name them."""
    ours = {name: t for name, t in tensors.items() if not name.startswith("language_model.")}
    theirs = {name: t for name, t in tensors.items() if name.startswith("language_model.")}
    for name, source in OUTER.items():
        if source in theirs:
            ours[name] = theirs.pop(source)
    for mine, yours, table in _joined(config):
        for name, parts in table.items():
            if all(yours + part in theirs for part in parts):
                found = [theirs.pop(yours + part) for part in parts]
                ours[mine + name] = found[0] if len(found) == 1 else torch.cat(found)
    return ours | theirs


def _split(state: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our keys to upstream's."""
    theirs = dict(state)
    for name, target in OUTER.items():
        theirs[target] = theirs.pop(name)
    d = config.decoder
    sizes = {"qkv.weight": [d.heads * d.head_dim] + 2 * [d.kv_heads * d.head_dim], "gate_up.weight": 2 * [d.mlp]}
    for mine, yours, table in _joined(config):
        for name, parts in table.items():
            whole = theirs.pop(mine + name)
            pieces = whole.split(sizes.get(name, [whole.shape[0]]))
            theirs |= {yours + part: piece.contiguous() for part, piece in zip(parts, pieces, strict=True)}
    return theirs


def _assign(model: Vla, tensors: dict[str, Tensor], folder: Path, device, dtype) -> None:
    """Put the tensors into the meta model; every name and shape is checked."""
    stored = {name: t for name, t in tensors.items() if not _beyond(name, model.config)}
    wanted = dict(model.named_parameters())
    if missing := sorted(wanted.keys() - stored.keys()):
        raise CheckpointError(f"{folder}: {len(missing)} tensors missing, first {missing[0]}; wrong or partial checkpoint")
    if surplus := sorted(stored.keys() - wanted.keys()):
        raise CheckpointError(f"{folder}: {len(surplus)} tensors this model has no place for, first {surplus[0]}")
    for name, parameter in wanted.items():
        if stored[name].shape != parameter.shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {tuple(stored[name].shape)}, config.json asks for {tuple(parameter.shape)}"
            )
    model.load_state_dict({name: stored[name].to(device, dtype) for name in wanted}, assign=True)
    for tower, sizes in zip(model.vision_backbone.children(), model.config.towers, strict=True):
        tower.mean = torch.tensor(sizes.mean, device=device).view(3, 1, 1)
        tower.std = torch.tensor(sizes.std, device=device).view(3, 1, 1)


def _beyond(name: str, config: ModelConfig) -> bool:
    """True for the stored but never used last block of a vision tower."""
    for field, tower in zip(("featurizer", "fused_featurizer"), config.towers, strict=False):
        if name.startswith(f"vision_backbone.{field}.blocks.{tower.depth - 1}."):
            return True
    return False
