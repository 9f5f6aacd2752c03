"""One inference as two functions of tensors: what runs before anything is pruned, and what runs after.

Nothing in here looks at a value on the host, so that a GPU never waits and both halves can be captured as graphs. Shapes depend
on the cameras' sizes, `Layout` and `Plan` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from specprune_ros.infer.preprocess import to_compare, to_model
from specprune_ros.model.decoder import Rope
from specprune_ros.model.vla import History, Plan, Vla, reached
from specprune_ros.prune.frames import patch_similarity
from specprune_ros.prune.layout import Layout


@dataclass(frozen=True)
class Inputs:
    """What an inference reads, on the model's device. frames, reference: (H, W, 3) uint8 per view; prompt: (1, 1 + n_prompt) ids, BOS
    first; proprio: (1, P) normalised; reuse: (layers, V, N) scores of the last pass. None where there is none."""

    frames: tuple[Tensor, ...]
    prompt: Tensor
    proprio: Tensor | None
    reference: tuple[Tensor, ...] | None
    reuse: Tensor | None


@dataclass(frozen=True)
class Middle:
    """The state between the halves: x (1, L, width), scores of the first layers (layers, V, N), similarity (V, N)."""

    x: Tensor
    scores: Tensor | None
    similarity: Tensor | None


@dataclass(frozen=True)
class Outputs:
    """actions: (1, T, dims) normalised; bits: (V * N,) uint8 of `Source`; salient: (layers, V, N) for the next pass; lengths: tokens that
    every decoder layer processed."""

    actions: Tensor
    bits: Tensor
    salient: Tensor | None
    lengths: tuple[int, ...]


class Passes:
    """The two halves, for one model."""

    def __init__(self, model: Vla):
        self.model = model

    def prefix(self, inputs: Inputs, layout: Layout, rope: Rope, scored: bool, similarity: str, clock) -> Middle:
        """Preprocessing, vision, assembly and the decoder layers before the static selection."""
        model = self.model
        with clock("preprocess"):
            pixels = to_model(inputs.frames, model.config)
        with clock("vision"):
            visual = model.encode(pixels)
        alike = None
        if inputs.reference is not None:
            with clock("selection"):
                now, then = to_compare(inputs.frames, model.config), to_compare(inputs.reference, model.config)
                alike = patch_similarity(now, then, model.config.towers[0].patch, similarity)
        with clock("decoder"):
            x, scores = model.prefix(model.assemble(visual, inputs.proprio, inputs.prompt), rope, layout, scored, clock)
        return Middle(x, scores, alike)

    def suffix(self, middle: Middle, reuse: Tensor | None, layout: Layout, rope: Rope, plan: Plan, clock) -> Outputs:
        """Static selection, the other layers with dynamic pruning, and the action head."""
        history = History(reuse, middle.similarity)
        with clock("decoder"):
            states, trace = self.model.suffix(middle.x, rope, layout, plan, history, middle.scores, clock)
        with clock("selection"):
            bits = reached(trace, layout)
        with clock("head"):
            actions = self.model.act(states).float()
        return Outputs(actions, bits, trace.salient, tuple(trace.lengths))
