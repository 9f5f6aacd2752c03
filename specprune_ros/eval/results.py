"""Results files: what is written, how, and under which settings and weights it was measured."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from specprune_ros.config import Config, parameters
from specprune_ros.model.hub import checkpoint_folder


def weights_digest(config: Config) -> str:
    """Tells checkpoints apart, so that results of a retrained policy are not taken for those of the old one."""
    folder = checkpoint_folder(config.policy.checkpoint)
    sums = folder / "SHA256SUMS"
    return hashlib.sha256(sums.read_bytes()).hexdigest()[:16] if sums.exists() else folder.name


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Replace `path` in one step, so that an interruption never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(pretty(document) + "\n")
    os.replace(draft, path)


def pretty(value: object, margin: str = "") -> str:
    """JSON with one line per key, where lists of plain values stay on one line."""
    deeper = margin + "  "
    if isinstance(value, Mapping) and value:
        lines = [f"{deeper}{json.dumps(str(key))}: {pretty(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        lines = [f"{deeper}{pretty(item, deeper)}" for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{margin}]"
    return json.dumps(value, allow_nan=False)


def changed_parameters(config: Config) -> dict[str, object]:
    """Dotted names whose values differ from the defaults."""
    values = {parameter.name: config.get(parameter.name) for parameter in parameters()}
    return {p.name: values[p.name] for p in parameters() if values[p.name] != p.default}
