"""The schedule of the bundled policy's training. One frozen record, no logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The stages of training, in samples (vision: images)."""

    batch: int = 8
    vision_images: int = 20_000
    subset_samples: int = 46_000
    piloted_samples: int = 36_000
    full_samples: int = 3_000
    subset_tokens: int = 48
    """Visual tokens per view in the second and third stage; the last sees all of them."""
    stride: int = 2
    """The decoder stages use every stride-th step: neighbours are alike, and vision features are computed once a step."""
    far_share: float = 0.3
    """Share of the steps far from the named cube: only one in twenty is, and that is where a policy fails first."""
    piloted_share: float = 0.3
    """Share of the steps that a policy flew and the expert labelled (DAgger); 0 while there are none."""
    vision_lr: float = 1.5e-3
    subset_lr: float = 8e-4
    piloted_lr: float = 5e-4
    full_lr: float = 2e-4
    weight_decay: float = 0.01
    warmup_steps: int = 200
    ema: float = 0.999
    seed: int = 0

    def length(self, stage: str) -> int:
        """Samples of a stage (vision: images)."""
        return self.vision_images if stage == "vision" else getattr(self, f"{stage}_samples")

    def peak_lr(self, stage: str) -> float:
        return getattr(self, f"{stage}_lr")
