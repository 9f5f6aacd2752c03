"""The demo's report folder: video, poster, plots and `demo.json`, all from the recorded traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from specprune_ros.demo import video
from specprune_ros.demo.trace import EpisodeTrace, Inference
from specprune_ros.draw.overlay import MODE_COLOURS
from specprune_ros.eval import stats
from specprune_ros.eval.results import write_json

STREAK_PERIODS = 3
"""In a longer pause between two actions the node held; such a pause says nothing about the control rate."""


def summary(
    episodes: Sequence[EpisodeTrace], counters: Mapping[str, int], period_s: float, machine: Mapping[str, object]
) -> dict[str, object]:
    """The documented keys of `demo.json`, and more. counters: the node's own, from its diagnostics."""
    inferences = [inference for episode in episodes for inference in episode.inferences]
    intervals = [interval for episode in episodes for interval in action_intervals_s(episode, period_s)]
    return {
        "episodes": len(episodes),
        "successes": sum(episode.success for episode in episodes),
        "control_rate_hz": round(1 / stats.mean(intervals), 3) if intervals else 0.0,
        "deadline_misses": counters.get("deadline_misses", 0),
        "latency_ms": stats.percentiles_ms([inference.total_ms for inference in inferences]),
        "tokens": {
            "total": max((inference.tokens_total for inference in inferences), default=0),
            "kept_mean": round(stats.mean([inference.tokens_kept for inference in inferences]), 2),
        },
        "modes": dict(Counter(inference.mode for inference in inferences)),
        "chunk_age_ms": stats.percentiles_ms([inference.chunk_age_ms for inference in inferences]),
        "action_interval_ms": stats.percentiles_ms([1e3 * interval for interval in intervals]),
        "counters": dict(counters),
        "machine": dict(machine),
        "per_episode": [episode_summary(episode) for episode in episodes],
    }


def action_intervals_s(episode: EpisodeTrace, period_s: float) -> list[float]:
    """Times between the stamps of consecutive Actions, without the pauses in which the node held."""
    gaps = np.diff(episode.action_stamps_ns) * 1e-9 if len(episode.action_stamps_ns) > 1 else []
    return [float(gap) for gap in gaps if gap < STREAK_PERIODS * period_s]


def episode_summary(episode: EpisodeTrace) -> dict[str, object]:
    """One entry of `per_episode`."""
    return {
        "seed": episode.seed,
        "instruction": episode.instruction,
        "success": episode.success,
        "seconds": round(episode.duration_s, 2),
        "actions": len(episode.action_stamps_ns),
        "inferences": len(episode.inferences),
        "tokens_kept_mean": round(stats.mean([i.tokens_kept for i in episode.inferences]), 1),
        "latency_p50_ms": round(stats.median([i.total_ms for i in episode.inferences]), 1),
        "modes": dict(Counter(i.mode for i in episode.inferences)),
        "hold_reasons": episode.hold_reasons,
    }


def write_report(folder: Path, episodes: Sequence[EpisodeTrace], result: Mapping[str, object]) -> None:
    """Write all files of the report. Without a single inference there are no pictures."""
    write_json(folder / "demo.json", result)
    if not any(episode.inferences for episode in episodes):
        return
    plot_latency(folder / "latency.png", episodes, result)
    plot_tokens(folder / "tokens.png", episodes)
    shown, time_s = video.poster_time(episodes)
    poster = video.frame(shown, time_s, video.title(episodes, shown))
    encoded = cv2.imencode(".png", cv2.cvtColor(poster, cv2.COLOR_RGB2BGR))[1]
    (folder / "poster.png").write_bytes(encoded.tobytes())
    video.write_video(folder / "demo.mp4", video.frames(episodes))


def plot_latency(path: Path, episodes: Sequence[EpisodeTrace], result: Mapping[str, object]) -> None:
    """Time of every inference, stage by stage, and its percentiles."""
    inferences = [inference for episode in episodes for inference in episode.inferences]
    figure, axes = _figure("inference (in order)", "time [ms]")
    bottom = np.zeros(len(inferences))
    for (stage, colour), heights in zip(STAGE_COLOURS.items(), _stage_rows(inferences), strict=True):
        axes.bar(range(len(inferences)), heights, bottom=bottom, width=1.0, color=colour, label=stage)
        bottom += heights
    for name, style in (("p50", "--"), ("p95", ":")):
        value = result["latency_ms"][name]
        axes.axhline(value, color="black", linestyle=style, linewidth=1, label=f"{name} {value:.0f} ms")
    axes.set_title("Inference latency, image to action chunk", loc="left")
    _episode_marks(axes, episodes)
    axes.set_ylim(0, 1.15 * max(bottom.max(), 1.0))
    _save(figure, path)


STAGE_COLOURS = {
    "preprocess": "#b0b4c0",
    "vision": "#7aa6d8",
    "selection": "#e0663a",
    "decoder": "#5f78b8",
    "head": "#9ad0a5",
    "other": "#e4e4e8",
}


def _stage_rows(inferences: Sequence[Inference]) -> list[np.ndarray]:
    """Times per stage of STAGE_COLOURS; 'other' is what is left of the total."""
    named = [np.array([i.stages_ms.get(stage, 0.0) for i in inferences]) for stage in list(STAGE_COLOURS)[:-1]]
    total = np.array([inference.total_ms for inference in inferences])
    return [*named, np.maximum(0.0, total - sum(named))]


def plot_tokens(path: Path, episodes: Sequence[EpisodeTrace]) -> None:
    """Visual tokens kept by every inference, coloured by mode."""
    inferences = [inference for episode in episodes for inference in episode.inferences]
    figure, axes = _figure("inference (in order)", "visual tokens kept")
    for mode, colour in MODE_COLOURS.items():
        bars = [(i, inference.tokens_kept) for i, inference in enumerate(inferences) if inference.mode == mode]
        if bars:
            shade = tuple(channel / 255 for channel in colour)
            axes.bar(*zip(*bars, strict=True), width=1.0, color=shade, edgecolor="white", linewidth=0.5, label=mode)
    total = max(inference.tokens_total for inference in inferences)
    axes.axhline(total, color="black", linewidth=1, label=f"all {total}")
    axes.set_title("Visual tokens that reach the last decoder layer", loc="left")
    _episode_marks(axes, episodes)
    axes.set_ylim(0, 1.15 * total)
    _save(figure, path)


def _episode_marks(axes, episodes: Sequence[EpisodeTrace]) -> None:
    """A line where a new episode begins, with its number."""
    start = 0
    for number, episode in enumerate(episodes, start=1):
        axes.axvline(start - 0.5, color="#888888", linewidth=0.8)
        axes.text(start, 0.98, f"episode {number}", transform=axes.get_xaxis_transform(), fontsize=7, va="top")
        start += len(episode.inferences)
    axes.set_xlim(-0.5, start - 0.5)


def _figure(xlabel: str, ylabel: str):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=130, layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path: Path) -> None:
    figure.legend(loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
