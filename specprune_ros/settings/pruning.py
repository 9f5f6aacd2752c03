"""How hard visual tokens are pruned, and by which part of the method (docs/explanation/method.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from specprune_ros.settings.declaration import param

STRATEGY_NAMES = ("specprune", "random", "local", "fastv", "specprune_official")
"""Names of the selection strategies; what they are is in `prune.strategies`."""


@dataclass(frozen=True)
class Static:
    """Action-level static pruning (docs/explanation/method.md, Static pruning)."""

    enabled: bool = param(True, "Prune visual tokens once per action chunk, after the first decoder layers")
    k_global: int = param(
        30, "Tokens per view taken from the last chunk's attention (K_G)", unit="tokens", bounds=(0, 4096)
    )
    k_dynamic: int = param(
        20, "Tokens per view taken from patches that changed between frames (K_D)", unit="tokens", bounds=(0, 4096)
    )
    k_local_coarse: int = param(
        24,
        "Tokens per view and layer from local attention in coarse mode, before alpha",
        unit="tokens",
        bounds=(0, 4096),
    )
    k_local_fine: int = param(
        40, "Tokens per view and layer from local attention in fine mode, before alpha", unit="tokens", bounds=(0, 4096)
    )
    alpha: float = param(0.8, "Scale of the local counts", bounds=(0.0, 4.0))
    similarity_threshold: float = param(
        0.99, "Patches below this similarity to the reference frame count as changed (tau)", bounds=(-1.0, 1.0)
    )
    similarity: str = param(
        "rgb_cosine",
        "Patch similarity: cosine of raw RGB as published, or brightness-aware 1 - mean absolute difference",
        choices=("rgb_cosine", "absolute"),
    )
    first_pass: str = param("dense", "What the first pass does, while there is no history", choices=("dense", "local"))


@dataclass(frozen=True)
class ReferenceFrame:
    """Which earlier frame the current one is compared with: T = floor(base + slope * v) + offset
    (docs/explanation/method.md, Static pruning)."""

    base: float = param(7.0, "b of T = floor(b + k v) + offset", unit="periods", bounds=(0.0, 100.0))
    slope: float = param(
        -1.0,
        "k of T = floor(b + k v) + offset (the first version of the paper: -0.889 with base 7.333)",
        unit="periods",
        bounds=(-100.0, 100.0),
    )
    offset: int = param(4, "Offset of T", unit="periods", bounds=(0, 100))


@dataclass(frozen=True)
class Dynamic:
    """Layer-level dynamic pruning (docs/explanation/method.md, Dynamic pruning)."""

    enabled: bool = param(True, "Drop more visual tokens on the way through the decoder")
    keep_ratio: float = param(0.9, "Share of the visual tokens kept at each prune layer", bounds=(0.1, 1.0))
    beta: float = param(0.2, "Weight of the newest layer in the moving average of scores", bounds=(0.0, 1.0))
    rank_slope: float = param(0.1, "k of the rank weight sigmoid(-k rank)", bounds=(0.0001, 100.0))
    confidence: str = param(
        "entropy", "Layer confidence: 1 / entropy (paper v3) or mean / std (v1)", choices=("entropy", "mean_std")
    )
    min_tokens: int = param(32, "Never fewer visual tokens than this", unit="tokens", bounds=(1, 4096))


@dataclass(frozen=True)
class Controller:
    """Action-aware controller (docs/explanation/method.md); thresholds in normalised action units per control
    period."""

    enabled: bool = param(True, "Choose coarse or fine mode from the measured motion; off: always fine")
    enter_linear: float = param(0.4, "Fine mode needs translation below this", unit="action units", bounds=(0.0, 10.0))
    enter_angular: float = param(0.2, "Fine mode needs rotation below this", unit="action units", bounds=(0.0, 10.0))
    exit_linear: float = param(0.4, "Translation above this leaves fine mode", unit="action units", bounds=(0.0, 10.0))
    exit_angular: float = param(0.3, "Rotation above this leaves fine mode", unit="action units", bounds=(0.0, 10.0))
    exit_dz: float = param(0.2, "Upward motion above this leaves fine mode", unit="action units", bounds=(0.0, 10.0))
    replan_on_fine: bool = param(
        True, "On coarse -> fine in the middle of a chunk, drop the rest of the chunk and replan"
    )


@dataclass(frozen=True)
class Pruning:
    """How hard visual tokens are pruned."""

    preset: str = param(
        "paper",
        "Sets aggressiveness, all parts of the method on, strategy specprune, keep 0; changing one makes it custom",
        choices=("conservative", "paper", "aggressive", "custom"),
    )
    aggressiveness: float = param(
        0.5, "0 is exactly the dense model, 0.5 the paper's setting, 1 the hardest", bounds=(0.0, 1.0)
    )
    keep: float = param(
        0.0,
        "Share of every view's tokens that static pruning keeps, in either mode; 0: pruning.aggressiveness decides",
        bounds=(0.0, 1.0),
    )
    strategy: str = param(
        "specprune",
        "Which tokens are kept: the method; or, for comparisons and under the same counts, another selection",
        choices=STRATEGY_NAMES,
    )
    random_seed: int = param(
        0, "Of strategy random: with it and the chunk's number the drawing is repeated", bounds=(0, 2**31 - 1)
    )
    budget: str = param(
        "paper",
        "Token counts: the paper's; or machine: as many more as cost no time on this machine, which is measured once",
        choices=("paper", "machine"),
    )
    static: Static = field(default_factory=Static)
    reference: ReferenceFrame = field(default_factory=ReferenceFrame)
    dynamic: Dynamic = field(default_factory=Dynamic)
    controller: Controller = field(default_factory=Controller)
