"""From what `policy.checkpoint` says to a folder: a local one, or a download from the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from specprune_ros.model.errors import CheckpointError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "dataset_statistics.json",
    "tokenizer.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "*_checkpoint.pt",
    "*_checkpoint.safetensors",
)
"""The files a policy is made of. Code and adapters stay on the hub, and so does SHA256SUMS, which may list files that
stay there; the hub's client checks what it downloads."""


SHIPPED = {name: Path(__file__).resolve().parent / name for name in ("bundled", "plain")}
"""Policies of this package, by name. bundled: what an empty `policy.checkpoint` means."""


def checkpoint_folder(name: str | Path) -> Path:
    """`name` as a folder: an existing folder wins, then a policy of this package; a hub id `owner/name` is downloaded
    (or found in the hub's cache). Empty: the bundled policy."""
    if not str(name):
        return SHIPPED["bundled"]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if str(name) in SHIPPED:
        return SHIPPED[str(name)]
    if not isinstance(name, str) or not HUB_ID.fullmatch(name):
        raise CheckpointError(f"checkpoint {name}: no such folder; give a folder with config.json and safetensors")
    return _download(name)


def checkpoint_name(folder: Path) -> str:
    """The folder's name; for a folder in the hub's cache (models--owner--name/snapshots/<revision>) the hub id."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return folder.resolve().name


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            f"checkpoint {name}: no such folder here, and a hub id needs huggingface_hub: pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except Exception as error:  # requests, httpx and the hub's own errors, by its version
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f"checkpoint {name}: no such folder here, and the download from the hub failed ({reason}); check the id "
            f"and the network, log in with 'hf auth login' if it is private, or copy it by hand: hf download {name} "
            "--local-dir DIR"
        ) from error
