"""Training in four stages, to a checkpoint in OpenVLA-OFT's layout.

1. vision: both towers, from labels the simulator gives for free (colour coverage of patches, positions of cubes).
2. subset: decoder and head on frozen vision features of a random part of the tokens, for speed.
3. piloted: the same, now also on states that the policy itself has reached and the expert has labelled (DAgger).
4. full: the same with ALL visual tokens: what is saved has last been trained on dense passes, and pruning is new to it.

The state is written every few minutes and at every interruption; running the command again resumes.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from specprune_ros.learn.dataset import Dataset, FeatureCache, image_floats, statistics_of
from specprune_ros.learn.objectives import Auxiliary, choose_subset, policy_loss, total, vision_loss
from specprune_ros.learn.recipe import Recipe
from specprune_ros.model.checkpoint import save_checkpoint
from specprune_ros.model.config import model_config
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.small import POLICY_CONFIG, tokenizer_json
from specprune_ros.model.statistics import Statistics, bounds_of
from specprune_ros.model.vla import Vla
from specprune_ros.prune.layout import Layout

STATISTICS_KEY = "specprune_tabletop"
STAGES = ("vision", "subset", "piloted", "full")


@dataclass
class Progress:
    """Running means of the losses and an ETA, one line every few seconds, kept in a JSON-lines log."""

    log: Path
    stage: str
    target: int
    every: float = 15.0

    def __post_init__(self):
        self.began = self.printed = time.monotonic()
        self.first: int | None = None
        self.sums: dict[str, float] = {}
        self.count = 0

    def step(self, seen: int, losses: dict[str, Tensor]) -> None:
        self.first = seen if self.first is None else self.first
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1
        now = time.monotonic()
        if now - self.printed > self.every or seen >= self.target:
            self._print(seen, now)

    def _print(self, seen: int, now: float) -> None:
        rate = (seen - self.first) / max(1e-9, now - self.began)
        eta = (self.target - seen) / rate / 60 if rate else math.inf
        means = {name: round(value / self.count, 4) for name, value in self.sums.items()}
        text = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        print(f"{self.stage} {seen}/{self.target}  {text}  {rate:.1f}/s  {eta:.1f} min left", flush=True)
        with self.log.open("a") as file:
            file.write(json.dumps({"stage": self.stage, "seen": seen, **means, "per_second": round(rate, 2)}) + "\n")
        self.printed, self.sums, self.count = now, {}, 0


class Trainer:
    """Model, optimiser and position in the schedule; everything that a resumed run needs is in `state.pt`."""

    def __init__(self, work: Path, demos, recipe: Recipe, save_every: float, device: str = "cpu"):
        torch.manual_seed(recipe.seed)
        self.device = device
        self.work, self.recipe, self.save_every = work, recipe, save_every
        self.config = model_config(POLICY_CONFIG)
        self.statistics = statistics_of(demos, STATISTICS_KEY)
        self.prompt = _prompt_encoder(self.config)
        self.data = Dataset(demos, _statistics(self.statistics), self.prompt)
        self.model, self.aux = Vla(self.config), Auxiliary(self.config, self.data.places.shape[2])
        initialise(self.model)
        self.model.to(device), self.aux.to(device)
        self.layout = Layout(
            self.config.views,
            self.config.patches,
            1,
            self.data.prompt.shape[1] - 1,
            self.data.task,
            self.config.placeholders,
        )
        self.stage, self.seen = STAGES[0], 0
        self.average: dict[str, Tensor] = {}
        self.optimizer_state = None
        self.path = work / "state.pt"
        if self.path.exists():
            self._resume()

    def compile(self) -> None:
        """Fuse the element-wise work of decoder layers and vision blocks (1-2 minutes once)."""
        blocks = [block for tower in self.model.vision_backbone.children() for block in tower.blocks]
        for module in (*self.model.decoder.layers, *blocks):
            module.forward = torch.compile(module.forward)

    def train(self, stage: str) -> None:
        """Run one stage to its end."""
        if stage != self.stage:
            self.stage, self.seen, self.optimizer_state = stage, 0, None
        steps = self._vision_step if stage == "vision" else self._policy_step
        target = self.recipe.length(stage)
        optimizer = self._optimizer()
        progress = Progress(self.work / "log.jsonl", stage, target)
        saved = time.monotonic()
        rng = np.random.default_rng([self.recipe.seed, STAGES.index(stage), self.seen])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        while self.seen < target:
            for group in optimizer.param_groups:
                group["lr"] = self._lr(target)
            with torch.autocast(self.device, torch.bfloat16):
                losses = steps(rng, generator)
            optimizer.zero_grad(set_to_none=True)
            total(losses).backward()
            torch.nn.utils.clip_grad_norm_(self._trained(), 1.0)
            optimizer.step()
            self.seen += self.recipe.batch * (2 if stage == "vision" else 1)
            self._update_average()
            progress.step(self.seen, {name: loss.detach() for name, loss in losses.items()})
            if time.monotonic() - saved > self.save_every:
                self.optimizer_state = optimizer.state_dict()
                self.save()
                saved = time.monotonic()
        if stage == "vision":
            self._adopt_average()
        self.optimizer_state = None
        self.save()

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a checkpoint."""
        state = self.model.state_dict()
        self.model.load_state_dict({name: self.average.get(name, tensor) for name, tensor in state.items()})
        save_checkpoint(
            self.model, folder, self.seen, config=POLICY_CONFIG, statistics=self.statistics, tokenizer=tokenizer_json()
        )
        self.model.load_state_dict(state)

    def save(self) -> None:
        state = dict(
            model=self.model.state_dict(),
            aux=self.aux.state_dict(),
            average=self.average,
            optimizer=self.optimizer_state,
            stage=self.stage,
            seen=self.seen,
        )
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)

    def _resume(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.aux.load_state_dict(state["aux"])
        self.average, self.optimizer_state = state["average"], state["optimizer"]
        self.stage, self.seen = state["stage"], state["seen"]
        print(f"resuming stage {self.stage} at {self.seen}", flush=True)

    def _trained(self) -> list:
        """Parameters of this stage: the towers in the first, everything else afterwards."""
        vision = self.stage == "vision"
        modules = (
            [self.model.vision_backbone]
            if vision
            else [m for name, m in self.model.named_children() if name != "vision_backbone"]
        )
        return [p for module in (*modules, self.aux) for p in module.parameters()]

    def _optimizer(self):
        parameters = self._trained()
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        if self.optimizer_state:
            optimizer.load_state_dict(self.optimizer_state)
        return optimizer

    def _lr(self, target: int) -> float:
        """Linear warm-up, cosine to 3 % in every stage."""
        peak = self.recipe.peak_lr(self.stage)
        warm = min(1.0, (self.seen + self.recipe.batch) / (self.recipe.warmup_steps * self.recipe.batch))
        return peak * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.seen / target))))

    def _vision_step(self, rng, generator) -> dict[str, Tensor]:
        steps = rng.choice(self.data.training, self.recipe.batch)
        images = image_floats(self.data.images(steps).to(self.device))
        features = self.model.vision_backbone(images.flatten(0, 1))
        cover = self.data.cover[steps].flatten(0, 1).to(self.device).float() / 255
        return vision_loss(self.aux, features, cover, self.data.places[steps].flatten(0, 1).to(self.device))

    def _policy_step(self, rng, generator) -> dict[str, Tensor]:
        steps = self.data.sample(rng, self.recipe.batch, self.recipe)
        batch = self.data.batch(steps, self._cache().get(steps, self._features))
        views, count = self.config.views, self.recipe.subset_tokens
        subset = None
        if self.stage != "full":
            subset = choose_subset(batch.cover, batch.any_cover, views, count, generator).to(self.device)
        return policy_loss(self.model, self.aux, self.layout, batch.to(self.device), subset)

    def _cache(self) -> FeatureCache:
        if not hasattr(self, "_features_cache"):
            shape = (self.config.views * self.config.patches, self.config.vision_width)
            self._features_cache = FeatureCache(self.work / "features.bf16", len(self.data.demos), shape)
        return self._features_cache

    @torch.no_grad()
    def _features(self, steps) -> Tensor:
        images = image_floats(self.data.images(steps).to(self.device))
        features = self.model.vision_backbone(images.flatten(0, 1))
        return features.unflatten(0, (len(steps), -1)).flatten(1, 2).cpu()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema, 1 - 1 / (1 + self.seen / self.recipe.batch / 10))
        for name, tensor in self.model.state_dict().items():
            if name in self.average:
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name] = tensor.clone()

    def _adopt_average(self) -> None:
        """The frozen towers are the averaged ones, so that later stages see what will be saved."""
        self.model.load_state_dict({**self.model.state_dict(), **self.average})


def initialise(model: Vla) -> None:
    """Small normal weights, residual branches scaled by depth, as is usual for transformers of this kind."""
    depth = len(model.decoder.layers)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and "action_head" not in name and "proprio" not in name and "projector" not in name:
            torch.nn.init.trunc_normal_(parameter, std=0.02)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.trunc_normal_(parameter, std=0.04 / math.sqrt(2 * depth))
        elif name.endswith(("qkv.weight", "gate_up.weight")):
            torch.nn.init.trunc_normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif name.endswith("patch_embed.proj.weight"):
            torch.nn.init.trunc_normal_(parameter, std=parameter[0].numel() ** -0.5)


def _statistics(table: dict) -> Statistics:
    entry = table[STATISTICS_KEY]
    return Statistics(STATISTICS_KEY, bounds_of(entry["action"]), bounds_of(entry["proprio"]))


def _prompt_encoder(config) -> PromptEncoder:
    return PromptEncoder.from_json(tokenizer_json(), config.suffix_token_id)
