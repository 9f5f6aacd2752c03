"""The policy's end of the converter process (`infer.convert`)."""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from torch import nn

from specprune_ros.infer.convert import Order, Subject
from specprune_ros.infer.model_cache import ConvertedModel

LONGEST_S = 600.0
"""Time limit [s] for converting one half, including the start of the process. Even a slow, busy machine needs far
less."""

LOOK_EVERY_S = 0.2
END_S = 5.0


class ConversionFailed(RuntimeError):
    """A half cannot be converted: the text says why."""


class Converter:
    """Starts the process when the first order comes, and again after `stop`. Orders come from one thread."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._process: subprocess.Popen | None = None
        self._errors = None

    def convert(self, order: Order) -> ConvertedModel:
        """The converted half; ConversionFailed when there is none."""
        try:
            if self._process is None:
                self._start()
            self._send(order)
            answer = self._answer()
        except (OSError, EOFError, pickle.PickleError) as error:
            said = self._last_words()
            self.stop()
            raise ConversionFailed(f"the converter process ended ({said or error})") from error
        if isinstance(answer, ConvertedModel):
            return answer
        raise ConversionFailed(answer)

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            process.stdin.close()  # it ends with its orders
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._errors.close()

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed by stop()
        # The same package as here, also where it runs from a copied tree.
        paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "specprune_ros.infer.convert"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._send(Subject(self._model))

    def _send(self, record: Subject | Order) -> None:
        pickle.dump(record, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _answer(self):
        """The next answer; a process that does not answer is given up, and at the end of this one nothing is waited
        for."""
        deadline_s = time.monotonic() + LONGEST_S
        while not select.select([self._process.stdout], [], [], LOOK_EVERY_S)[0]:
            if not threading.main_thread().is_alive():
                self._process.kill()
            elif time.monotonic() > deadline_s:
                self._process.kill()
                raise TimeoutError(f"no answer within {LONGEST_S:g} s")
        return pickle.load(self._process.stdout)

    def _last_words(self) -> str:
        """The last line that the process wrote to its standard error."""
        try:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
        except (AttributeError, OSError, ValueError):
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
