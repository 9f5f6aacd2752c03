"""What the demo saw on the topics, episode by episode: plain data for the video, the plots and `demo.json`."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

JPEG_QUALITY = 92


@dataclass(frozen=True)
class Inference:
    """One PruningStatus. time_s: received, since the start of the episode; durations in ms."""

    time_s: float
    mode: str
    tokens_total: int
    tokens_kept: int
    total_ms: float
    stages_ms: dict[str, float]
    chunk_age_ms: float
    deadline_missed: bool


@dataclass
class EpisodeTrace:
    """One episode. Pictures are packed JPEG with the time of arrival since the start [s].

    pictures: stream name -> [(time_s, jpeg)]; action_stamps_ns: headers of the Actions, in order of arrival;
    picked_s: when the simulator reported success, None if it did not.
    """

    seed: int
    instruction: str
    picked_s: float | None = None
    duration_s: float = 0.0
    inferences: list[Inference] = field(default_factory=list)
    action_stamps_ns: list[int] = field(default_factory=list)
    pictures: dict[str, list[tuple[float, bytes]]] = field(default_factory=dict)
    hold_reasons: dict[str, int] = field(default_factory=dict)
    """Reason for holding -> how often diagnostics, which come once a second, reported it."""

    @property
    def success(self) -> bool:
        return self.picked_s is not None


def packed(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG: a minute of raw pictures would not fit in memory."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def unpacked(jpeg: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of what `packed` made."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
