"""Scaled dot-product attention without a mask (OpenVLA-OFT's is bidirectional everywhere), and which kernel computes
it.

Two forms give the same result: PyTorch's fused SDPA, and plain products with a softmax between them. Which is faster
depends on CPU and number format: in fp32 on AVX2 the fused form wins, in bf16 on AVX512-BF16 the plain one does by a
factor of two. So a CPU is asked, once a process; dense and pruned passes then run on the same kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

TRIAL_TOKENS, TRIAL_HEADS, TRIALS = 512, 4, 3
CLEARLY_FASTER = 1.25
"""The plain form replaces the fused one from this factor on, so that noise of the measurement does not decide."""

_plain_is_faster: dict[tuple[torch.dtype, int], bool] = {}
"""(dtype, width of a head) -> what `choose_attention` measured on this machine. Nothing measured: SDPA."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, heads, T, d), (B, heads, L, d), (B, heads, L, d) -> (B, heads, T, d).

    Plain where that was measured to be faster; while training on a CPU, because the backward of the plain form is
    several times faster in bf16; and while a graph is traced for OpenVINO, which takes SDPA apart and adds a
    transposition of the keys.
    """
    on_cpu = q.device.type == "cpu"
    if on_cpu and (q.requires_grad or torch.jit.is_tracing() or _plain_is_faster.get((q.dtype, q.shape[-1]), False)):
        return plain_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as two matrix products; shapes as in `attend`."""
    return torch.matmul(torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).softmax(-1), v)


@torch.inference_mode()
def choose_attention(device: torch.device, dtype: torch.dtype, head_widths: Iterable[int]) -> str:
    """Decide for this process which kernel `attend` runs, and say which it is. Takes some milliseconds, the first
    time only.

    On a GPU cuDNN's attention is switched off: on Hopper it builds a plan for every new shape (0.06 to 0.4 s each),
    and every prompt length and token budget is one. What is left, flash attention for bf16, is then the same for
    every row of a benchmark.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        return "sdpa without cudnn"
    if device.type != "cpu":
        return "sdpa"
    found = []
    for width in sorted(set(head_widths)):
        if (dtype, width) not in _plain_is_faster:
            _plain_is_faster[dtype, width] = _measured_plain_is_faster(dtype, width)
        found.append(f"{'plain products' if _plain_is_faster[dtype, width] else 'sdpa'} for heads of {width}")
    return ", ".join(found)


def _measured_plain_is_faster(dtype: torch.dtype, width: int) -> bool:
    q, k, v = (torch.randn(1, TRIAL_HEADS, TRIAL_TOKENS, width).to(dtype) for _ in range(3))
    fused_s = _fastest_s(lambda: F.scaled_dot_product_attention(q, k, v))
    return _fastest_s(lambda: plain_attention(q, k, v)) * CLEARLY_FASTER < fused_s


def _fastest_s(work: Callable[[], object]) -> float:
    """Shortest of a few runs [s], the first one, which makes the kernel, among them."""

    def once() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return min(once() for _ in range(TRIALS))
