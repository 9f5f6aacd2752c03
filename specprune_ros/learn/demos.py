"""Demonstrations on disk, as `record.py` writes them, read back as arrays.

A file ``demos_<suite>_<first seed>_<episodes>.npz`` holds these arrays for N rows of E episodes (base frame, m, rad). A
row is one control period; rows are EVERY periods apart.

    jpeg (bytes,) u8, jpeg_ends (N, 2) i64   third-person and wrist image, 224 x 224 RGB, JPEG quality 95, one after
                                             the other
    proprio (N, 8) f32                       see TabletopEnv.proprio
    chunk (N, 8, 7) f32                      the expert's next 8 actions, one a period, without noise: the label
    executed (N, 7) f32                      what was executed: chunk[:, 0] plus noise, or what a policy chose
    seen (N, 2, 256, 2) u8                   of every 14 px patch of both images: which thing covers most of it
                                             (0: none, i + 1: thing i), and what share of the patch (255: all)
    positions_m (N, THINGS, 3) f32           where things are, zero where there are fewer
    pressed (N,) bool                        whether the button is lit
    focus (N,) u8                            index of the thing that the expert is heading for
    offset_m (N, 3) f32                      from the TCP to there
    about (N,) u8                            bit i: the goal that is now in force names thing i
    kind, colour (E, THINGS) u8              of every thing: index into KIND_NAMES and COLOURS, NONE where there is none
    suite, instruction (E,) str, episode_ends (E,) i64 exclusive, seeds (E,) i64, success (E,) bool

A file ``motions_...`` holds the same without pictures (jpeg, jpeg_ends, seen), but with `configuration` (N, q) f32, the
positions of all joints of the scene, which they can be made from.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from specprune_ros.sim.scene import KINDS

#: Seeds below are for evaluation only; demonstrations start above.
EVALUATION_SEEDS = range(10_000)
TRAINING_SEED0 = 100_000
APPROACH_SEED0, SCATTER_SEED0, PILOT_SEED0 = 200_000, 300_000, 400_000  # short recordings, and those a policy flew
HORIZON = 8
EVERY = 2
THINGS = 8
KIND_NAMES = (*KINDS, "plate", "button")
NONE = 255
PER_STEP = (
    "proprio",
    "chunk",
    "executed",
    "seen",
    "positions_m",
    "pressed",
    "focus",
    "offset_m",
    "about",
)
PER_EPISODE = ("kind", "colour", "suite", "instruction", "seeds", "success")
MOTIONS = "motions"
FILE_NAME = re.compile(r"[a-z]+_([a-z]+)_(\d+)_(\d+)\.npz")


@dataclass(frozen=True)
class Demos:
    """All files of a folder joined. arrays: PER_STEP; episodes: PER_EPISODE; images are decoded on request."""

    arrays: dict[str, np.ndarray]
    episodes: dict[str, np.ndarray]
    episode_ends: np.ndarray  # (E,) exclusive
    jpeg: np.ndarray  # (bytes,) u8
    jpeg_ends: np.ndarray  # (N, 2)
    file_ends: np.ndarray  # (F,) exclusive: rows of each file
    digests: tuple[str, ...]  # (F,) of the pictures in each file

    def __len__(self) -> int:
        return len(self.jpeg_ends)

    @property
    def episode(self) -> np.ndarray:
        """(N,) the episode of every row."""
        return np.repeat(np.arange(len(self.episode_ends)), np.diff(self.episode_ends, prepend=0))

    def images(self, row: int) -> np.ndarray:
        """(2, 224, 224, 3) uint8 RGB: third-person and wrist image of a row."""
        before = self.jpeg_ends[row - 1, 1] if row else 0
        third, wrist = self.jpeg_ends[row]
        parts = (self.jpeg[before:third], self.jpeg[third:wrist])
        return np.stack([cv2.imdecode(part, cv2.IMREAD_COLOR_RGB) for part in parts])


def load(folder) -> Demos:
    """Read every file of demonstrations in a folder, ordered by name.

    FileNotFoundError when there is none; ValueError when an episode is there twice: training would weigh it double,
    and one of two copies could be held out while the other is trained on.
    """
    paths = [path for path, *_ in recorded(folder)]
    if not paths:
        raise FileNotFoundError(f"no demonstrations (demos_*.npz) in {folder}; record some with specprune train")
    _refuse_duplicates(folder)
    files = []
    for path in paths:
        with np.load(path) as data:
            files.append({key: data[key] for key in data.files})
    rows = np.cumsum([0] + [len(f["proprio"]) for f in files])
    bytes_ = np.cumsum([0] + [len(f["jpeg"]) for f in files])
    return Demos(
        arrays={key: np.concatenate([f[key] for f in files]) for key in PER_STEP},
        episodes={key: np.concatenate([f[key] for f in files]) for key in PER_EPISODE},
        episode_ends=np.concatenate([f["episode_ends"] + start for f, start in zip(files, rows[:-1], strict=True)]),
        jpeg=np.concatenate([f["jpeg"] for f in files]),
        jpeg_ends=np.concatenate([f["jpeg_ends"] + start for f, start in zip(files, bytes_[:-1], strict=True)]),
        file_ends=rows[1:],
        digests=tuple(hashlib.sha256(f["jpeg"].data).hexdigest()[:24] for f in files),
    )


def recorded(folder, kind: str = "demos") -> list[tuple[Path, str, range]]:
    """(path, suite, seeds) of every file of a kind, demos or motions, in a folder, by what their names say, ordered by
    name."""
    found = []
    for path in sorted(Path(folder).glob(f"{kind}_*.npz")):
        if match := FILE_NAME.fullmatch(path.name):
            first, count = int(match[2]), int(match[3])
            found.append((path, match[1], range(first, first + count)))
    return found


def _refuse_duplicates(folder) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for path, suite, seeds in recorded(folder):
        for seed in seeds:
            if (suite, seed) in seen:
                raise ValueError(
                    f"the episode of seed {seed} in suite {suite} is in {seen[suite, seed].name} and in {path.name}; "
                    "remove one of the two files"
                )
            seen[suite, seed] = path
