"""Analytic cost of one inference: the list of its matrix products, two FLOP a multiply-add
(docs/reference/openvla_oft.md, Cost model).

The one declaration that `gflop` in reports and the roofline floor of `specprune bench --model` are both summed from.
Element-wise work is left out: it can be fused into the products. So are the few score rows: they are overhead, not
need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specprune_ros.model.config import DecoderConfig, ModelConfig
from specprune_ros.model.towers import TowerConfig


@dataclass(frozen=True)
class Product:
    """`count` products of (m, k) by (k, n); `moved`: numbers that one of them reads and writes, each once.

    kind: "gemm" for a product with weights; "attention" for softmax(q k^T) v of all heads of one sequence, written as
    m = queries, n = keys, k = width, where the (m, n) map itself is never stored.
    """

    stage: str
    m: int
    n: int
    k: int
    count: int = 1
    kind: str = "gemm"

    @property
    def flop(self) -> float:
        return self.count * (4.0 if self.kind == "attention" else 2.0) * self.m * self.n * self.k

    @property
    def moved(self) -> int:
        if self.kind == "attention":
            return self.count * 2 * self.k * (self.m + self.n)
        return self.count * (self.m * self.k + self.k * self.n + self.m * self.n)


def tower_products(tower: TowerConfig, views: int, blocks: int) -> Iterator[Product]:
    """All views, batched, through one tower of which `blocks` blocks run."""
    patches, width = tower.grid**2, tower.width
    rows = views * (patches + tower.prefix)
    yield Product("vision", views * patches, width, 3 * tower.patch**2)
    for n, k in ((3 * width, width), (width, width), (tower.mlp, width), (width, tower.mlp)):
        yield Product("vision", rows, n, k, blocks)
    yield Product("vision", rows // views, rows // views, width, blocks * views, "attention")


def projector_products(config: ModelConfig) -> Iterator[Product]:
    vision, llm = config.vision_width, config.decoder.width
    sizes = [(vision, 4 * vision), (4 * vision, llm), (llm, llm)] if config.fused else [(vision, llm), (llm, llm)]
    for k, n in sizes:
        yield Product("vision", config.views * config.patches, n, k)


def layer_products(config: DecoderConfig, length: int, rows: int | None = None) -> Iterator[Product]:
    """One decoder layer over `length` tokens; `rows` queries only (keys and values still of all tokens)."""
    rows = length if rows is None else rows
    width, keys = config.width, 2 * config.kv_heads * config.head_dim
    if rows == length:
        yield Product("decoder", length, width + keys, width)
    else:
        yield Product("decoder", rows, width, width)
        yield Product("decoder", length, keys, width)
    yield Product("decoder", rows, length, width, kind="attention")
    yield Product("decoder", rows, width, width)
    yield Product("decoder", rows, 2 * config.mlp, width)
    yield Product("decoder", rows, width, config.mlp)


def proprio_products(config: ModelConfig) -> Iterator[Product]:
    if config.proprio_dims:
        yield Product("decoder", 1, config.decoder.width, config.proprio_dims)
        yield Product("decoder", 1, config.decoder.width, config.decoder.width)


def head_products(config: ModelConfig) -> Iterator[Product]:
    width, dims, steps = config.decoder.width, config.action_dims, config.chunk_steps
    yield Product("head", steps, width, dims * width)
    yield Product("head", steps, width, width, 2)
    yield Product("head", steps, dims, width)


def inference_products(config: ModelConfig, layer_lengths: Sequence[int]) -> tuple[Product, ...]:
    """What one inference must compute when layer i sees `layer_lengths[i]` tokens: of the last layer only the rows
    read."""
    products = [p for tower in config.towers for p in tower_products(tower, config.views, tower.depth - 1)]
    products += [*projector_products(config), *proprio_products(config)]
    for length in layer_lengths[:-1]:
        products += layer_products(config.decoder, length)
    return (*products, *layer_products(config.decoder, layer_lengths[-1], config.placeholders), *head_products(config))


def stock_products(config: ModelConfig, length: int) -> tuple[Product, ...]:
    """What upstream computes: views one by one, the unused last block of each tower, every row of the last layer,
    `lm_head`."""
    once = [p for tower in config.towers for p in tower_products(tower, 1, tower.depth)]
    products = [*once * config.views, *projector_products(config), *proprio_products(config)]
    for _ in range(config.decoder.layers):
        products += layer_products(config.decoder, length)
    products.append(Product("head", length, config.decoder.vocab, config.decoder.width))
    return (*products, *head_products(config))


def inference_flop(config: ModelConfig, layer_lengths: Sequence[int]) -> float:
    """FLOP of one inference in which layer i processed `layer_lengths[i]` tokens."""
    return sum(product.flop for product in inference_products(config, layer_lengths))
