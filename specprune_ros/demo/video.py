"""The demo's video: which tokens the policy kept, what the cameras see, and the number of tokens over the episode."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from specprune_ros.demo.trace import EpisodeTrace, unpacked
from specprune_ros.draw.canvas import Canvas, text_width
from specprune_ros.draw.overlay import BACKGROUND, FOREGROUND, MODE_COLOURS, MUTED

WIDTH, HEIGHT, FPS = 1280, 720, 20
CODECS = (("libx264", {"crf": "23", "preset": "veryfast"}), ("mpeg4", {"qscale": "4"}))
"""In order of preference: H.264 plays in every browser, but not every FFmpeg build may encode it."""

DEBUG = "debug"
"""Stream name of the debug image in `EpisodeTrace.pictures`; all others are cameras, in the policy's view order."""

TOP, DEBUG_SIZE, CAMERA_SIDE, MARGIN = 56, (920, 520), 232, 10
GRAPH = (64, 614, 910, 694)
"""Plot area of the token graph: left, top, right, bottom."""

SUCCESS = (110, 220, 140)


def write_video(path: Path, frames: Iterable[np.ndarray]) -> str:
    """Encode (HEIGHT, WIDTH, 3) uint8 RGB frames; returns the codec that was used."""
    import av

    codec, options = next((name, options) for name, options in CODECS if _can_encode(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return codec


def _can_encode(name: str) -> bool:
    import av

    try:
        av.Codec(name, "w")
    except ValueError:  # PyAV's UnknownCodecError
        return False
    return True


def frames(episodes: Sequence[EpisodeTrace]) -> Iterator[np.ndarray]:
    """All frames of all episodes, in real time."""
    for episode in episodes:
        for index in range(int(episode.duration_s * FPS)):
            yield frame(episode, index / FPS, title(episodes, episode))


def title(episodes: Sequence[EpisodeTrace], episode: EpisodeTrace) -> str:
    number = 1 + next(index for index, other in enumerate(episodes) if other is episode)
    return f"episode {number} of {len(episodes)}   (seed {episode.seed})"


def frame(episode: EpisodeTrace, time_s: float, title: str) -> np.ndarray:
    """The dashboard at one moment of an episode: (HEIGHT, WIDTH, 3) uint8 RGB."""
    canvas = Canvas(WIDTH, HEIGHT, BACKGROUND)
    _top(canvas, episode, time_s, title)
    if jpeg := latest(episode, DEBUG, time_s):
        canvas.paste(_decoded(jpeg, DEBUG_SIZE), 0, TOP)
    else:
        canvas.text((DEBUG_SIZE[0] / 2, TOP + 260), "waiting for the first inference", MUTED, 18, "mm")
    cameras = [name for name in episode.pictures if name != DEBUG]
    for index, name in enumerate(cameras[:2]):
        top = TOP + 28 + index * (CAMERA_SIDE + 26)
        left = DEBUG_SIZE[0] + (WIDTH - DEBUG_SIZE[0] - CAMERA_SIDE) // 2
        canvas.text((left, top - 12), f"{name}, live", MUTED, 14)
        if jpeg := latest(episode, name, time_s):
            canvas.paste(_decoded(jpeg, (CAMERA_SIDE, CAMERA_SIDE)), left, top)
    _graph(canvas, episode, time_s)
    _numbers(canvas, episode, time_s)
    return canvas.pixels


def latest(episode: EpisodeTrace, stream: str, time_s: float) -> bytes | None:
    """The newest picture of a stream at that time; None before the first."""
    pictures = episode.pictures.get(stream, [])
    index = bisect_right(pictures, time_s, key=lambda picture: picture[0])
    return pictures[index - 1][1] if index else None


def poster_time(episodes: Sequence[EpisodeTrace]) -> tuple[EpisodeTrace, float]:
    """The moment for the poster: in a successful episode with many modes, when the gripper is close to the cube."""
    episode = max(episodes, key=lambda e: (e.success, len({i.mode for i in e.inferences}), len(e.inferences)))
    return episode, max(0.0, episode.picked_s - 1.2) if episode.success else 0.66 * episode.duration_s


def _top(canvas: Canvas, episode: EpisodeTrace, time_s: float, title: str) -> None:
    canvas.text((MARGIN, TOP / 2), title, FOREGROUND, 22)
    picked = episode.picked_s is not None and time_s >= episode.picked_s
    text, colour = ("picked", SUCCESS) if picked else (f"{time_s:.1f} s", MUTED)
    canvas.text((WIDTH - MARGIN, TOP / 2), text, colour, 22, "rm")


def _graph(canvas: Canvas, episode: EpisodeTrace, time_s: float) -> None:
    """Tokens kept per inference so far, as bars over time, coloured by mode."""
    left, top, right, bottom = GRAPH
    canvas.text((MARGIN, top - 20), "visual tokens kept per inference", MUTED, 14)
    total = max((inference.tokens_total for inference in episode.inferences), default=1)
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        canvas.line((left, y), (right, y), (48, 52, 62))
        canvas.text((left - 8, y), f"{share * total:.0f}", MUTED, 13, "rm")
    scale = (right - left) / max(episode.duration_s, 1.0)
    for second in range(int(episode.duration_s) + 1):
        canvas.text((left + second * scale, bottom + 6), f"{second} s", MUTED, 12, "mt")
    past = [inference for inference in episode.inferences if inference.time_s <= time_s]
    ends = [inference.time_s for inference in past[1:]] + [time_s]
    for inference, end_s in zip(past, ends, strict=False):
        box = (left + inference.time_s * scale, bottom - inference.tokens_kept / total * (bottom - top))
        corners = (*box, max(box[0] + 1, left + end_s * scale - 2), bottom)
        canvas.rectangle(corners, fill=MODE_COLOURS[inference.mode])


def _numbers(canvas: Canvas, episode: EpisodeTrace, time_s: float) -> None:
    """The newest inference in figures, and the legend of the graph."""
    left, top = DEBUG_SIZE[0] + (WIDTH - DEBUG_SIZE[0] - CAMERA_SIDE) // 2, GRAPH[1]
    past = [inference for inference in episode.inferences if inference.time_s <= time_s]
    if past:
        newest = past[-1]
        share = 1 - newest.tokens_kept / newest.tokens_total
        canvas.text((left, top), f"inference {newest.total_ms:.0f} ms", FOREGROUND, 20)
        canvas.text((left, top + 30), f"{share:.0%} of the tokens pruned", FOREGROUND, 20)
    x = left
    for mode, colour in MODE_COLOURS.items():
        canvas.rectangle((x, top + 62, x + 12, top + 74), fill=colour)
        canvas.text((x + 18, top + 68), mode, MUTED, 14)
        x += 34 + text_width(mode, 14)


@lru_cache(maxsize=8)
def _decoded(jpeg: bytes, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(unpacked(jpeg), size, interpolation=cv2.INTER_CUBIC)
