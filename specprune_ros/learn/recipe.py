"""What is recorded, and the schedule of training: frozen records, no logic.

Two policies of one architecture share their vision towers. `plain` has seen all visual tokens, always, and nobody told
its attention where to look: it is what an OpenVLA-OFT checkpoint is. `robust` was trained on parts of the tokens, with
its words' attention drawn to what they name: it shows what a user gains by training for pruning.
"""

from __future__ import annotations

from dataclasses import dataclass

POLICIES = ("plain", "robust")


@dataclass(frozen=True)
class Data:
    """Episodes of one suite: whole ones, first steps only, the same from anywhere over the table, and flown by the
    policy itself."""

    whole: int
    approaches: int
    scattered: int
    piloted: int
    share: float
    """of the training samples"""


@dataclass(frozen=True)
class Stage:
    """A part of the training. tokens: "all"; "pooled", every 2 x 2 block of patches averaged into one token at the
    block's centre; or "parts", `subset` tokens of each view, drawn unevenly."""

    name: str
    tokens: str
    samples: int
    lr: float
    batch: int = 8
    piloted: bool = False
    """Before it begins, the policy so far flies, and the expert labels where it gets."""
    grounding: float = 0.0
    """Weight of the loss on the words' attention."""


@dataclass(frozen=True)
class Recipe:
    """Everything that training decides on, for one scale."""

    data: dict[str, Data]
    vision_images: int
    stages: dict[str, tuple[Stage, ...]]
    vision_batch: int = 16
    """images"""
    vision_lr: float = 1.5e-3
    subset: int = 48
    far_share: float = 0.3
    """Share of the samples far from where the expert is heading: that is where the words decide, and few rows are."""
    piloted_share: float = 0.3
    """Share of the samples that a policy flew; 0 while there are none."""
    weight_decay: float = 0.01
    warmup_samples: int = 1600
    constant: float = 0.6
    """Share of a stage after its warm-up at the full learning rate; then it falls in a straight line to 3 %."""
    ema: float = 0.999
    seed: int = 0
    pilot_steps: int | None = None
    """Control periods of an episode that a policy flies; None: until it succeeds or its time is up."""


SHORT_STEPS = 8
"""Control periods of an approach."""

CPU = Recipe(
    data={
        "pick": Data(60, 200, 200, 40, 0.10),
        "object": Data(150, 800, 400, 60, 0.20),
        "spatial": Data(150, 800, 400, 60, 0.22),
        "goal": Data(250, 800, 400, 80, 0.23),
        "long": Data(200, 400, 240, 60, 0.25),
    },
    vision_images=60_000,
    stages={
        "robust": (
            Stage("parts", "parts", 160_000, 6e-4, grounding=0.2),
            Stage("piloted", "parts", 80_000, 4e-4, piloted=True, grounding=0.2),
            Stage("full", "all", 6_000, 2e-4, grounding=0.2),
        ),
        "plain": (
            Stage("pooled", "pooled", 160_000, 6e-4),
            Stage("piloted", "pooled", 80_000, 4e-4, piloted=True),
            Stage("full", "all", 12_000, 2e-4),
        ),
    },
)
"""For one or two cores: days. Whenever it is stopped, what is there can be exported."""

GPU = Recipe(
    data={
        "pick": Data(60, 160, 160, 0, 0.10),
        "object": Data(240, 1600, 600, 0, 0.20),
        "spatial": Data(240, 1600, 600, 0, 0.22),
        "goal": Data(320, 1200, 600, 0, 0.23),
        "long": Data(260, 600, 300, 0, 0.25),
    },
    vision_images=600_000,
    vision_batch=256,
    stages={
        "plain": (Stage("full", "all", 1_000_000, 1e-3, batch=64),),
        "robust": (
            Stage("parts", "parts", 800_000, 1e-3, batch=64, grounding=0.2),
            Stage("full", "all", 100_000, 4e-4, batch=64, grounding=0.2),
        ),
    },
    warmup_samples=25_000,
    ema=0.998,
)
"""For one GPU and 16 cores: minutes."""

TINY = Recipe(
    data={
        "pick": Data(1, 2, 1, 1, 0.2),
        "object": Data(0, 2, 1, 0, 0.2),
        "spatial": Data(0, 2, 1, 0, 0.2),
        "goal": Data(0, 2, 1, 0, 0.2),
        "long": Data(0, 2, 1, 0, 0.2),
    },
    vision_images=8,
    vision_batch=4,
    stages={
        "robust": (
            Stage("parts", "parts", 4, 1e-3, batch=2, grounding=0.2),
            Stage("piloted", "parts", 2, 1e-3, batch=2, piloted=True, grounding=0.2),
            Stage("full", "all", 2, 1e-3, batch=2, grounding=0.2),
        ),
        "plain": (Stage("pooled", "pooled", 4, 1e-3, batch=2), Stage("full", "all", 2, 1e-3, batch=2)),
    },
    warmup_samples=4,
    pilot_steps=8,
)
"""Every path in seconds, to rehearse; what it learns is nothing."""

RECIPES = {"cpu": CPU, "gpu": GPU, "tiny": TINY}
