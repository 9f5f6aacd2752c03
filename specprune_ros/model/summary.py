"""What a checkpoint is, from headers and JSON alone: nothing is loaded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from specprune_ros.config import Config
from specprune_ros.model.checkpoint import Opened, open_checkpoint
from specprune_ros.model.checksums import CHECKSUMS
from specprune_ros.model.config import ModelConfig
from specprune_ros.model.demands import examine
from specprune_ros.model.hub import checkpoint_name
from specprune_ros.model.statistics import datasets, statistics_table


def describe(folder: Path, config: Config) -> dict[str, Any]:
    """Everything worth knowing about the checkpoint in `folder`, ready for JSON; CheckpointError when it cannot be
    read.

    demands: what the node asks of it under these parameters, and whether it is met (`model.demands`).
    """
    opened = open_checkpoint(folder, config.policy)
    where, table = statistics_table(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "name": checkpoint_name(folder),
        "folder": str(folder),
        "architecture": "OpenVLA-OFT: parallel decoding, L1 action head",
        **_model(opened.config),
        "statistics": {"file": where, "keys": datasets(table)},
        **_tensors(opened),
        "demands": [
            {"check": found.check, "ok": found.ok, "detail": found.detail, "doubt": found.doubt}
            for found in examine(folder, config)
        ],
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in files],
        "checksums": (folder / CHECKSUMS).exists(),
    }


def _model(c: ModelConfig) -> dict[str, Any]:
    towers = [
        dict(
            name=t.name,
            width=t.width,
            blocks=t.depth - 1,
            heads=t.heads,
            mlp=t.mlp,
            patch=t.patch,
            mean=t.mean,
            std=t.std,
        )
        for t in c.towers
    ]
    d = c.decoder
    decoder = dict(width=d.width, layers=d.layers, heads=d.heads, kv_heads=d.kv_heads, mlp=d.mlp, vocabulary=d.vocab)
    return {
        "towers": towers,
        "decoder": decoder | dict(norm_eps=d.norm_eps, rope_theta=d.rope_theta, positions=d.positions),
        "views": c.views,
        "image_size": c.image_size,
        "visual_tokens": c.views * c.patches,
        "proprio_dims": c.proprio_dims,
        "chunk_steps": c.chunk_steps,
        "action_dims": c.action_dims,
        "normalisation": c.normalisation,
        "action_units": c.action_units,
        "center_crop": c.center_crop,
        "jpeg_round_trip": c.jpeg_round_trip,
    }


def _tensors(opened: Opened) -> dict[str, Any]:
    """Counts and sizes of the tensors that the model is read from, and of those that are never read."""
    read = [opened.stored.entries[piece.stored] for piece in opened.plan]
    dtypes = Counter()
    for entry in read:
        dtypes[entry.dtype] += entry.nbytes
    stored = sum(entry.nbytes for entry in opened.stored.entries.values())
    return {
        "parameters": sum(parameter.numel() for parameter in opened.model.parameters()),
        "tensors": len(read),
        "bytes_read": sum(dtypes.values()),
        "bytes_never_read": stored - sum(dtypes.values()),
        "bytes_by_dtype": dict(dtypes),
    }
