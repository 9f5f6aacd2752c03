"""Finished episodes, and the JSON-lines file that each of them is written to at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from specprune_ros.config import ConfigError
from specprune_ros.eval.rollout import Episode


class Job(NamedTuple):
    """One episode that is to be played."""

    suite: str
    mode: str
    seed: int


class Record:
    """Finished episodes by suite, mode and seed.

    The file beside the results begins with one line about the settings and what was declared; every other line is an
    episode. A line that was being written when the power went is dropped, and its episode played again."""

    def __init__(self, path: Path | None, declared: Mapping[str, object]):
        self.path = path
        self.declared = dict(declared)
        self._episodes: dict[Job, Episode] = {}

    @classmethod
    def open(cls, results: Path | None, settings: Mapping, declared: Mapping, restart: bool) -> Record:
        """A record that goes on with the episodes kept beside the `results` file, or in memory without one.

        ConfigError if they were played under other settings or margins, or if `results` is another program's."""
        if results is None:
            return cls(None, declared)
        path = results.with_suffix(".jsonl")
        if results.exists() and not restart:
            _check_is_ours(results, path)
        if path.exists() and not restart:
            before, lines = _read(path)
            _compare(path, before.get("settings"), settings)
            _compare(path, _fixed_for_good(before.get("declared")), _fixed_for_good(declared))
            record = cls(path, before["declared"])
            for line in lines:
                record._keep(line["mode"], Episode.from_json({k: v for k, v in line.items() if k != "mode"}))
            return record
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": settings, "declared": declared}) + "\n")
        return cls(path, declared)

    def __contains__(self, job: Job) -> bool:
        return job in self._episodes

    def __getitem__(self, job: Job) -> Episode:
        return self._episodes[job]

    def add(self, mode: str, episode: Episode) -> None:
        """Keep a finished episode, on disk before this returns."""
        self._keep(mode, episode)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps({"mode": mode, **episode.to_json()}) + "\n")

    def _keep(self, mode: str, episode: Episode) -> None:
        self._episodes[Job(episode.suite, mode, episode.seed)] = episode


def _read(path: Path) -> tuple[dict, Iterator[dict]]:
    """The first line and the others; what follows the last line break is cut off the file."""
    whole = path.read_bytes()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        with path.open("r+b") as file:
            file.truncate(end)
    try:
        first, *lines = [json.loads(line) for line in whole[:end].splitlines()]
        if not isinstance(first["settings"], dict) or not isinstance(first["declared"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path}: not the episodes of specprune evaluate; give another --json file or --restart"
        ) from None
    return first, iter(lines)


def _compare(path: Path, before: object, now: object) -> None:
    if before != json.loads(json.dumps(now)):
        raise ConfigError(
            f"{path} holds episodes run with {before}, asked for now: {now}; give another --json file or --restart"
        )


def _fixed_for_good(declared: Mapping) -> dict[str, object]:
    """What may not change any more once episodes are seen. More episodes are allowed, but they show in the verdict."""
    return {key: value for key, value in declared.items() if key not in ("episodes", "seed0")}


def _check_is_ours(results: Path, episodes: Path) -> None:
    try:
        document = json.loads(results.read_text())
        ours = "modes" in document and "paired" in document
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise ConfigError(f"{results}: not a result of specprune evaluate; give another --json file")
    if not episodes.exists():
        raise ConfigError(
            f"{results}: its episodes are not there ({episodes.name}); give another --json file or --restart"
        )
