"""Scaled dot-product attention without a mask (OpenVLA-OFT's is bidirectional everywhere), and which kernel computes
it.

Two forms give the same result: PyTorch's fused SDPA, and plain products with a softmax between them. Which is faster
depends on CPU and number format: in fp32 on AVX2 the fused form wins, in bf16 on AVX512-BF16 the plain one does by a
factor of two. So a CPU is asked, once a process; dense and pruned passes then run on the same kernel.

On a GPU there are three fused kernels. cuDNN's is the fastest on Hopper, and builds a plan for every new shape (40 ms
each on an H200, docs/results.md). The vision towers see one shape for ever and take it; every prompt length and token
budget is a new shape of the decoder, which takes flash attention, and for few tokens, where that splits the keys and
adds the parts up in a second kernel, the memory-efficient one.
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

EFFICIENT_UP_TO = 288
"""Keys up to which the memory-efficient kernel is at least as fast as flash attention (H200, heads of 128: 269 keys 22
against 24 us, 208 keys 11 against 17 us)."""

_cudnn_runs: dict[tuple[torch.dtype, int], bool] = {}
"""(dtype, width of a head) -> whether cuDNN's attention runs on this GPU. Nothing tried: SDPA decides."""
_plain_is_faster: dict[tuple[torch.dtype, int], bool] = {}
"""(dtype, width of a head) -> what `choose_attention` measured on this machine. Nothing measured: SDPA."""


def attend(q: Tensor, k: Tensor, v: Tensor, one_shape: bool = False) -> Tensor:
    """(B, heads, T, d), (B, heads, L, d), (B, heads, L, d) -> (B, heads, T, d).

    one_shape: the shapes are the same in every pass. Plain where that was measured to be faster; while training on a
    CPU, because the backward of the plain form is several times faster in bf16; and while a graph is traced for
    OpenVINO, which takes SDPA apart and adds a transposition of the keys.
    """
    on_cpu = q.device.type == "cpu"
    if on_cpu and (q.requires_grad or torch.jit.is_tracing() or _plain_is_faster.get((q.dtype, q.shape[-1]), False)):
        return plain_attention(q, k, v)
    if (q.dtype, q.shape[-1]) in _cudnn_runs and not q.requires_grad:
        if one_shape and _cudnn_runs[q.dtype, q.shape[-1]]:
            return _cudnn(q, k, v)
        if k.shape[2] <= EFFICIENT_UP_TO:
            return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, False)[0]
    return F.scaled_dot_product_attention(q, k, v)


def _cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, False)[0]


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as two matrix products; shapes as in `attend`."""
    return torch.matmul(torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).softmax(-1), v)


@torch.inference_mode()
def choose_attention(device: torch.device, dtype: torch.dtype, head_widths: Iterable[int]) -> str:
    """Decide for this process which kernel `attend` runs, and say which it is. Takes some milliseconds, the first
    time only.

    On a GPU cuDNN's attention is never chosen by SDPA itself: see above.
    """
    widths = sorted(set(head_widths))
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        return "; ".join(_tried_cudnn(device, dtype, width) for width in widths)
    if device.type != "cpu":
        return "sdpa"
    found = []
    for width in widths:
        if (dtype, width) not in _plain_is_faster:
            _plain_is_faster[dtype, width] = _measured_plain_is_faster(dtype, width)
        found.append(f"{'plain products' if _plain_is_faster[dtype, width] else 'sdpa'} for heads of {width}")
    return ", ".join(found)


def _tried_cudnn(device: torch.device, dtype: torch.dtype, width: int) -> str:
    if dtype not in (torch.bfloat16, torch.float16):
        return f"heads of {width}: sdpa without cudnn"
    if (dtype, width) not in _cudnn_runs:
        q = torch.randn(1, TRIAL_HEADS, 2 * TRIAL_HEADS, width, device=device).to(dtype)
        try:
            close = torch.allclose(_cudnn(q, q, q).float(), plain_attention(q, q, q).float(), atol=0.05)
            _cudnn_runs[dtype, width] = close
        except (RuntimeError, AttributeError):  # an older GPU or library
            _cudnn_runs[dtype, width] = False
    towers = "cudnn" if _cudnn_runs[dtype, width] else "sdpa"
    return f"heads of {width}: {towers} in towers, memory-efficient up to {EFFICIENT_UP_TO} keys, flash beyond"


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
