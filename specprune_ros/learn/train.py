"""From demonstrations to a checkpoint in OpenVLA-OFT's layout, in a folder of its own that every run continues:

work/demos/            what `record.py` recorded
work/statistics.json   how actions and proprio are normalised: fixed by the first run
work/vision.pt         the vision towers, trained once for both policies, from labels the simulator gives for free
work/features-*        what they make of every row, computed at its first visit
work/plain.pt, robust.pt   decoder and heads of each policy, on frozen towers, in the stages of the recipe
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from specprune_ros.learn import demos as reading
from specprune_ros.learn.dataset import Dataset, image_floats, statistics_of
from specprune_ros.learn.features import DeviceFeatures, DevicePictures, FeatureCache, digest
from specprune_ros.learn.loop import Loop, Span
from specprune_ros.learn.objectives import PolicyHeads, VisionHeads, choose_subset, policy_loss, total, vision_loss
from specprune_ros.learn.recipe import Recipe, Stage
from specprune_ros.model.checkpoint import save_checkpoint
from specprune_ros.model.config import model_config
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.small import POLICY_CONFIG, tokenizer_json
from specprune_ros.model.statistics import Statistics, bounds_of
from specprune_ros.model.vision import VisionBackbone
from specprune_ros.model.vla import Vla

STATISTICS_KEY = "specprune_tabletop"


class Workshop:
    """A work folder: its demonstrations as tensors, and the vision towers."""

    def __init__(self, work: Path, recipe: Recipe, device: str, save_every_s: float = 180.0):
        torch.manual_seed(recipe.seed)
        self.work, self.recipe, self.device, self.save_every_s = work, recipe, device, save_every_s
        self.config = model_config(POLICY_CONFIG)
        self.reload()
        self.towers = VisionBackbone(self.config)
        initialise(self.towers, depth=1)
        self.towers.to(device)
        self.vision = Loop(
            work / "vision.pt", self.towers, VisionHeads(self.config).to(device), recipe, device, save_every_s
        )

    def reload(self) -> None:
        """Read the demonstrations that there are now."""
        demos = reading.load(self.work / "demos")
        path = self.work / "statistics.json"
        if not path.exists():  # fixed from here on: what was learned is in these units
            path.write_text(json.dumps(statistics_of(demos, STATISTICS_KEY), indent=1))
        self.statistics = json.loads(path.read_text())
        self.data = Dataset(demos, _statistics(self.statistics), _prompt_encoder(self.config), self.device)
        self._pictures: DevicePictures | None = None
        self._features: FeatureCache | DeviceFeatures | None = None

    def train_vision(self, limit_s: float | None = None) -> None:
        """Both towers, to the end of their stage; then the averaged ones are frozen."""
        recipe = self.recipe
        span = Span("vision", recipe.vision_images, recipe.vision_batch, recipe.vision_lr)
        self.towers.requires_grad_(True)
        self.vision.run(span, self._vision_step, limit_s)
        self.adopt_towers()

    def adopt_towers(self) -> None:
        """The frozen towers are the averaged ones, so that the policy sees what will be saved."""
        self.towers.load_state_dict(self.vision.average)
        self.towers.requires_grad_(False)

    def features(self, rows: np.ndarray) -> Tensor:
        """(B, V * N, width) of rows, by the frozen towers."""
        if self._features is None:
            count = self.config.views * self.config.patches
            if self.device == "cpu":
                shape = (count, self.config.vision_width)
                self._features = FeatureCache(self.work, self.data.demos, shape, digest(self.towers))
            else:
                self._features = DeviceFeatures(len(self.data.demos), self._compute)
        return self._features.get(rows, self._compute)

    def _vision_step(self, rng, generator):
        views = self.config.views
        rows = np.sort(rng.choice(self.data.training, self.recipe.vision_batch // views))
        features = self.towers(self._images(rows))
        losses = vision_loss(self.vision.heads, features, self.data.vision_batch(rows))
        return losses, total(losses)

    @torch.no_grad()
    def _compute(self, rows: np.ndarray) -> Tensor:
        with self.vision._autocast():
            features = self.towers(self._images(rows))
        return features.unflatten(0, (len(rows), -1)).flatten(1, 2)

    def _images(self, rows: np.ndarray) -> Tensor:
        """(B * V, 3, H, W) floats of the pictures of rows."""
        if self.device == "cpu":
            return image_floats(self.data.images(rows)).flatten(0, 1)
        if self._pictures is None:
            self._pictures = DevicePictures(len(self.data.demos), self.data.images, self.device)
        return image_floats(self._pictures[rows]).flatten(0, 1)


class PolicyTrainer:
    """Decoder and heads of one policy on the frozen towers of a workshop."""

    def __init__(self, shop: Workshop, name: str):
        """name: of recipe.POLICIES."""
        torch.manual_seed(shop.recipe.seed)
        self.shop, self.name = shop, name
        model = Vla(shop.config)
        initialise(model, len(model.decoder.layers))
        self.decoder = _Rest(model).to(shop.device)
        self.model = model
        heads = PolicyHeads(shop.config).to(shop.device)
        self.loop = Loop(shop.work / f"{name}.pt", self.decoder, heads, shop.recipe, shop.device, shop.save_every_s)

    def train(self, stage: Stage, limit_s: float | None = None) -> None:
        self.loop.run(Span(stage.name, stage.samples, stage.batch, stage.lr), self._stepper(stage), limit_s)

    def losses(self, rows: np.ndarray, stage: Stage, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of rows of prompts of one length, in the way of a stage."""
        shop, config = self.shop, self.shop.config
        batch = shop.data.batch(rows, shop.features(rows).float())
        layout = shop.data.layout(rows[0], config.views, config.patches, config.placeholders)
        subset = None
        if stage.tokens == "parts":
            subset = choose_subset(batch.about, batch.anything, config.views, shop.recipe.subset, generator)
        return policy_loss(self.model, self.loop.heads, layout, batch, stage.tokens, subset)

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a checkpoint."""
        now = {name: tensor.clone() for name, tensor in self.decoder.state_dict().items()}
        self.decoder.load_state_dict(self.loop.average)
        self.model.vision_backbone.load_state_dict(self.shop.towers.state_dict())
        save_checkpoint(
            self.model,
            folder,
            self.loop.seen,
            config=POLICY_CONFIG,
            statistics=self.shop.statistics,
            tokenizer=tokenizer_json(),
        )
        self.decoder.load_state_dict(now)

    def _stepper(self, stage: Stage):
        def step(rng, generator):
            rows = self.shop.data.sample(rng, stage.batch, self.shop.recipe)
            losses = self.losses(rows, stage, generator)
            return losses, total(losses, stage.grounding)

        return step


class _Rest(nn.Module):
    """Everything of a model but its vision towers, under the same names."""

    def __init__(self, model: Vla):
        super().__init__()
        for name, child in model.named_children():
            if name != "vision_backbone":
                self.add_module(name, child)


def initialise(model: nn.Module, depth: int) -> None:
    """Small normal weights, residual branches scaled by depth, as is usual for transformers of this kind."""
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and "action_head" not in name and "proprio" not in name and "projector" not in name:
            nn.init.trunc_normal_(parameter, std=0.02)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.trunc_normal_(parameter, std=0.04 / math.sqrt(2 * depth))
        elif name.endswith(("qkv.weight", "gate_up.weight")):
            nn.init.trunc_normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif name.endswith("patch_embed.proj.weight"):
            nn.init.trunc_normal_(parameter, std=parameter[0].numel() ** -0.5)


def _statistics(table: dict) -> Statistics:
    entry = table[STATISTICS_KEY]
    return Statistics(STATISTICS_KEY, bounds_of(entry["action"]), bounds_of(entry["proprio"]))


def _prompt_encoder(config) -> PromptEncoder:
    return PromptEncoder.from_json(tokenizer_json(), config.suffix_token_id)
