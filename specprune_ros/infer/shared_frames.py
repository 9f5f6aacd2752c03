"""Camera frames in memory that the node and the process of the model share.

There is room for the frames of one inference, because at most one is under way: the node writes before it asks, and not
again before the answer is there or the process is gone. The memory has no name and goes with the last process that
has it open, so nothing is left behind whatever ends them.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64
"""Frames begin at cache lines."""


@dataclass(frozen=True)
class Place:
    """Where a frame is: the first byte, and its (H, W, 3) uint8 shape."""

    offset: int
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """First byte behind the frame, of any shape."""
        return self.offset + int(np.prod(self.shape, dtype=np.int64))


class FrameWriter:
    """The node's side. `descriptor` is what the other process opens."""

    def __init__(self) -> None:
        self.descriptor = _nameless()
        self._memory: mmap.mmap | None = None

    def write(self, frames: Sequence[np.ndarray]) -> tuple[Place, ...]:
        """Copies (H, W, 3) uint8 frames one behind the other. OSError when the machine has no memory for them."""
        places, offset = [], 0
        for frame in frames:
            places.append(Place(offset, frame.shape))
            offset = -(-places[-1].end // ALIGNMENT) * ALIGNMENT
        self._make_room(offset)
        for frame, place in zip(frames, places, strict=True):
            np.copyto(_view(self._memory, place), frame, casting="no")
        return tuple(places)

    def close(self) -> None:
        """Give the memory back; may be called more than once."""
        self._memory = None  # unmapped when the last view of it is gone
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def _make_room(self, size: int) -> None:
        if size > len(self._memory or b""):
            os.posix_fallocate(self.descriptor, 0, size)  # a lack of memory is an error here, and no SIGBUS later
            self._memory = mmap.mmap(self.descriptor, size)


class FrameReader:
    """The model's side."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    def read(self, places: Sequence[Place]) -> tuple[np.ndarray, ...]:
        """The frames as read-only views: valid until the answer is sent."""
        needed = max((place.end for place in places), default=0)
        if needed > len(self._memory or b""):
            self._memory = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size, prot=mmap.PROT_READ)
        return tuple(_view(self._memory, place) for place in places)


def _view(memory: mmap.mmap | None, place: Place) -> np.ndarray:
    return np.ndarray(place.shape, np.uint8, memory if memory is not None else b"", place.offset)


def _nameless() -> int:
    """A descriptor of memory without a name in any file system."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("specprune_frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # builds of Python for old C libraries
        return os.dup(file.fileno())
