"""What a JPEG round trip does to pixels, as tensor arithmetic: no file, no host, shapes fixed by the input's.

Upstream encodes every camera frame with TensorFlow (quality 95, 4:2:0, accurate forward DCT) and decodes it with
TensorFlow's default, the fast inverse DCT (docs/reference/openvla_oft.md, Details). Both are libjpeg's integer
arithmetic, which is reproduced to the bit; entropy coding loses nothing and is left out. Sources: ITU-T T.81 (tables
K.1 and K.2), T.871 (colour), Loeffler, Ligtenberg, Moschytz 1989 (forward DCT), Arai, Agui, Nakajima 1988 (inverse
DCT), libjpeg's documented roundings and edges.

All integers travel in float64, where sums and products below 2^53 are exact: matrix products do the linear parts on
any device, free of TF32 and of the order of summation, and `floor` stands wherever libjpeg shifts right.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

QUALITY = 95
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
"""T.81, tables K.1 and K.2, row = vertical frequency; the rest of K.2 is 99."""
SMOOTH_FROM = 3
"""Chroma samples in a row from which libjpeg interpolates; it repeats fewer."""


class Constants(NamedTuple):
    """What rows of samples are multiplied by, (in, out) from the right; float64 on one device, exact dyadic
    fractions."""

    to_ycc: Tensor
    """(3, 3) RGB to Y, Cb, Cr."""
    ycc_offset: Tensor
    """(3,) level shift and rounding of `to_ycc`."""
    half: Tensor
    """(2,) rounding of chroma averages in even and odd columns, in quarters."""
    forward: Tensor
    """(8, 8) forward DCT, sqrt(8) times the orthonormal one."""
    divisors: Tensor
    """(2, 8, 8) quantisation steps of Y and of Cb, Cr on the scale of two `forward`, transposed."""
    multipliers: Tensor
    """(2, 8, 8) back to the scale of the inverse DCT: two fraction bits, its pre-scaling inside; transposed."""
    products: Tensor
    """(8, 9) first half of the inverse DCT: everything up to the multiplications."""
    sums: Tensor
    """(9, 8) second half: additions of the products."""
    to_rgb: Tensor
    """(2, 3) what Cb and Cr add to R, G, B."""
    rgb_offset: Tensor
    """(3,) level shift and rounding of `to_rgb`."""


def jpeg_round_trip(images: Tensor) -> Tensor:
    """(V, H, W, 3) uint8 RGB -> the same shape after JPEG, any H, W >= 1. The first call on a device uploads
    constants."""
    views, height, width, _ = images.shape
    c = constants(images.device)
    luma, chroma = _coded(*_planes(images, c), c)
    luma = luma[:, :height, :width]
    chroma = _upsampled(chroma[:, : -(-height // 2), : -(-width // 2)])[:, :height, :width]
    colour = _times(chroma.unflatten(0, (views, 2)).movedim(1, -1), c.to_rgb) + c.rgb_offset
    return (luma[..., None] + colour.floor_()).clamp_(0, 255).to(torch.uint8)


def _planes(images: Tensor, c: Constants) -> tuple[Tensor, Tensor]:
    """(V, H, W, 3) -> luma (V, H', W'), chroma (2V, H'', W''): level-shifted integers, sides are multiples of 8.

    The last column is repeated; so is the last row up to an even height, then the last row of chroma averages. The
    averages of 2 x 2 pixels round a half down and up in turn along a row.
    """
    height, width = images.shape[1:3]
    ycc = (_times(images.double(), c.to_ycc) + c.ycc_offset).floor_().movedim(-1, 1)
    luma = _padded(ycc[:, 0], -height % 8, -width % 8)
    chroma = _padded(ycc[:, 1:].flatten(0, 1), height % 2, -width % 16)
    sums = chroma.unflatten(1, (-1, 2)).unflatten(3, (-1, 2, 2)).sum((2, 5))
    averages = ((sums + c.half) / 4).floor_().flatten(2)
    return luma, _padded(averages, -averages.shape[1] % 8, 0)


def _coded(luma: Tensor, chroma: Tensor, c: Constants) -> tuple[Tensor, Tensor]:
    """Both after forward DCT, quantisation and inverse DCT of every 8 x 8 block, all blocks at once, in -128..127."""
    grids = [planes.unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).transpose(2, 3) for planes in (luma, chroma)]
    counts = [grid.numel() // 64 for grid in grids]
    blocks = torch.cat([grid.reshape(-1, 8, 8) for grid in grids])
    divisors, multipliers = (
        torch.cat([table.expand(count, 8, 8) for table, count in zip(tables, counts, strict=True)])
        for tables in (c.divisors, c.multipliers)
    )
    rows = _rounded(_times(blocks, c.forward) * 4)
    coefficients = _rounded(_times(rows.mT, c.forward) / 4)
    levels = (coefficients.abs() / divisors + 0.5).floor_().copysign_(coefficients)
    columns = _inverse(levels * multipliers, c)
    samples = (_inverse(columns.mT, c) / 32).floor_().clamp_(-128, 127).split(counts)
    luma, chroma = (
        part.view(grid.shape).transpose(2, 3).flatten(3).flatten(1, 2)
        for part, grid in zip(samples, grids, strict=True)
    )
    return luma, chroma


def _inverse(rows: Tensor, c: Constants) -> Tensor:
    """The fast inverse DCT of rows: linear apart from the fraction of the products, which is cut off."""
    return _times(_times(rows, c.products).floor_(), c.sums)


def _upsampled(planes: Tensor) -> Tensor:
    """(P, H, W) -> (P, 2H, 2W): the nearer sample weighs 3, the farther 1, in both directions; halves round up and
    down in turn."""
    if planes.shape[2] < SMOOTH_FROM:
        return planes.repeat_interleave(2, 1).repeat_interleave(2, 2)
    rows = _padded(planes, 1, 0, 1)
    tall = torch.stack((3 * planes + rows[:, :-2], 3 * planes + rows[:, 2:]), 2).flatten(1, 2)
    columns = _padded(tall, 0, 1, 0, 1)
    wide = torch.stack((3 * tall + columns[..., :-2] + 8, 3 * tall + columns[..., 2:] + 7), 3).flatten(2)
    return (wide / 16).floor_()


def _times(x: Tensor, matrix: Tensor) -> Tensor:
    """x @ matrix as one product of two matrices, whatever the strides of x."""
    return (x.reshape(-1, matrix.shape[0]) @ matrix).view(*x.shape[:-1], matrix.shape[1])


def _rounded(x: Tensor) -> Tensor:
    """To the nearest integer, halves up."""
    return (x + 0.5).floor_()


def _padded(planes: Tensor, bottom: int, right: int, top: int = 0, left: int = 0) -> Tensor:
    """(P, H, W) with the outermost samples repeated."""
    return F.pad(planes, (left, right, top, bottom), mode="replicate")


@cache  # captured graphs hold on to these tensors
def constants(device: torch.device) -> Constants:
    """The constants on `device`, made once: a CUDA graph may only capture the round trip after a first call."""
    with torch.inference_mode(False):
        steps = _quantisation()
        products, sums = _fast_inverse()
        made = Constants(
            to_ycc=_fixed([[0.299, -0.16874, 0.5], [0.587, -0.33126, -0.41869], [0.114, 0.5, -0.08131]], 16),
            ycc_offset=torch.tensor([0.5 - 128, 0.5 - 2**-16, 0.5 - 2**-16], dtype=torch.float64),
            half=torch.tensor([1, 2], dtype=torch.float64),
            forward=_forward(),
            divisors=8 * steps.mT.contiguous(),
            multipliers=_fixed(steps * _prescaling() / 4, 0).mT.contiguous(),
            products=products,
            sums=sums,
            to_rgb=_fixed([[0.0, -0.34414, 1.772], [1.402, -0.71414, 0.0]], 16),
            rgb_offset=torch.tensor([128.5] * 3, dtype=torch.float64),
        )
        return Constants(*(tensor.to(device) for tensor in made))


def _fixed(values, bits: int) -> Tensor:
    """Values rounded to `bits` fraction bits, halves up."""
    return _rounded(torch.as_tensor(values, dtype=torch.float64) * 2**bits) / 2**bits


def _quantisation() -> Tensor:
    """(2, 8, 8) quantisation steps of luma and chroma; from quality 50 on the tables are scaled by 200 - 2 Q per
    cent."""
    chroma = torch.full((8, 8), 99)
    chroma[:4, :4] = torch.tensor(CHROMA_CORNER)
    percent = 200 - 2 * QUALITY
    tables = torch.stack((torch.tensor(LUMA_TABLE), chroma))
    return ((tables * percent + 50) // 100).clamp(min=1).double()


def _prescaling() -> Tensor:
    """(8, 8) factors that the fast inverse DCT leaves to dequantisation, 14 fraction bits, times 16."""
    scale = torch.tensor([1.0] + [math.sqrt(2) * math.cos(k * math.pi / 16) for k in range(1, 8)], dtype=torch.float64)
    return 16 * _fixed(torch.outer(scale, scale), 14)


def _forward() -> Tensor:
    """Loeffler's graph with constants of 13 fraction bits, multiplied out by running it on the unit samples."""
    samples = torch.eye(8, dtype=torch.float64)
    a0, a1, a2, a3 = samples[:4] + samples[4:].flip(0)
    d0, d1, d2, d3 = samples[:4] - samples[4:].flip(0)
    even = _fix(0.541196100) * (a1 - a2 + a0 - a3)
    z1, z2 = _fix(-0.899976223) * (d3 + d0), _fix(-2.562915447) * (d2 + d1)
    z5 = _fix(1.175875602) * (d0 + d1 + d2 + d3)
    z3, z4 = _fix(-1.961570560) * (d3 + d1) + z5, _fix(-0.390180644) * (d2 + d0) + z5
    frequencies = (
        a0 + a1 + a2 + a3,
        _fix(1.501321110) * d0 + z1 + z4,
        _fix(0.765366865) * (a0 - a3) + even,
        _fix(3.072711026) * d1 + z2 + z3,
        a0 - a1 - a2 + a3,
        _fix(2.053119869) * d2 + z2 + z4,
        _fix(-1.847759065) * (a1 - a2) + even,
        _fix(0.298631336) * d3 + z1 + z3,
    )
    return torch.stack(frequencies, 1)


def _fix(value: float) -> float:
    return round(value * 2**13) / 2**13


def _fast_inverse() -> tuple[Tensor, Tensor]:
    """Arai's graph with constants of 8 fraction bits, cut in two behind the multiplications."""
    x0, x1, x2, x3, x4, x5, x6, x7 = torch.eye(8, dtype=torch.float64)
    z10, z11, z12, z13 = x5 - x3, x1 + x7, x1 - x7, x5 + x3
    before = (x0 + x4, x0 - x4, x2 + x6, z11 + z13)
    factors = (362, 362, 473, 277, -669)  # sqrt(2) twice, 2 cos(pi / 8) = c, c - s, -(c + s) with s = 2 sin(pi / 8)
    factored = zip(factors, (x2 - x6, z11 - z13, z10 + z12, z12, z10), strict=True)
    products = [factor / 256 * term for factor, term in factored]
    s04, d04, s26, s7, p26, p11, p5, p12, p10 = torch.eye(9, dtype=torch.float64)
    inner = p26 - s26
    e0, e1, e2, e3 = s04 + s26, d04 + inner, d04 - inner, s04 - s26
    o6 = p10 + p5 - s7
    o5 = p11 - o6
    o4 = p12 - p5 + o5
    samples = (e0 + s7, e1 + o6, e2 + o5, e3 - o4, e3 + o4, e2 - o5, e1 - o6, e0 - s7)
    return torch.stack((*before, *products), 1), torch.stack(samples, 1)
