"""Which halves of inferences are captured, which are wanted, and which cannot be had: the graphs' shelf, apart from
capturing.

A graph fixes shapes, so there is one for the prefix of every layout and camera size, and one for the suffix of every
plan. Reading and writing may happen in two threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from specprune_ros.infer.clock import Spent
from specprune_ros.infer.passes import Middle, Outputs, PassInputs, PrefixInputs
from specprune_ros.model.vla import Plan
from specprune_ros.prune.layout import Layout

MOST_PREFIXES = 8
MOST_WANTED = 24
"""Inferences that wait for their graphs. What is asked for beyond that is forgotten, until such an inference comes."""

MOST_FAILURES = 3
"""After this many failed captures no further one is tried."""


class Captured(Protocol):
    """A recorded half: `replay` runs it on what its input buffers hold now and overwrites `outputs`."""

    outputs: Middle | Outputs

    def replay(self) -> None:
        """Run the half on what its input buffers hold now."""
        ...

    def spent(self) -> Spent:
        """Where the time of the last replay went; to be read after its outputs were."""
        ...


class Key(NamedTuple):
    """What a pair of graphs depends on besides the values in its buffers."""

    layout: Layout
    sizes: tuple[tuple[int, ...], ...]
    scored: str
    similarity: str
    plan: Plan

    @property
    def prefix(self) -> tuple:
        """What the first half alone depends on: everything but the plan."""
        return self[:-1]


def key_of(inputs: PassInputs, layout: Layout, plan: Plan) -> Key:
    """sizes: of the frames of all views and of the frames they are compared with."""
    frames = (*inputs.frames, *(inputs.reference or inputs.frames))
    return Key(layout, tuple(tuple(frame.shape) for frame in frames), plan.scored, plan.static.similarity, plan)


@dataclass
class Prefix:
    """A captured first half: the buffers it reads, the buffers of the last pass's scores and of noise that its suffixes
    read besides, and those suffixes."""

    given: PrefixInputs
    last_attention: Tensor
    captured: Captured
    noise: Tensor | None = None
    suffixes: OrderedDict[Plan, Captured] = field(default_factory=OrderedDict)


class Wanted(NamedTuple):
    """An inference whose graphs are to be made. Of `inputs` only the shapes and types matter, not the values."""

    inputs: PassInputs
    layout: Layout
    plan: Plan


class Shelf:
    """Graphs by key. The least recently used ones go first when there are more than `MOST_PREFIXES` or
    `most_suffixes`."""

    def __init__(self, most_suffixes: int):
        self.most_suffixes = most_suffixes
        self._prefixes: OrderedDict[tuple, Prefix] = OrderedDict()
        self._wanted: OrderedDict[Key, Wanted] = OrderedDict()
        self._failed: dict[Key, str] = {}
        self._working: Key | None = None
        self._changed = threading.Condition()

    def pair(self, key: Key) -> tuple[Prefix, Captured] | None:
        """Both graphs, which are then the most recently used; None when one is missing."""
        with self._changed:
            prefix = self._prefixes.get(key.prefix)
            suffix = prefix and prefix.suffixes.get(key.plan)
            if suffix is None:
                return None
            self._prefixes.move_to_end(key.prefix)
            prefix.suffixes.move_to_end(key.plan)
            return prefix, suffix

    def prefix(self, key: Key) -> Prefix | None:
        """The captured first half for a key, without counting as a use; None when there is none."""
        with self._changed:
            return self._prefixes.get(key.prefix)

    def want(self, key: Key, wanted: Wanted, urgent: bool = False) -> bool:
        """Ask for a pair of graphs; False when it need not be made: it is there or being made, it failed before, or too
        many captures have failed. urgent: before all others. Of more than MOST_WANTED wishes the last are forgotten."""
        with self._changed:
            known = key in self._failed or key == self._working or len(self._failed) >= MOST_FAILURES
            prefix = self._prefixes.get(key.prefix)
            if known or (prefix and key.plan in prefix.suffixes):
                return False
            self._wanted.setdefault(key, wanted)
            if urgent:
                self._wanted.move_to_end(key, last=False)
            while len(self._wanted) > MOST_WANTED:
                self._wanted.popitem(last=True)
            return True

    def take(self) -> tuple[Key, Wanted] | None:
        """The next pair to make, with the inference that it is made for; None when nothing is wanted. Call `done` with
        the same key afterwards."""
        with self._changed:
            if not self._wanted:
                return None
            key, wanted = self._wanted.popitem(last=False)
            self._working = key
            return key, wanted

    def put_prefix(self, key: Key, prefix: Prefix) -> None:
        """Keep a captured first half; the least recently used one beyond MOST_PREFIXES goes, with its second halves."""
        with self._changed:
            self._prefixes[key.prefix] = prefix
            if len(self._prefixes) > MOST_PREFIXES:
                self._prefixes.popitem(last=False)

    def put_suffix(self, key: Key, prefix: Prefix, suffix: Captured) -> None:
        """Keep a captured second half of `prefix`; the least recently used one beyond `most_suffixes` goes."""
        with self._changed:
            prefix.suffixes[key.plan] = suffix
            if len(prefix.suffixes) > self.most_suffixes:
                prefix.suffixes.popitem(last=False)

    def done(self, key: Key, why_not: str = "") -> None:
        """The pair that `take` gave is on the shelf, or cannot be had. why_not: the reason, empty when it is on the
        shelf."""
        with self._changed:
            self._working = None
            if why_not:
                self._failed[key] = why_not
                if len(self._failed) >= MOST_FAILURES:
                    self._wanted.clear()
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is wanted or under way; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._wanted and self._working is None, timeout_s)

    @property
    def outstanding(self) -> int:
        """Pairs that are wanted or under way."""
        with self._changed:
            return len(self._wanted) + (self._working is not None)

    @property
    def ready(self) -> int:
        """Pairs that are on the shelf."""
        with self._changed:
            return sum(len(prefix.suffixes) for prefix in self._prefixes.values())

    @property
    def trouble(self) -> str:
        """Why some pairs cannot be had; empty while nothing went wrong."""
        with self._changed:
            return "; ".join(dict.fromkeys(self._failed.values()))
