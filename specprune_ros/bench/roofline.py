"""The hardware limit: no version of an inference runs much faster than its floor on the card it was measured on.

floor = sum over the matrix products of max(FLOP / rate, bytes / bandwidth): every number read or written once,
everything element-wise fused away, no launch gaps. Two rates, both measured here:
- the card's best rate over large and real products: the strict floor, which the targets are judged by;
- the rate of the library's own product at each real shape: what one call per product reaches (`floor_shapes_ms`).
Rows with FP8 products have such rates of their own (`Fp8Rates`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from specprune_ros.bench.gpu import seconds_of
from specprune_ros.model import fp8
from specprune_ros.model.flops import Product

PEAK_SIZES = {"cuda": (4096, 8192), "cpu": (256, 512)}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**25}
ROTATED_BYTES = {"cuda": 2**28, "cpu": 2**20}
"""Weights of one timed shape in all: more than any cache, so that they stream from memory as in the model."""

BUDGET_S = {"cuda": 0.004, "cpu": 0.001}
"""Time for one trial of one shape; the best of TRIALS counts."""

TRIALS = 3
Shape = tuple[int, int, int]


@dataclass
class Rates:
    """What this device reaches. flops: best rate of a product [FLOP/s]; bandwidth: the best of a copy and of any real
    product, bytes read plus written [B/s]; shapes: (m, n, k) -> [FLOP/s]; itemsize: bytes of a number."""

    flops: float
    bandwidth: float
    itemsize: int
    shapes: dict[Shape, float] = field(default_factory=dict)

    def floor_s(self, products: Iterable[Product], by_shape: bool = False) -> float:
        """The roofline floor of these products [s]."""
        return sum(self._product_s(product, by_shape) for product in products)

    def _product_s(self, product: Product, by_shape: bool) -> float:
        rate = self.shapes.get(shape_of(product), self.flops) if by_shape and product.kind == "gemm" else self.flops
        return max(product.flop / rate, product.moved * self.itemsize / self.bandwidth)

    def stages_ms(self, products: Iterable[Product]) -> dict[str, float]:
        """The floor, stage by stage [ms]."""
        stages: dict[str, float] = {}
        for product in products:
            stages[product.stage] = stages.get(product.stage, 0.0) + 1e3 * self._product_s(product, by_shape=False)
        return stages


@dataclass
class Fp8Rates(Rates):
    """Rates where the decoder's products are in FP8: `flops` and `shapes` of those, and `plain` for all others.

    Weights and inputs are read as one byte a number, since rounding can be fused into what comes before; outputs are
    written in `itemsize` bytes.
    """

    plain: Rates = field(kw_only=True)

    def _product_s(self, product: Product, by_shape: bool) -> float:
        if not in_fp8(product):
            return self.plain._product_s(product, by_shape)
        rate = self.shapes.get(shape_of(product), self.flops) if by_shape else self.flops
        outputs = product.count * product.m * product.n
        return max(product.flop / rate, (product.moved + (self.itemsize - 1) * outputs) / self.bandwidth)


def in_fp8(product: Product) -> bool:
    """Whether `model.fp8` rounds its operands: the decoder layers' own products, not those of the one proprio token."""
    return product.stage == "decoder" and product.kind == "gemm" and product.m > 1


def shape_of(product: Product) -> Shape:
    return product.m, product.n, product.k


@torch.inference_mode()
def measure_rates(device: torch.device, dtype: torch.dtype, products: Iterable[Product]) -> Rates:
    """Copy bandwidth, the rate at every real shape, and the best rate of all."""
    shapes = {shape_of(product) for product in products if product.kind == "gemm"}
    large = [(size, size, size) for size in PEAK_SIZES[device.type]]
    flops = {shape: _gemm_rate(shape, device, dtype) for shape in [*large, *sorted(shapes)]}
    real = {shape: flops[shape] for shape in shapes}
    streamed = max((_bytes_per_flop(shape, dtype) * rate for shape, rate in real.items()), default=0.0)
    return Rates(max(flops.values()), max(_copy_bandwidth(device), streamed), dtype.itemsize, real)


def _bytes_per_flop(shape: Shape, dtype: torch.dtype) -> float:
    """What a product reads and writes for each of its operations: narrow ones stream their weights, and show what
    memory gives, where a copy on its own did not reach it."""
    m, n, k = shape
    return dtype.itemsize * (m * k + n * k + m * n) / (2.0 * m * n * k)


@torch.inference_mode()
def measure_fp8_rates(device: torch.device, plain: Rates, products: Iterable[Product]) -> Fp8Rates:
    """The same for FP8 products, on operands that are rounded already; `plain`: what `measure_rates` found."""
    rounded = [product for product in products if in_fp8(product)]
    shapes = {shape_of(product) for product in rounded}
    large = [(size, size, size) for size in PEAK_SIZES[device.type]]
    flops = {shape: _gemm_rate(shape, device, torch.bfloat16, in_eighths=True) for shape in [*large, *sorted(shapes)]}
    real = {shape: flops[shape] for shape in shapes}
    return Fp8Rates(max(flops.values()), plain.bandwidth, plain.itemsize, real, plain=plain)


def _gemm_rate(shape: Shape, device: torch.device, dtype: torch.dtype, in_eighths: bool = False) -> float:
    """FLOP/s of a linear layer on random data, weights taken in turn from more memory than caches hold.

    in_eighths: with both operands rounded to FP8 before, and the result in `dtype`.
    """
    m, n, k = shape
    copies = min(16, -(-ROTATED_BYTES[device.type] // (n * k * (1 if in_eighths else dtype.itemsize))))
    weights = [torch.empty(n, k, device=device, dtype=dtype).normal_() for _ in range(copies)]
    x = torch.empty(m, k, device=device, dtype=dtype).normal_()
    if in_eighths:
        layers, eighths = [fp8.Fp8Linear(weight) for weight in weights], fp8.quantise(x)
        calls = [partial(fp8.product, *eighths, layer.weight, layer.scale, dtype) for layer in layers]
        del weights
    else:
        calls = [partial(F.linear, x, weight) for weight in weights]
    turn = iter(range(1 << 62))

    def product():
        calls[next(turn) % copies]()

    return 2.0 * m * n * k / _best_s(product, device)


def _copy_bandwidth(device: torch.device) -> float:
    source = torch.empty(COPY_BYTES[device.type], device=device, dtype=torch.uint8).random_(0, 255)
    target = torch.empty_like(source)
    return 2.0 * source.numel() / _best_s(lambda: target.copy_(source), device)


def _best_s(work, device: torch.device) -> float:
    once = seconds_of(work, device, 1)  # also loads the kernel
    once = min(once, seconds_of(work, device, 1))
    repeats = max(1, min(200, int(BUDGET_S[device.type] / max(once, 1e-7))))
    return min(once, *(seconds_of(work, device, repeats) for _ in range(TRIALS)))
