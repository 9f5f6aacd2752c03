"""SHA256SUMS beside a checkpoint's files, as sha256sum(1) writes and checks it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.files import check_arrived

CHECKSUMS = "SHA256SUMS"
SUFFIXES = (".safetensors", ".pt", ".json")
BLOCK = 1 << 22
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
"""Digest, a space for text or a star for binary mode, file name."""


def write_checksums(folder: Path, progress: Callable[[int, int, str], None] | None = None) -> None:
    """One line per tensor and JSON file of the folder; progress(done_bytes, total_bytes, file name)."""
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    sums = _sums(files, progress)
    (folder / CHECKSUMS).write_text("".join(f"{sums[path]}  {path.name}\n" for path in files))


def read_listing(folder: Path) -> dict[Path, str]:
    """File -> SHA-256 as SHA256SUMS lists them, {} where the checkpoint has none, as upstream's have; nothing is
    hashed.

    CheckpointError for a line that is not sha256sum's and for a listed file that is missing.
    """
    listing = folder / CHECKSUMS
    if not listing.exists():
        return {}
    check_arrived(listing)
    expected = {}
    for line in listing.read_text(errors="replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if not match:
            raise CheckpointError(
                f"{listing}: {line[:100]!r} is not a line of sha256sum; copy the file again or remove it"
            )
        expected[folder / match[2]] = match[1].lower()
    for path in expected:
        if not path.exists():
            raise CheckpointError(f"{path}: listed in {CHECKSUMS} but missing; copy the checkpoint again")
    return expected


def verify_checksums(folder: Path, progress: Callable[[int, int, str], None] | None = None) -> int:
    """Compare with SHA256SUMS; returns how many files it lists, 0 where the checkpoint has none."""
    expected = read_listing(folder)
    for path, digest in _sums(list(expected), progress).items():
        if digest != expected[path]:
            raise CheckpointError(f"{path}: checksum differs from {CHECKSUMS}; the file is damaged, copy it again")
    return len(expected)


def _sums(files: list[Path], progress: Callable[[int, int, str], None] | None) -> dict[Path, str]:
    total, done, sums = sum(path.stat().st_size for path in files), 0, {}
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done, total, path.name)
        sums[path] = digest.hexdigest()
    return sums
