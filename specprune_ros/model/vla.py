"""The vision-language-action model: vision -> projector -> decoder with pruning between layers -> action chunk."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.config import Dynamic, Static
from specprune_ros.model.config import ModelConfig
from specprune_ros.model.decoder import Decoder, Rope, rope_table
from specprune_ros.model.vision import Projector, VisionBackbone
from specprune_ros.prune.budgets import SPECPRUNE, Budget, layer_lengths, schedule
from specprune_ros.prune.dynamic import folded
from specprune_ros.prune.layout import TASK, Layout
from specprune_ros.prune.scores import products, scored
from specprune_ros.prune.strategies.protocol import Evidence, Start
from specprune_ros.prune.strategies.registry import STRATEGIES
from specprune_ros.types import Source

HEAD_NORM_EPS = 1e-5
RESIDUAL_BLOCKS = 2


class ResidualBlock(nn.Module):
    """x + ReLU(Linear(LN(x)))."""

    def __init__(self, width: int):
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width, eps=HEAD_NORM_EPS), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class ActionMlp(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(inputs, eps=HEAD_NORM_EPS)
        self.fc1 = nn.Linear(inputs, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(RESIDUAL_BLOCKS))
        self.layer_norm2 = nn.LayerNorm(width, eps=HEAD_NORM_EPS)
        self.fc2 = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class ActionHead(nn.Module):
    """The states of one step's tokens, concatenated, to that step's action (L1-trained in OpenVLA-OFT)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dims = config.action_dims
        self.model = ActionMlp(config.decoder.width * self.dims, config.decoder.width, self.dims)

    def forward(self, states: Tensor) -> Tensor:
        """(B, steps * dims, width) -> (B, steps, dims), normalised actions."""
        return self.model(states.unflatten(1, (-1, self.dims)).flatten(2))


class ProprioProjector(nn.Module):
    def __init__(self, dims: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(dims, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, proprio: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(proprio)))


@dataclass(frozen=True)
class Plan:
    """Everything about a pass that its shapes and constants depend on: equal plans may share one captured graph.

    budget None: keep every token (scores for the next pass are still taken when `remember`); strategy: one of
    `STRATEGIES`.
    """

    static: Static
    dynamic: Dynamic
    budget: Budget | None
    remember: bool
    strategy: str = SPECPRUNE

    @property
    def scored(self) -> str:
        """The rows whose attention is wanted in the first layers, by their name in `prune.layout`; empty: nobody's."""
        return STRATEGIES[self.strategy].rows if self.remember or self.budget is not None else ""

    def layer_lengths(self, layout: Layout, depth: int) -> tuple[int, ...]:
        """Tokens of all kinds that each of `depth` decoder layers processes."""
        return tuple(layer_lengths(layout, depth, self.static, self.dynamic, self.budget, self.strategy))


@dataclass(frozen=True)
class History:
    """What a pass may use of the past. last_attention: (layers, V, N) scores of the last pass, -inf for tokens that did
    not reach a layer; similarity: (V, N) to the reference frame. None, or a tensor of -inf or +inf, where there is
    none. noise: (V, N) int32, drawn for this pass, for a strategy that wants it."""

    last_attention: Tensor | None = None
    similarity: Tensor | None = None
    noise: Tensor | None = None


@dataclass
class Trace:
    """What one pass decided. kept: (n,) original indices of the visual tokens that reached the last layer; static:
    likewise after static pruning; sources: (V, N) uint8; last_attention: (layers, V, N) scores for the next pass."""

    kept: Tensor
    static: Tensor
    sources: Tensor | None = None
    last_attention: Tensor | None = None


class Vla(nn.Module):
    scored, folded = staticmethod(scored), staticmethod(folded)
    """What each scored layer computes besides its output; a model may have faster forms of its own."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config)
        self.decoder = Decoder(config.decoder)
        self.action_head = ActionHead(config)
        if config.proprio_dims:
            self.proprio_projector = ProprioProjector(config.proprio_dims, config.decoder.width)

    def encode(self, images: Tensor) -> Tensor:
        """(V, 3, H, W) floats in [0, 1] -> (1, V * N, width) visual tokens."""
        return self.projector(self.vision_backbone(images)).flatten(0, 1)[None]

    def assemble(self, visual: Tensor, proprio: Tensor | None, prompt: Tensor) -> Tensor:
        """The whole input sequence (docs/reference/openvla_oft.md, Prompt and sequence).

        visual: (B, n, width); proprio: (B, P) normalised or None; prompt: (B, 1 + n_prompt) token ids with BOS first.
        Returns (B, L, width). Placeholder embeddings are zero.
        """
        batch, _, width = visual.shape
        words = self.decoder.embed_tokens(prompt)
        stop = self.decoder.embed_tokens(prompt.new_full((batch, 1), self.config.stop_token_id))
        blank = visual.new_zeros(batch, self.config.placeholders, width)
        state = [] if proprio is None else [self.proprio_projector(proprio.to(visual.dtype))[:, None]]
        return torch.cat([words[:, :1], visual, *state, words[:, 1:], blank, stop], dim=1)

    def rope(self, length: int, x: Tensor) -> Rope:
        return rope_table(self.config.decoder, length, x.device, x.dtype)

    def act(self, states: Tensor) -> Tensor:
        """(B, placeholders, width) decoder states -> (B, steps, dims) normalised actions."""
        return self.action_head(self.decoder.norm(states))

    def decode(
        self, x: Tensor, rope: Rope, layout: Layout, plan: Plan, history: History, timer=None
    ) -> tuple[Tensor, Trace]:
        """All decoder layers; visual tokens leave on the way as `plan` says.

        x: (1, L, width). Returns the states of the readout rows (1, placeholders, width) before the final norm, and
        the trace.
        """
        x, scores = self.prefix(x, rope, layout, plan.scored, timer)
        return self.suffix(x, rope, layout, plan, history, scores, timer)

    def prefix(self, x: Tensor, rope: Rope, layout: Layout, scored: str, timer=None) -> tuple[Tensor, Tensor | None]:
        """The layers before static pruning, on all tokens: the same whatever is kept afterwards.

        scored: name of rows, or empty. Returns x (1, L, width) and, where there are such rows, eq. 1's scores of these
        layers with those rows for task tokens (layers, V, N) float32.
        """
        asked = layout.rows(scored, layout.length) if scored else None
        scores = []
        for layer in self.decoder.layers[: schedule(len(self.decoder.layers)).static]:
            x, rows = layer(x, rope, asked)
            if scored:
                with (timer or _untimed)("selection"):
                    logits = products(*rows)
                    _, score = self.scored(logits, rows[0].shape[-1], layout.FIRST_VISUAL, layout.visual)
                    scores.append(score.view(layout.views, layout.patches))
        return x, torch.stack(scores) if scored else None

    def suffix(
        self, x: Tensor, rope: Rope, layout: Layout, plan: Plan, history: History, scores: Tensor | None, timer=None
    ) -> tuple[Tensor, Trace]:
        """Static pruning and the layers after it: of the last one only the rows that are read. Shapes depend on
        `plan` alone."""
        run = _Pass(self, x, rope, layout, plan, history, timer, len(self.decoder.layers))
        run.begin(scores)
        for number in range(run.when.static + 1, len(self.decoder.layers) + 1):
            rows = run.readout_rows() if number == len(self.decoder.layers) else None
            run.x, scored = self.decoder.layers[number - 1](run.x, run.rope, run.asked(number), rows)
            run.after(number, scored)
        return run.x, run.trace()


def _untimed(stage: str):
    return nullcontext()


class _Pass:
    """What happens after the prefix: the tokens present, in original positions, and what has been scored so far."""

    def __init__(self, model: Vla, x, rope, layout, plan, history, timer, depth):
        self.model = model
        self.x, self.rope, self.layout, self.plan, self.history = x, rope, layout, plan, history
        self.timed = timer or _untimed
        self.strategy, self.when = STRATEGIES[plan.strategy], schedule(depth, plan.strategy)
        self.present = torch.arange(layout.visual, device=x.device)
        self.static, self.sources = self.present, None
        self.last_attention: list[Tensor] = []
        self.ranking = self.strategy.ranking(Start(layout.visual, plan.dynamic, history.noise, x.device, model.folded))

    def begin(self, scores: Tensor | None) -> None:
        """Use the scores of the layers before (layers, V, N)."""
        if self.plan.remember:
            self.last_attention += [scores[number - 1] for number in self.when.remembered if number <= self.when.static]
        if self.plan.budget is not None and self.plan.static.enabled:
            with self.timed("selection"):
                self._prune_static(scores)

    @property
    def length(self) -> int:
        return self.layout.length - self.layout.visual + self.present.numel()

    def readout_rows(self) -> Tensor:
        span = self.layout.readout_rows(self.length)
        return torch.arange(span.start, span.stop, device=self.x.device)

    def _names(self, number: int) -> tuple[str, ...]:
        """Rows whose attention is wanted in this layer, by name; none where nobody needs it."""
        remembered = self.plan.remember and number in self.when.remembered
        wanted = (TASK if remembered else "", self.strategy.later_rows if self._updates(number) else "")
        return tuple(dict.fromkeys(name for name in wanted if name))

    def _prunes_later(self) -> bool:
        return self.plan.budget is not None and self.plan.dynamic.enabled

    def _updates(self, number: int) -> bool:
        return self._prunes_later() and number in self.when.updates

    def asked(self, number: int) -> slice | None:
        """The rows of this layer from the first to the last that is wanted; None where none is."""
        spans = [self.layout.rows(name, self.length) for name in self._names(number)]
        return slice(min(span.start for span in spans), max(span.stop for span in spans)) if spans else None

    def after(self, number: int, scored: tuple[Tensor, Tensor] | None) -> None:
        """Use what the layer gave for `asked`, and prune where it is time to."""
        prunes = self._prunes_later() and number in self.when.dynamic
        if scored is None and not prunes:
            return
        with self.timed("selection"):
            for name in self._names(number):
                self._use(number, name, *scored)
            if prunes:
                self._prune(number)

    def _prune(self, number: int) -> None:
        count = self.plan.budget.dynamic_keep[self.when.dynamic.index(number)]
        if count < self.present.numel():
            self._keep(self.ranking.select(self.present, count))

    def _use(self, number: int, name: str, q: Tensor, k: Tensor) -> None:
        start, rows = self.asked(number).start, self.layout.rows(name, self.length)
        logits = products(q[:, :, rows.start - start : rows.stop - start], k)
        first, present = self.layout.FIRST_VISUAL, self.present.numel()
        attention, score = self.model.scored(logits, q.shape[-1], first, present)
        if name == TASK and self.plan.remember and number in self.when.remembered:
            self.last_attention.append(self._original(score))
        if name == self.strategy.later_rows and self._updates(number):
            self.ranking.update(attention, score, self.present)

    def _original(self, score: Tensor) -> Tensor:
        """Scores of the tokens present, in original token space (V, N); -inf for tokens that left."""
        full = score.new_full((self.layout.visual,), -torch.inf)
        return full.scatter(0, self.present, score).view(self.layout.views, self.layout.patches)

    def _prune_static(self, scores: Tensor) -> None:
        history, threshold = self.history, self.plan.static.similarity_threshold
        past = (history.last_attention, history.similarity) if self.strategy.remembers else (None, None)
        seen = Evidence(scores, *past, history.noise)
        kept, self.sources = self.strategy.select_static(seen, threshold, self.plan.budget)
        self._keep(kept)
        self.static = self.present

    def _keep(self, columns: Tensor) -> None:
        """The one gather: keep these columns of the visual tokens present, and every protected token."""
        first, present = self.layout.FIRST_VISUAL, self.present.numel()
        index = torch.arange(self.length, device=self.x.device)
        rows = torch.cat((index[:first], columns + first, index[first + present :]))
        self.x = self.x.index_select(1, rows)
        self.rope = self.rope.take(rows)
        self.present = self.present.index_select(0, columns)

    def trace(self) -> Trace:
        last_attention = torch.stack(self.last_attention) if self.last_attention else None
        return Trace(self.present, self.static, self.sources, last_attention)


def reached(trace: Trace, layout: Layout) -> Tensor:
    """(V * N,) uint8: `Source` bits of every visual token, with how far it came."""
    nothing = torch.zeros(layout.visual, dtype=torch.int64, device=trace.kept.device)
    bits = nothing.scatter(0, trace.kept, int(Source.LAST_LAYER))
    if trace.sources is None:
        bits = bits + nothing.scatter(0, trace.static, int(Source.AFTER_STATIC))
    else:
        bits = bits + trace.sources.flatten()
    return bits.to(torch.uint8)
