"""The decoder's products in FP8 (e4m3), with one scale for each row of activations and each output column of a weight.

A row r of numbers is kept as q * s: s = max |r| / 448 in float32, so that the largest number becomes e4m3's largest,
and q = r / s rounded to float8_e4m3fn, to nearest and ties to even. An element is off by at most
max(2^-4 |r_i|, 2^-10 s): half a step of 3 mantissa bits, or of the even steps near zero.

On a CUDA device the product runs in FP8 with float32 sums. Elsewhere it is EMULATED: the same rounded operands, which
float32 holds exactly, multiplied in float32. That is slow, and there to measure the error where there is no such GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specprune_ros.config import ConfigError
from specprune_ros.model.checkpoint import Checkpoint, same_weights
from specprune_ros.model.decoder import PRODUCTS, Decoder

LARGEST = torch.finfo(torch.float8_e4m3fn).max
SMALLEST_SCALE = torch.finfo(torch.float32).tiny
"""Scale of a row of zeros: the quotient stays defined, and everything smaller becomes zero."""

FIRST_CAPABILITY = (8, 9)
MULTIPLE = 16
"""What `torch._scaled_mm` needs the inputs and the outputs of a weight to be a multiple of; rows may be any number."""


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k) floats -> (n, k) float8_e4m3fn and their scales (n, 1) float32; q * scale is the row again, rounded.

    Nothing is read on the host: this can be captured in a CUDA graph. What is not finite makes its row NaN.
    """
    largest = torch.linalg.vector_norm(rows, ord=torch.inf, dim=-1, keepdim=True, dtype=torch.float32)
    # A GPU divides by a constant through its reciprocal, a CPU does not: multiplied, both find the same scale.
    scale = (largest * (1 / LARGEST)).clamp_min(SMALLEST_SCALE)
    return (rows / scale).to(torch.float8_e4m3fn), scale


def product(x: Tensor, x_scale: Tensor, weight: Tensor, weight_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(x * x_scale) (weight^T * weight_scale) in `dtype`: (rows, out).

    x: (rows, in) and weight: (out, in), float8_e4m3fn; x_scale: (rows, 1) and weight_scale: (1, out), float32.
    """
    if not x.is_cuda:
        return (F.linear(x.float(), weight.float()) * x_scale * weight_scale).to(dtype)
    out = torch._scaled_mm(
        x, weight.t(), scale_a=x_scale, scale_b=weight_scale, out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return out.to(dtype)


class Fp8Linear(nn.Module):
    """A linear layer without bias whose weight is kept in FP8 and whose input is rounded row by row."""

    def __init__(self, weight: Tensor):
        """weight: (out, in) floats, of which nothing is kept. Buffers: weight (out, in) float8_e4m3fn, scale (1, out)
        float32."""
        super().__init__()
        eighth, scale = quantise(weight.detach())
        self.register_buffer("weight", eighth)
        self.register_buffer("scale", scale.view(1, -1))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of x."""
        rows, scale = quantise(x.reshape(-1, x.shape[-1]))
        return product(rows, scale, self.weight, self.scale, x.dtype).view(*x.shape[:-1], self.weight.shape[0])


@torch.no_grad()
def to_fp8(decoder: Decoder) -> None:
    """Put FP8 products into every layer, in place; layer by layer, so that hardly more memory is needed meanwhile.

    ConfigError, and nothing done, where a size does not fit.
    """
    check_sizes(decoder)
    for layer in decoder.layers:
        for name in PRODUCTS:
            setattr(layer, name, Fp8Linear(getattr(layer, name).weight))


def check_sizes(decoder: Decoder) -> None:
    """ConfigError unless the inputs and outputs of all products are multiples of 16; works on the meta device."""
    for number, layer in enumerate(decoder.layers):
        for name in PRODUCTS:
            outputs, inputs = getattr(layer, name).weight.shape
            if outputs % MULTIPLE or inputs % MULTIPLE:
                raise ConfigError(
                    f"policy.dtype: 'fp8' needs products whose inputs and outputs are multiples of {MULTIPLE}, and "
                    f"{name} of decoder layer {number} has {inputs} inputs and {outputs} outputs; use 'bf16'"
                )


def require_fp8(device: torch.device) -> None:
    """ConfigError on a GPU that cannot multiply FP8; on other devices it is emulated."""
    if device.type != "cuda":
        return
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < FIRST_CAPABILITY:
        raise ConfigError(
            f"policy.dtype: 'fp8' needs a GPU of compute capability {FIRST_CAPABILITY[0]}.{FIRST_CAPABILITY[1]} or "
            f"higher, and {torch.cuda.get_device_name(device)} has {major}.{minor}; use 'bf16'"
        )


def saved_bytes(decoder: Decoder, itemsize: int) -> int:
    """Memory that FP8 saves against weights of `itemsize` bytes a number."""
    weights = [getattr(layer, name).weight for layer in decoder.layers for name in PRODUCTS]
    return sum(weight.numel() * (itemsize - 1) - 4 * weight.shape[0] for weight in weights)


def scratch_bytes(decoder: Decoder) -> int:
    """Memory that `to_fp8` takes for a moment, beyond the weights: the largest of them in float32 and in FP8."""
    weights = (getattr(layer, name).weight for layer in decoder.layers for name in PRODUCTS)
    return 5 * max(weight.numel() for weight in weights)


def fp8_copy(checkpoint: Checkpoint) -> Checkpoint:
    """The same policy with FP8 products; all other weights are shared with `checkpoint`, which stays as it is."""
    copied = same_weights(checkpoint)
    for module in copied.model.modules():  # a compiled forward would be that of the model it was copied from
        module.__dict__.pop("forward", None)
    to_fp8(copied.model.decoder)
    return copied
