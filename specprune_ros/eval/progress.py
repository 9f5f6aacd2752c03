"""Progress of long runs: a live bar with the time left on a terminal, and a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LOG_PERIOD_S = 15.0


class Reporter:
    """Counts finished items; `note` is a short remark beside the count."""

    def __init__(self, title: str, total: int, console: Console, bar: Progress | None):
        self._title, self._total, self._console, self._bar = title, total, console, bar
        self._task = bar.add_task(title, total=total, note="") if bar else None
        self._started = self._logged = time.monotonic()
        self._done = 0

    def advance(self, note: str = "") -> None:
        self._done += 1
        if self._bar:
            self._bar.update(self._task, advance=1, note=note)
        elif time.monotonic() - self._logged > LOG_PERIOD_S or self._done == self._total:
            self._logged = time.monotonic()
            line = f"{self._title}: {self._done}/{self._total}, {self._left()} left  {note}"
            self._console.print(line, soft_wrap=True)

    def _left(self) -> str:
        seconds = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


@contextmanager
def progress(title: str, total: int, console: Console) -> Iterator[Reporter]:
    """A Reporter for `total` items of work."""
    if not console.is_terminal:
        yield Reporter(title, total, console, None)
        return
    columns = ("[bold]{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "left")
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console) as bar:
        yield Reporter(title, total, console, bar)


@contextmanager
def loading(title: str, console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """progress(done_bytes, total_bytes, name) for `load_checkpoint` and the like; silent where there is no terminal."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total)
