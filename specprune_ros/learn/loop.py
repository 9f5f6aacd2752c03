"""One optimisation, interrupted as often as one likes: optimiser, schedule, averaged weights, state on disk,
progress."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from specprune_ros.infer.load import fast_bf16_cpu
from specprune_ros.learn.recipe import Recipe

Losses = dict[str, Tensor]
Step = Callable[[np.random.Generator, torch.Generator], tuple[Losses, Tensor]]
"""Draws a batch; returns its losses by name, and their weighted sum."""

LOWEST = 0.03
"""The learning rate at the end of a stage, as a share of its peak."""


@dataclass(frozen=True)
class Span:
    """How long a stage is: samples, how many each step takes, the peak of the learning rate."""

    name: str
    samples: int
    batch: int
    lr: float


class Loop:
    """Trains `model` (what is kept) together with `heads` (what is thrown away). The state is in one file."""

    def __init__(
        self, path: Path, model: nn.Module, heads: nn.Module, recipe: Recipe, device: str, save_every_s: float = 180.0
    ):
        self.path, self.model, self.heads, self.recipe = path, model, heads, recipe
        self.device, self.save_every_s = device, save_every_s
        self.finished: list[str] = []
        """names of the stages that are over"""
        self.stage, self.seen, self.spent_s = "", 0, 0.0
        self.average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self._optimizer_state = None
        if path.exists():
            self._resume()

    def run(self, span: Span, step: Step, limit_s: float | None = None) -> None:
        """Train one stage to its end, from where it stands. limit_s: its end, also when fewer samples were seen; the
        learning rate falls accordingly."""
        if span.name in self.finished:
            return
        if span.name != self.stage:
            self.stage, self.seen, self.spent_s, self._optimizer_state = span.name, 0, 0.0, None
        optimizer = self._optimizer()
        progress = _Progress(self.path.with_suffix(".jsonl"), f"{self.path.stem} {span.name}", span.samples)
        rng = np.random.default_rng([self.recipe.seed, sum(map(ord, span.name)), self.seen])
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        began, saved = time.monotonic() - self.spent_s, time.monotonic()
        while (part := self._part(span, limit_s)) < 1.0:
            for group in optimizer.param_groups:
                group["lr"] = span.lr * self._height(part)
            with self._autocast():
                losses, total = step(rng, generator)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(self._parameters(), 1.0)
            optimizer.step()
            self.seen += span.batch
            self.spent_s = time.monotonic() - began
            self._update_average(span.batch)
            progress.step(self.seen, losses)
            if time.monotonic() - saved > self.save_every_s:
                self._optimizer_state = optimizer.state_dict()
                self.save()
                saved = time.monotonic()
        progress.end()
        self.finished.append(span.name)
        self._optimizer_state = None
        self.save()

    def save(self) -> None:
        state = dict(
            model=self.model.state_dict(),
            heads=self.heads.state_dict(),
            average=self.average,
            optimizer=self._optimizer_state,
            finished=self.finished,
            stage=self.stage,
            seen=self.seen,
            spent_s=self.spent_s,
        )
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)

    def _resume(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.average, self._optimizer_state = state["average"], state["optimizer"]
        self.finished, self.stage = list(state["finished"]), state["stage"]
        self.seen, self.spent_s = state["seen"], state["spent_s"]
        print(f"{self.path.name}: finished {self.finished or 'nothing'}, stage {self.stage} at {self.seen}", flush=True)

    def _parameters(self) -> list[nn.Parameter]:
        return [p for module in (self.model, self.heads) for p in module.parameters() if p.requires_grad]

    def _optimizer(self) -> torch.optim.Optimizer:
        parameters = self._parameters()
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        if self._optimizer_state:
            optimizer.load_state_dict(self._optimizer_state)
        return optimizer

    def _part(self, span: Span, limit_s: float | None) -> float:
        """How much of the stage is over, 0 .. 1."""
        return max(self.seen / span.samples, self.spent_s / limit_s if limit_s else 0.0)

    def _height(self, part: float) -> float:
        """Learning rate as a share of its peak: warm-up, constant, then a straight line down."""
        warm = min(1.0, (self.seen + 1) / self.recipe.warmup_samples)
        left = (1.0 - part) / (1.0 - self.recipe.constant)
        return warm * min(1.0, LOWEST + (1.0 - LOWEST) * left)

    def _autocast(self):
        if self.device == "cpu" and not fast_bf16_cpu():
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    @torch.no_grad()
    def _update_average(self, batch: int) -> None:
        decay = min(self.recipe.ema, 1 - 1 / (1 + self.seen / batch / 10))
        state = self.model.state_dict()
        names = [name for name, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in names], [state[n] for n in names], 1 - decay)


class _Progress:
    """Running means of the losses and an ETA, one line every few seconds, kept in a JSON-lines log."""

    EVERY_S = 30.0

    def __init__(self, log: Path, title: str, target: int):
        self._log, self._title, self._target = log, title, target
        self._began = self._printed = time.monotonic()
        self._first: int | None = None
        self._seen = 0
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def step(self, seen: int, losses: Losses) -> None:
        self._first = seen if self._first is None else self._first
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._count += 1
        now = time.monotonic()
        self._seen = seen
        if now - self._printed > self.EVERY_S:
            self._print(seen, now)

    def end(self) -> None:
        """What was not said yet, however the stage ended."""
        if self._count:
            self._print(self._seen, time.monotonic())

    def _print(self, seen: int, now: float) -> None:
        rate = (seen - self._first) / max(1e-9, now - self._began)
        eta_min = (self._target - seen) / rate / 60 if rate else math.inf
        means = {name: round(float(value) / self._count, 4) for name, value in self._sums.items()}
        text = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        stamp = time.strftime("%m-%d %H:%M")
        print(f"{stamp} {self._title} {seen}/{self._target}  {text}  {rate:.1f}/s  {eta_min:.0f} min left", flush=True)
        with self._log.open("a") as file:
            line = {"stage": self._title, "seen": seen, **means, "per_second": round(rate, 2)}
            file.write(json.dumps(line) + "\n")
        self._printed, self._sums, self._count = now, {}, 0
