"""Converted models in files, so that they are made once a machine and not at every start. Everything works without it
too.

An entry is one file: a line of JSON (lengths and a checksum), the model's description, its weights. It appears in one
step and is read whole and checked before use, so that what is damaged, half written or of another version is only a
miss.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

SUFFIX = ".openvino"
MOST_BYTES = 2 << 30
"""Largest total size of all entries. The least recently used ones are deleted first."""


class ConvertedModel(NamedTuple):
    """OpenVINO's intermediate representation: the XML that describes the model, and its weights."""

    xml: bytes
    weights: bytes


def default_folder() -> Path | None:
    """$XDG_CACHE_HOME/specprune_ros, ~/.cache/specprune_ros where that is not set; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():  # the specification ignores relative paths
        return Path(base) / "specprune_ros"
    home = Path()
    with suppress(RuntimeError):
        home = Path.home() if os.environ.get("HOME") != "" else Path()  # an empty one would mean the root folder
    return home / ".cache" / "specprune_ros" if home.is_absolute() else None


def write_whole(path: Path, *parts: bytes) -> None:
    """Replace `path` in one step, with its folders; OSError leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".draft-", delete=False) as file:
        draft = Path(file.name)
        try:
            for part in parts:
                file.write(part)
            file.close()
            os.replace(draft, path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise


class ModelCache:
    """Entries in `folder`; None: no entries."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._complained = False

    def load(self, key: str) -> ConvertedModel | None:
        """The entry of a key; None when there is none that is whole."""
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        model = _unpacked(content)
        if model is None:
            self._complain(f"{path} is damaged and is made again")
        else:
            with suppress(OSError):
                os.utime(path)  # used just now; not possible in a folder that may only be read
        return model

    def save(self, key: str, model: ConvertedModel) -> bool:
        """Keep a model; False, and one warning, where that is not possible."""
        if self.folder is None:
            return False
        try:
            write_whole(self._path(key), *_packed(model))
        except OSError as error:
            self._complain(f"converted models cannot be kept in {self.folder} ({error.strerror or error})")
            return False
        self._make_room()
        return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _make_room(self) -> None:
        with suppress(OSError):
            entries = sorted(((path.stat(), path) for path in self.folder.glob(f"*{SUFFIX}")), key=_last_used)
            surplus = sum(stat.st_size for stat, _ in entries) - MOST_BYTES
            for stat, path in entries:
                if surplus <= 0:
                    return
                path.unlink(missing_ok=True)
                surplus -= stat.st_size

    def _complain(self, what: str) -> None:
        """Warns only once, because every later model would fail in the same folder."""
        if not self._complained:
            self._complained = True
            log.warning("policy.cache_dir: %s; inference works without", what)


def _last_used(entry: tuple[os.stat_result, Path]) -> int:
    return entry[0].st_mtime_ns


def _packed(model: ConvertedModel) -> tuple[bytes, ...]:
    head = {"xml": len(model.xml), "weights": len(model.weights), "blake2b": _checksum(model)}
    return json.dumps(head).encode() + b"\n", model.xml, model.weights


def _unpacked(content: bytes) -> ConvertedModel | None:
    line, _, body = content.partition(b"\n")
    try:
        head = json.loads(line)
        sizes = head["xml"], head["weights"]
        model = ConvertedModel(body[: sizes[0]], body[sizes[0] :])
        whole = (len(model.xml), len(model.weights)) == sizes and _checksum(model) == head["blake2b"]
    except (ValueError, KeyError, TypeError):
        return None
    return model if whole else None


def _checksum(model: ConvertedModel) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in model:
        digest.update(part)
    return digest.hexdigest()
