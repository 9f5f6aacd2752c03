"""Reading and writing checkpoints in OpenVLA-OFT's layout (docs/reference/openvla_oft.md, Files in a checkpoint
folder).

Loading streams: every tensor goes straight from its mapped file to its place on the device, so that the host never
holds a second copy.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from specprune_ros.config import PolicySettings
from specprune_ros.model.checksums import CHECKSUMS, read_listing, verify_checksums, write_checksums
from specprune_ros.model.config import ModelConfig, model_config
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.files import read_json
from specprune_ros.model.hub import checkpoint_folder, checkpoint_name
from specprune_ros.model.names import Piece, never_read, pieces, split
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.statistics import Statistics, read_statistics
from specprune_ros.model.stored import FLOATS, INDEX, PARTS, Entry, Stored
from specprune_ros.model.vla import Vla

__all__ = [
    "CHECKSUMS",
    "Checkpoint",
    "CheckpointError",
    "Progress",
    "load_checkpoint",
    "open_checkpoint",
    "save_checkpoint",
]

SHARD = "model-00001-of-00001.safetensors"
Progress = Callable[[int, int, str], None]
"""progress(done_bytes, total_bytes, name of the tensor just read)."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded policy: weights, statistics and prompt encoder. name: the hub id, or the folder's name."""

    model: Vla
    config: ModelConfig
    statistics: Statistics
    prompt: PromptEncoder
    folder: Path
    name: str


def same_weights(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a model of its own whose parameters and buffers are the same tensors: no second copy in
    memory, and what is done to its modules leaves the first model alone."""
    model = checkpoint.model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return replace(checkpoint, model=copy.deepcopy(model, shared))


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose every tensor is known and has its place, before any of them is read. model: on the meta
    device."""

    folder: Path
    config: ModelConfig
    stored: Stored
    model: Vla
    plan: tuple[Piece, ...]


def load_checkpoint(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    settings: PolicySettings | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Load everything a policy needs from a folder or hub id; CheckpointError names what is missing or wrong.

    `settings` overrides what the checkpoint says about itself, or supplies what it does not say. Weights are read last.
    """
    settings, path = settings or PolicySettings(), checkpoint_folder(folder)
    read_listing(path)
    opened = open_checkpoint(path, settings)
    config = opened.config
    statistics = read_statistics(
        path, settings.unnorm_key, config.normalisation, config.action_dims, config.proprio_dims
    )
    prompt = PromptEncoder.read(path, config)
    verify_checksums(path)
    _fill(opened, device, dtype, progress)
    model = opened.model.eval().requires_grad_(False)
    return Checkpoint(model, config, statistics, prompt, path, checkpoint_name(path))


def open_checkpoint(folder: Path, settings: PolicySettings | None = None) -> Opened:
    """Headers only: what the model is, and that every tensor is there in the right shape; CheckpointError otherwise."""
    config_path = folder / "config.json"
    config, preprocessor = read_json(config_path), _preprocessor(folder)
    try:
        model_config(config, preprocessor, settings)  # the kind of model first: a Llama has no action head to look for
        stored = Stored.scan(folder)
        sizes = model_config(config, preprocessor, settings, stored.part_dims())
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{config_path}: {error}") from error
    with torch.device("meta"):
        model = Vla(sizes)
    plan = tuple(pieces(model, sizes))
    _check(stored, plan, sizes)
    return Opened(folder, sizes, stored, model, plan)


def _preprocessor(folder: Path) -> dict:
    """Pixel statistics; transformers 5 keeps them in `processor_config.json`. {} where neither file says anything."""
    own = read_json(folder / "preprocessor_config.json", required=False)
    inner = {} if own else read_json(folder / "processor_config.json", required=False).get("image_processor")
    return own or (inner if isinstance(inner, dict) else {})


def check_finite(entry: Entry, name: str, tensor: Tensor) -> None:
    """CheckpointError unless all values of a tensor that the model reads are finite."""
    finite = torch.isfinite(tensor)
    if not finite.all():
        count = finite.numel() - int(finite.sum())
        raise CheckpointError(
            f"{entry.file}: {name} has {count} values that are not finite; the file is damaged or the training diverged"
        )


def save_checkpoint(
    model: Vla, folder: Path, step: int, *, config: dict, statistics: dict, tokenizer: str, dtype=torch.bfloat16
) -> None:
    """Write `model` in the upstream layout, with checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    body, parts = {}, {part: {} for part in PARTS}
    for name, tensor in split(state, model.config).items():
        head, _, rest = name.partition(".")
        if head in parts:
            parts[head][rest] = tensor
        else:
            body[name] = tensor
    save_file(body, folder / SHARD, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(sorted(body), SHARD)}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    for part, tensors in parts.items():
        if tensors:
            torch.save(tensors, folder / f"{part}--{step}_checkpoint.pt")
    for name, content in (("config.json", config), ("dataset_statistics.json", statistics)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer)
    write_checksums(folder)


def _check(stored: Stored, plan: tuple[Piece, ...], config: ModelConfig) -> None:
    """Every tensor of the plan is stored as floats in the planned shape, and nothing else is stored that could
    matter."""
    wanted = {piece.stored for piece in plan}
    if missing := sorted(wanted - stored.entries.keys()):
        raise CheckpointError(
            f"{stored.folder}: {len(missing)} tensors missing, first {missing[0]}; wrong or partial checkpoint"
        )
    off = () if config.proprio_dims else ("proprio_projector.",)
    for name in sorted(stored.entries.keys() - wanted):
        if not never_read(name, config) and not name.startswith(off):
            raise CheckpointError(
                f"{stored.entries[name].file}: {name} has no place in the model that config.json describes; wrong "
                "config.json?"
            )
    for piece in plan:
        entry = stored.entries[piece.stored]
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.file}: {piece.stored} is {entry.dtype}, expected one of {', '.join(FLOATS)}; quantised "
                "checkpoints are not supported, give the bf16 one"
            )
        if entry.shape != piece.shape:
            raise CheckpointError(
                f"{entry.file}: {piece.stored} has shape {entry.shape}, config.json asks for {piece.shape}; "
                "the two do not belong together"
            )


@torch.no_grad()
def _fill(opened: Opened, device: str | torch.device, dtype: torch.dtype, progress: Progress | None) -> None:
    """Give the meta model storage on `device` and copy tensor after tensor into it, fused parameters slice by slice."""
    model, entries = opened.model, opened.stored.entries
    empty = {name: torch.empty(p.shape, dtype=dtype, device=device) for name, p in model.named_parameters()}
    model.load_state_dict(empty, assign=True)
    for tower, sizes in zip(model.vision_backbone.children(), opened.config.towers, strict=True):
        tower.mean = torch.tensor(sizes.mean, device=device).view(3, 1, 1)
        tower.std = torch.tensor(sizes.std, device=device).view(3, 1, 1)
    target = {piece.stored: empty[piece.parameter][piece.rows] for piece in opened.plan}
    done, total = 0, sum(entries[name].nbytes for name in target)
    for name, tensor in opened.stored.tensors(target):
        target[name].copy_(tensor)
        check_finite(entries[name], name, target[name])
        del tensor  # before the next one is read
        done += entries[name].nbytes
        if progress:
            progress(done, total, name)
