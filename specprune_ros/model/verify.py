"""Is a checkpoint sound? Check after check, streaming: the model never has to fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from specprune_ros.config import Config
from specprune_ros.model.checkpoint import Opened, Progress, check_finite, open_checkpoint
from specprune_ros.model.checksums import CHECKSUMS, verify_checksums
from specprune_ros.model.demands import Finding, Seen, examine, finding
from specprune_ros.model.errors import CheckpointError


def verify(folder: Path, config: Config, progress: Progress | None = None) -> Iterator[Finding]:
    """The demands that the node makes, then what only the weights can tell; ok None for what could not be checked."""
    findings = list(examine(folder, config))
    yield from findings
    yield finding("checksums", lambda: _checksums(folder, progress))
    if findings[0].ok:
        yield finding("values", lambda: _values(open_checkpoint(folder, config.policy), progress))
    else:
        yield Finding("values", None, "not checked: needs files and shapes in order")


def _checksums(folder: Path, progress: Progress | None) -> Seen:
    count = verify_checksums(folder, progress)
    missing = f"no {CHECKSUMS}, as upstream ships it; --write-checksums adds it"
    return Seen(f"{count} files equal {CHECKSUMS}" if count else missing)


def _values(opened: Opened, progress: Progress | None) -> Seen:
    """No tensor that the model reads holds NaN or infinity."""
    entries = opened.stored.entries
    names = [piece.stored for piece in opened.plan]
    done, total = 0, sum(entries[name].nbytes for name in names)
    bad = []
    for name, tensor in opened.stored.tensors(names):
        try:
            check_finite(entries[name], name, tensor)
        except CheckpointError as error:
            bad.append(str(error))
        del tensor
        done += entries[name].nbytes
        if progress:
            progress(done, total, name)
    if bad:
        raise CheckpointError(f"{bad[0]} ({len(bad)} such tensors)")
    return Seen(f"{len(names)} tensors finite")
