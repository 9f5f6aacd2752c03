"""Is a checkpoint sound? Check after check, streaming: the model never has to fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from specprune_ros.config import Policy as Settings
from specprune_ros.model.checkpoint import Opened, Progress, open_checkpoint
from specprune_ros.model.checksums import CHECKSUMS, verify_checksums
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.statistics import read_statistics, statistics_table
from specprune_ros.types import BadInput


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. ok: None when it could not be made; detail: what was seen, or what is wrong and the remedy."""

    check: str
    ok: bool | None
    detail: str


def verify(folder: Path, settings: Settings, progress: Progress | None = None) -> Iterator[Finding]:
    """Findings in the order of the checks; those that need a readable model are left out (ok None) when there is none."""
    yield finding("checksums", lambda: _checksums(folder, progress))
    try:
        opened = open_checkpoint(folder, settings)
    except CheckpointError as error:
        yield Finding("files and shapes", False, str(error))
        for check in ("statistics", "tokenizer", "values"):
            yield Finding(check, None, "not checked: needs files and shapes in order")
        return
    yield Finding("files and shapes", True, f"{len(opened.plan)} tensors in {_file_count(opened)} files")
    yield finding("statistics", lambda: _statistics(opened, settings))
    yield finding("tokenizer", lambda: _tokenizer(opened))
    yield finding("values", lambda: _values(opened, progress))


def finding(check: str, look: Callable[[], str]) -> Finding:
    """Run one check: `look` returns what it saw or raises BadInput, as every CheckpointError is."""
    try:
        return Finding(check, True, look())
    except BadInput as error:
        return Finding(check, False, str(error))


def _file_count(opened: Opened) -> int:
    return len({opened.stored.entries[piece.stored].file for piece in opened.plan})


def _checksums(folder: Path, progress: Progress | None) -> str:
    count = verify_checksums(folder, progress)
    return (
        f"{count} files equal {CHECKSUMS}"
        if count
        else f"no {CHECKSUMS}, as upstream ships it; --write-checksums adds it"
    )


def _statistics(opened: Opened, settings: Settings) -> str:
    """Every dataset's bounds are sound, and the one that the policy would use is known."""
    c = opened.config
    _, table = statistics_table(opened.folder)
    for key in table:
        read_statistics(opened.folder, key, c.normalisation, c.action_dims, c.proprio_dims)
    if len(table) > 1 and not settings.unnorm_key:
        return f"{len(table)} datasets; policy.unnorm_key must name one: {', '.join(table)}"
    chosen = read_statistics(opened.folder, settings.unnorm_key, c.normalisation, c.action_dims, c.proprio_dims)
    return f"{chosen.key}, {c.normalisation}"


def _tokenizer(opened: Opened) -> str:
    encoder = PromptEncoder.read(opened.folder, opened.config)
    prompt = encoder.encode(encoder.known_instruction())
    return f"{encoder.known_instruction()!r} is {len(prompt.ids)} tokens, {prompt.task[1] - prompt.task[0]} of them its words"


def _values(opened: Opened, progress: Progress | None) -> str:
    """No tensor that the model reads holds NaN or infinity."""
    entries = opened.stored.entries
    names = [piece.stored for piece in opened.plan]
    done, total = 0, sum(entries[name].nbytes for name in names)
    bad = []
    for name, tensor in opened.stored.tensors(names):
        count = int((~torch.isfinite(tensor)).sum())
        if count:
            bad.append(f"{entries[name].file}: {name} has {count} values that are not finite")
        del tensor
        done += entries[name].nbytes
        if progress:
            progress(done, total, name)
    if bad:
        raise CheckpointError(f"{bad[0]} ({len(bad)} such tensors); the file is damaged or the training diverged")
    return f"{len(names)} tensors finite"
