"""The staircase of the machine that a policy runs on: measured once, a few milliseconds at a time, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from specprune_ros.config import Pruning
from specprune_ros.infer.model_cache import default_folder, write_whole
from specprune_ros.infer.processor import cpu_name
from specprune_ros.infer.timing import seconds_of
from specprune_ros.model.decoder import PRODUCTS, Decoder
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.staircase import FREE_SHARE, GAIN_SHARE, Staircase, decoder_seconds, pointless_from
from specprune_ros.types import Mode

log = logging.getLogger(__name__)

FEWEST_ROWS, ROW_STEP, MOST_ROWS_STEP = 32, 16, 64
"""Rows that are measured: from FEWEST_ROWS on every ROW_STEP and the one above it, up to the next multiple of
MOST_ROWS_STEP above the length of a sequence, so that few instructions are longer."""

REPEATS = {"cuda": 8, "cpu": 1}
"""Layers in a row that one time is the mean of."""

FULL_SWEEPS, MOST_SWEEPS, BUDGET_S = 2, 12, 2.0
"""The shortest time of each count of rows counts, because what disturbs a measurement makes it longer. The full sweeps
measure every count, or as many as fit into BUDGET_S; later ones, while there is time, those that took longer than a
larger count: a disturbance looks like that, and so does a step that is really there."""


def rows_to_measure(length: int) -> list[int]:
    """Rising counts of rows for sequences of `length` tokens."""
    most = -(-max(length, FEWEST_ROWS + 1) // MOST_ROWS_STEP) * MOST_ROWS_STEP
    return sorted({*range(FEWEST_ROWS, most + 1, ROW_STEP), *range(FEWEST_ROWS + 1, most, ROW_STEP)})


class Measurement:
    """Times of one decoder layer's products by rows, on the device and in the arithmetic that the decoder has.

    The layers are taken in turn, so that weights stream from memory as in an inference. `advance` measures one count of
    rows, between which inferences may run.
    """

    def __init__(self, decoder: Decoder, length: int):
        self._layers, self._turn = decoder.layers, 0
        self._device = decoder.norm.weight.device
        self._rows = rows_to_measure(length)
        self._given = {
            name: self._random(getattr(decoder.layers[0], name).weight.shape[1], decoder.norm.weight)
            for name in PRODUCTS
        }
        self._times: dict[int, list[float]] = {}
        self._todo: list[int] = []
        self._sweeps, self._timed, self._spent_s = 0, 0, 0.0
        # One thread's own time leaves out what other programs take; several threads wait for each other.
        self._clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    @torch.inference_mode()
    def advance(self) -> bool:
        """Measure one count of rows; False when there is none left."""
        if not self._times:
            self._choose()
        began_s, rows = time.perf_counter(), self._todo.pop()
        self._times.setdefault(rows, []).append(self._time(rows))
        self._timed, self._spent_s = self._timed + 1, self._spent_s + time.perf_counter() - began_s
        if not self._todo:
            self._next_sweep()
        return bool(self._todo)

    @property
    def noise(self) -> float:
        """How much two measurements of the same rows differ, relative to the shorter one: the median over the rows."""
        pairs = [times[:FULL_SWEEPS] for times in self._times.values()]
        return statistics.median(max(pair) / min(pair) - 1.0 for pair in pairs)

    def staircase(self) -> Staircase:
        """What was measured; call it when nothing is left.

        Where the noise is above what counts as free, steps cannot be told from it: then it is the straight line that
        fits best, on which hardly any row is free.
        """
        best = {rows: min(times) for rows, times in sorted(self._times.items())}
        found = Staircase(tuple(best), tuple(best.values()))
        return found if self.noise <= FREE_SHARE else found.straightened()

    def _random(self, width: int, like: torch.Tensor) -> torch.Tensor:
        """(1, most rows, width); not zeros, which cost a GPU less power."""
        numbers = torch.empty(1, self._rows[-1], width, device=like.device, dtype=like.dtype)
        return numbers.normal_(generator=torch.Generator(like.device).manual_seed(0))

    def _time(self, rows: int) -> float:
        return seconds_of(lambda: self._layer(rows), self._device, REPEATS.get(self._device.type, 1), self._clock)

    def _layer(self, rows: int) -> None:
        layer = self._layers[self._turn % len(self._layers)]
        self._turn += 1
        for name, given in self._given.items():
            getattr(layer, name)(given[:, :rows])

    def _choose(self) -> None:
        """The counts of a sweep, the longest last: all, or every so many where all would take too long."""
        longest = self._rows[-1]
        self._time(longest)  # loads what is loaded at first
        began_s = time.perf_counter()
        self._time(longest)
        would_s = FULL_SWEEPS * len(self._rows) * (time.perf_counter() - began_s) / 2
        every = min(max(1, math.ceil(would_s / BUDGET_S)), len(self._rows) - 1)
        self._rows = self._rows[::-every][::-1]
        self._todo = list(self._rows)

    def _next_sweep(self) -> None:
        self._sweeps += 1
        if self._sweeps < FULL_SWEEPS:
            self._todo = list(self._rows)
        elif self._sweeps < MOST_SWEEPS:
            rows = self._dubious()
            if self._spent_s * (1 + len(rows) / self._timed) <= BUDGET_S:
                self._todo = rows

    def _dubious(self) -> list[int]:
        """Counts of rows that took longer than a larger count."""
        least_s, found = math.inf, []
        for rows in reversed(self._rows):
            seconds = min(self._times[rows])
            if seconds > least_s:
                found.append(rows)
            least_s = min(least_s, seconds)
        return found[::-1]


def description(decoder: Decoder, length: int) -> dict[str, object]:
    """Everything that a staircase depends on; a kept one is used only where all of it is the same."""
    weights = [getattr(decoder.layers[0], name).weight for name in PRODUCTS]
    device, on_gpu = weights[0].device, weights[0].device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else cpu_name(),
        "dtype": str(decoder.norm.weight.dtype).removeprefix("torch."),
        "weights": str(weights[0].dtype).removeprefix("torch."),
        "threads": 0 if on_gpu else torch.get_num_threads(),
        "torch": torch.__version__,
        "products": [list(weight.shape) for weight in weights],
        "layers": len(decoder.layers),
        "most_rows": rows_to_measure(length)[-1],
    }


class StaircaseFile:
    """Staircases in `folder`, one file each: JSON of what it depends on, rows and seconds. None: nothing is kept."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def load(self, key: dict[str, object]) -> Staircase | None:
        """The one of this description; None when there is none, or none that is whole."""
        if self.folder is None:
            return None
        try:
            kept = json.loads(self._path(key).read_bytes())
            rows, seconds = kept["rows"], kept["seconds"]
            if kept["measured_on"] != key or not all(type(count) is int for count in rows):
                return None
            return Staircase(tuple(rows), tuple(float(second) for second in seconds))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, key: dict[str, object], staircase: Staircase) -> None:
        """Keep it; where that is not possible, the log says so and it is measured again at the next start."""
        if self.folder is None:
            return
        content = {"measured_on": key, "rows": staircase.rows, "seconds": staircase.seconds}
        try:
            write_whole(self._path(key), json.dumps(content).encode())
        except OSError as error:
            reason = error.strerror or error
            log.warning(
                "policy.cache_dir: the staircase cannot be kept in %s (%s); inference works without",
                self.folder,
                reason,
            )

    def _path(self, key: dict[str, object]) -> Path:
        digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
        return self.folder / f"staircase-{digest}.json"


class MachineStaircase:
    """The staircase of one policy's machine, as soon as it is known.

    staircase: None until then, and for ever where it cannot be measured; budgets are the paper's meanwhile.
    """

    def __init__(self, decoder: Decoder, cache_dir: str = ""):
        """cache_dir: folder to keep it in; empty: the default one."""
        self._decoder = decoder
        self._file = StaircaseFile(Path(cache_dir).expanduser() if cache_dir else default_folder())
        self._measurement: Measurement | None = None
        self._asked: tuple[Pruning, Layout] | None = None
        self._spent_s = 0.0
        self.staircase: Staircase | None = None

    @property
    def pending(self) -> bool:
        """It is wanted, and `advance` has something to do."""
        return self._measurement is not None

    def want(self, pruning: Pruning, layout: Layout) -> None:
        """It will be needed: take it from the disk, or get ready to measure. Takes a moment only at the first call."""
        if self._asked is not None:
            return
        self._asked = pruning, layout
        try:
            self._key = description(self._decoder, layout.length)
            if (kept := self._file.load(self._key)) is not None:
                self._use(kept, f"as measured before ({self._file.folder})")
                return
            self._measurement = Measurement(self._decoder, layout.length)
        except Exception as error:
            self._give_up(error)

    def advance(self) -> bool:
        """Measure one count of rows, some milliseconds; False when nothing is left to measure."""
        if self._measurement is None:
            return False
        began_s = time.perf_counter()
        try:
            more = self._measurement.advance()
            self._spent_s += time.perf_counter() - began_s
            if more:
                return True
            measured, noise, self._measurement = self._measurement.staircase(), self._measurement.noise, None
            how = f"measured in {self._spent_s:.1f} s"
            if noise <= FREE_SHARE:
                self._file.save(self._key, measured)
            else:
                how += f" (too unsteady to see steps: repetitions differ by {noise:.0%}; again at the next start)"
            self._use(measured, how)
        except Exception as error:  # out of memory, a driver that does not record
            self._give_up(error)
        return False

    def finish(self) -> None:
        """Measure all that is left."""
        while self.advance():
            pass

    def _use(self, staircase: Staircase, how: str) -> None:
        self.staircase = staircase
        log.info("pruning.budget: %s, %s: %s", self._key["device"], how, self.in_words(*self._asked))

    def _give_up(self, error: Exception) -> None:
        self._measurement = None
        why = " ".join(str(error).split()) or type(error).__name__
        log.warning("pruning.budget: the machine cannot be measured, token counts are the paper's: %s", why)

    def in_words(self, pruning: Pruning, layout: Layout) -> str:
        """What pruning brings on this machine, and from which aggressiveness on harder pruning brings nothing."""
        depth = len(self._decoder.layers)
        level = pointless_from(pruning, layout, depth, self.staircase)

        def spent_ms(aggressiveness: float) -> str:
            asked = replace(pruning, aggressiveness=aggressiveness, keep=0.0)
            seconds = decoder_seconds(asked, Mode.COARSE, layout, depth, self.staircase)
            return f"{1e3 * seconds:.2f} ms at {aggressiveness:g}"

        times = ", ".join(spent_ms(each) for each in sorted({0.0, 0.5, level, 1.0}))
        gain = f"less than {GAIN_SHARE:.0%} of the decoder's time"
        if level == 1.0:
            verdict = "harder pruning saves time up to pruning.aggressiveness 1"
        elif level == 0.0:
            verdict = f"pruning saves {gain} here: pruning.aggressiveness 0 is as fast"
        else:
            verdict = f"nothing is gained by pruning.aggressiveness above {level:g}: that saves {gain}"
        return f"{verdict} (predicted products of the decoder: {times})"
