"""What `specprune bench --model` is made of: its rows, the device, made-up camera frames, and an ear for warnings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from specprune_ros.bench.model_report import Measured
from specprune_ros.bench.roofline import Fp8Rates, Rates, measure_fp8_rates
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval.variants import variant
from specprune_ros.infer.policy import Policy
from specprune_ros.model.checkpoint import Checkpoint
from specprune_ros.model.flops import Product
from specprune_ros.model.fp8 import fp8_copy, require_fp8
from specprune_ros.types import Mode, Motion, Observation, PolicyMemory

CAMERA_PIXELS = 256
"""Side of a camera frame: what LIBERO renders, so that the resize to 224 is inside the measurement."""

OBSERVATIONS = 8
FULL_SCALE_GIB = 30
"""Free GPU memory that the full scale is started with: 15 GiB of weights, 6 of the decoder's once more in FP8, graphs,
buffers and the products of the roofline."""

FP8 = "fp8"
FP8_LEVELS = (0.5, 1.0)

BLOCK = 8
"""Pixels of one block of a made-up frame."""


@dataclass
class ModelRow:
    """One way to run the model, and what was measured of it. `skipped`: why there is nothing."""

    name: str
    engine: str
    mode: Mode
    config: Config
    infer: Callable[[ModelRow, Observation, Observation], dict[str, float]] | None = None
    skipped: str = ""
    memory: PolicyMemory | None = None
    lengths: tuple[int, ...] = ()
    tokens_kept: int = 0
    actions: np.ndarray | None = None
    total_ms: list[float] = field(default_factory=list)
    stages_ms: list[dict[str, float]] = field(default_factory=list)
    peak_gib: float | None = None
    ran: dict[str, int] = field(default_factory=dict)

    def measured(self, products: Sequence[Product], rates: Rates) -> Measured:
        return Measured(
            name=self.name,
            engine=self.engine,
            granularity=self.mode.value,
            aggressiveness=self.config.pruning.aggressiveness,
            skipped=self.skipped,
            total_ms=self.total_ms,
            stages_ms=self.stages_ms,
            lengths=self.lengths,
            tokens_kept=self.tokens_kept,
            gflop=sum(product.flop for product in products) / 1e9,
            floor_ms=1e3 * rates.floor_s(products),
            floor_shapes_ms=1e3 * rates.floor_s(products, by_shape=True),
            floor_stages_ms=rates.stages_ms(products),
            peak_gib=self.peak_gib,
            ran=self.ran,
        )


class Warnings(logging.Handler):
    """Keeps the package's warnings while it is open, such as that an engine fell back, for the result."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def __enter__(self) -> Warnings:
        logging.getLogger("specprune_ros").addHandler(self)
        return self

    def __exit__(self, *error) -> None:
        logging.getLogger("specprune_ros").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def fp8_rows(config: Config) -> list[ModelRow]:
    """Captured, with the decoder's products in FP8: dense, and pruned at two levels in both modes."""
    rows = [ModelRow("dense", FP8, Mode.DENSE, variant(config, "dense"))]
    for level in FP8_LEVELS:
        pruned = config.updated({"pruning.aggressiveness": level})
        rows += [ModelRow("pruned", FP8, mode, pruned) for mode in (Mode.COARSE, Mode.FINE)]
    return rows


def fp8_policy(checkpoint: Checkpoint) -> Policy:
    """Captured, of compiled layers with FP8 products, sharing all other weights with `checkpoint`; ConfigError where
    the GPU has none."""
    require_fp8(next(checkpoint.model.parameters()).device)
    policy = Policy(fp8_copy(checkpoint), engine="graph")
    policy.compile()
    return policy


def fp8_rates(plain: Rates, device: torch.device, rows: Sequence[ModelRow], products) -> Fp8Rates | None:
    """The card's rates in FP8, at the shapes of `products(row)`; None where no row with FP8 products runs."""
    running = [row for row in rows if row.engine == FP8 and not row.skipped]
    if not running:
        return None
    return measure_fp8_rates(device, plain, [product for row in running for product in products(row)])


def place(config: Config, scale: str) -> tuple[torch.device, torch.dtype]:
    """Device and arithmetic; ConfigError where the full scale cannot run."""
    has_gpu, wanted = torch.cuda.is_available(), config.policy.device
    device = torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")
    if wanted == "cuda" and not has_gpu:
        raise ConfigError(
            "policy.device: 'cuda' was asked for, but torch sees no CUDA device; use --scale tiny on a CPU"
        )
    if scale == "full" and device.type == "cpu":
        raise ConfigError(
            "--scale full: the 7B model is measured on a CUDA GPU and none is used; try the path with --scale tiny"
        )
    if scale == "full" and (free := torch.cuda.mem_get_info()[0] / 2**30) < FULL_SCALE_GIB:
        raise ConfigError(
            f"--scale full: {free:.0f} GiB of GPU memory are free, {FULL_SCALE_GIB} are needed; free some"
        )
    bf16 = config.policy.dtype == "bf16" or (config.policy.dtype != "fp32" and device.type == "cuda")
    return device, torch.bfloat16 if bf16 else torch.float32


def frames(checkpoint: Checkpoint) -> list[Observation]:
    """Frames of random blocks, of which each differs from the last one in a quarter of the picture."""
    generator, config = np.random.default_rng(0), checkpoint.config
    blocks = CAMERA_PIXELS // BLOCK
    pictures = [generator.integers(0, 256, (blocks, blocks, 3), np.uint8) for _ in range(config.views)]
    observations = []
    for index in range(OBSERVATIONS):
        corner = slice(0, blocks // 2) if index % 2 else slice(blocks // 2, blocks)
        pictures = [picture.copy() for picture in pictures]
        for picture in pictures:
            picture[corner, corner] = generator.integers(0, 256, (blocks // 2, blocks // 2, 3), np.uint8)
        images = tuple(np.kron(picture, np.ones((BLOCK, BLOCK, 1), np.uint8)) for picture in pictures)
        proprio = generator.uniform(-1, 1, config.proprio_dims).astype(np.float32) if config.proprio_dims else None
        instruction = checkpoint.prompt.known_instruction()
        observations.append(Observation(index, images, proprio, instruction, Motion(0.1, 0.05, -0.1)))
    return observations
