"""One inference as functions of tensors: what the cameras show, what runs before anything is pruned, and what runs
after.

Nothing in here looks at a value on the host, so that a GPU never waits and the halves can be captured as graphs.
Shapes depend on the cameras' sizes, `Layout` and `Plan` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from specprune_ros.infer.preprocess import to_compare, to_model
from specprune_ros.model.decoder import Rope
from specprune_ros.model.vla import History, Plan, Vla, reached
from specprune_ros.prune.frames import patch_similarity
from specprune_ros.prune.layout import Layout


class StageClock(Protocol):
    """`with clock("vision"): ...` says which of `types.STAGES` the work inside belongs to; a stage inside another
    counts alone."""

    def __call__(self, stage: str) -> AbstractContextManager[None]: ...


class PassInputs(NamedTuple):
    """What an inference reads, on the model's device. None where there is none."""

    frames: tuple[Tensor, ...]
    """(H, W, 3) uint8 per view."""
    prompt: Tensor
    """(1, 1 + n_prompt) int64 token ids, BOS first."""
    proprio: Tensor | None
    """(1, P) normalised."""
    reference: tuple[Tensor, ...] | None
    """(H, W, 3) uint8 per view, some periods ago."""
    last_attention: Tensor | None
    """(layers, V, N) scores of the last pass."""
    noise: Tensor | None = None
    """(V, N) int32, of this pass, for a strategy that draws."""


class Cameras(NamedTuple):
    """Frames as they come: (H, W, 3) uint8 per view, now and some periods ago."""

    frames: tuple[Tensor, ...]
    reference: tuple[Tensor, ...] | None


class Seen(NamedTuple):
    """(V, S, S, 3) uint8 each. pixels: what the towers see; now, then: what patches are compared on, None where
    nothing is."""

    pixels: Tensor
    now: Tensor | None
    then: Tensor | None


class PrefixInputs(NamedTuple):
    """What the first half reads. compare: () bool, whether there is a reference; None where nothing is compared."""

    images: Cameras | Seen
    prompt: Tensor
    proprio: Tensor | None
    compare: Tensor | None


class Middle(NamedTuple):
    """The state between the halves: x (1, L, width), scores of the first layers (layers, V, N), similarity (V, N)."""

    x: Tensor
    scores: Tensor | None
    similarity: Tensor | None


class SuffixInputs(NamedTuple):
    """What the second half reads. last_attention: (layers, V, N) scores of the last pass, or -inf everywhere; noise:
    (V, N) int32."""

    middle: Middle
    last_attention: Tensor | None
    noise: Tensor | None = None


class Outputs(NamedTuple):
    """actions: (1, T, dims) float32 normalised; bits: (V * N,) uint8 of `Source`; last_attention: (layers, V, N) for
    the next pass."""

    actions: Tensor
    bits: Tensor
    last_attention: Tensor | None


class Passes:
    """What an inference is made of, for one model."""

    def __init__(self, model: Vla):
        self.model = model
        self._side: torch.cuda.Stream | None = None

    @contextmanager
    def _beside(self, like: Tensor, clock: StageClock) -> Iterator[None]:
        """Work on a GPU beside what follows it, until `_join`: comparing frames leaves most of the device idle, and
        nobody needs the result before the static selection. Elsewhere in its turn, as selection."""
        if not like.is_cuda:
            with clock("selection"):
                yield
            return
        self._side = self._side or torch.cuda.Stream(like.device)
        self._side.wait_stream(torch.cuda.current_stream(like.device))
        # Memory needs no record_stream: each stream waits for the other before it goes on to allocate again.
        with torch.cuda.stream(self._side):
            yield

    def _join(self, like: Tensor, clock: StageClock) -> None:
        if like.is_cuda:
            with clock("selection"):
                torch.cuda.current_stream(like.device).wait_stream(self._side)

    def see(self, cameras: Cameras, clock: StageClock) -> Seen:
        """What the towers see, and what patches are compared on."""
        config, now, then = self.model.config, None, None
        if cameras.reference is not None:
            with self._beside(cameras.frames[0], clock):
                now, then = (to_compare(frames, config) for frames in (cameras.frames, cameras.reference))
        with clock("preprocess"):
            pixels = to_model(cameras.frames, config)
        return Seen(pixels, now, then)

    def prefix(
        self,
        seen: Seen,
        prompt: Tensor,
        proprio: Tensor | None,
        layout: Layout,
        rope: Rope,
        scored: str,
        similarity: str,
        clock: StageClock,
    ) -> Middle:
        """Vision, assembly and the decoder layers before the static selection.

        seen: (V, S, S, 3) uint8 pictures; prompt: (1, 1 + n_prompt) int64; proprio: (1, P) normalised, or None; rope:
        for the layout's length; scored: name of the rows whose attention gives scores, or empty; similarity: one of the
        names that `prune.frames.patch_similarity` takes. The shapes of the result are those of `Middle`, in
        the model's dtype.
        """
        model, alike = self.model, None
        if seen.then is not None:
            with self._beside(seen.then, clock):
                alike = patch_similarity(seen.now, seen.then, model.config.towers[0].patch, similarity)
        with clock("vision"):
            visual = model.encode(seen.pixels)
        with clock("decoder"):
            x, scores = model.prefix(model.assemble(visual, proprio, prompt), rope, layout, scored, clock)
        if alike is not None:
            self._join(alike, clock)
        return Middle(x, scores, alike)

    def suffix(self, given: SuffixInputs, layout: Layout, rope: Rope, plan: Plan, clock: StageClock) -> Outputs:
        """Static selection, the other layers with dynamic pruning, and the action head.

        given: its middle is from `prefix` with the same layout and rope. The actions of the result are (1, T, dims)
        float32, normalised.
        """
        middle = given.middle
        history = History(given.last_attention, middle.similarity, given.noise)
        with clock("decoder"):
            states, trace = self.model.suffix(middle.x, rope, layout, plan, history, middle.scores, clock)
        with clock("selection"):
            bits = reached(trace, layout)
        with clock("head"):
            actions = self.model.act(states).float()
        return Outputs(actions, bits, trace.last_attention)


@dataclass(frozen=True)
class PrefixHalf:
    """The first half as a function of tensors alone: the form that is captured. Equal fields, equal shapes and
    constants."""

    passes: Passes
    layout: Layout
    rope: Rope
    scored: str
    similarity: str

    def __call__(self, given: PrefixInputs, clock: StageClock) -> Middle:
        """similarity is +inf, "unchanged", while there is nothing to compare with."""
        seen = given.images if isinstance(given.images, Seen) else self.passes.see(given.images, clock)
        fixed = (self.layout, self.rope, self.scored, self.similarity)
        middle = self.passes.prefix(seen, given.prompt, given.proprio, *fixed, clock)
        if middle.similarity is None:
            return middle
        with clock("selection"):
            return middle._replace(similarity=middle.similarity.masked_fill(~given.compare, float("inf")))


@dataclass(frozen=True)
class SuffixHalf:
    """The second half likewise, for one plan."""

    passes: Passes
    layout: Layout
    rope: Rope
    plan: Plan

    def __call__(self, given: SuffixInputs, clock: StageClock) -> Outputs:
        return self.passes.suffix(given, self.layout, self.rope, self.plan, clock)


Half = PrefixHalf | SuffixHalf
