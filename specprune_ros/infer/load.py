"""From configuration to a policy that is ready: which device, which arithmetic, which engine, and whether it fits."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from specprune_ros.config import Config, ConfigError, PolicySettings
from specprune_ros.infer.memory import keep_freed_memory
from specprune_ros.infer.policy import Policy
from specprune_ros.infer.processor import cpu_flags
from specprune_ros.model.checkpoint import load_checkpoint, open_checkpoint
from specprune_ros.model.demands import ACTIONS, require
from specprune_ros.model.fp8 import check_sizes, require_fp8, saved_bytes, scratch_bytes, to_fp8
from specprune_ros.model.hub import SHIPPED, checkpoint_folder

log = logging.getLogger(__name__)

BUNDLED = SHIPPED["bundled"]


def load_policy(config: Config, progress=None) -> Policy:
    """The policy that `config.policy` names; CheckpointError or ConfigError says what is wrong with it.

    progress(done_bytes, total_bytes, name) is told how the weights come in; by default the log is, when it takes long.
    """
    settings = config.policy
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 2) // 2))
    source = checkpoint_folder(settings.checkpoint)
    for finding in require(source, config):  # before any weight is read
        if finding.check == ACTIONS:
            log.info("%s: %s", ACTIONS, finding.detail)
            if finding.doubt:
                log.warning("%s: %s", ACTIONS, finding.doubt)
    place = placement(source, settings)
    if place.warning:
        log.warning(place.warning)
    if place.device.type == "cpu":
        keep_freed_memory()
    checkpoint = load_checkpoint(source, place.device, place.dtype, settings, progress or LoadingLog())
    if place.fp8:
        to_fp8(checkpoint.model.decoder)
        if place.device.type == "cuda":
            torch.cuda.empty_cache()  # the weights that were replaced are of no more use to anybody here
    policy = Policy(checkpoint, place.engine, settings.cache_dir, config.action)
    if settings.compile:
        policy.compile()
    return policy


@dataclass(frozen=True)
class Placement:
    """Where and how a policy runs on this machine."""

    device: torch.device
    dtype: torch.dtype
    engine: str
    warning: str = ""
    """What is not as one would wish, though nobody asked for it by name."""

    fp8: bool = False
    """Whether the decoder's products are in FP8 once the weights are read in `dtype`."""


def placement(source: Path, settings: PolicySettings) -> Placement:
    """What the settings come to here, before a weight is read; ConfigError when this machine cannot run them."""
    device, warnings, fp8 = torch.device(_device(settings.device)), [], settings.dtype == "fp8"
    if fp8:
        require_fp8(device)
        check_sizes(open_checkpoint(source, settings).model.decoder)
    if device.type == "cuda" and (lack := lack_of_memory(needed_bytes(source, settings, device), device)):
        if settings.device == "cuda":
            raise ConfigError(f"policy.device: {lack}; free some, or use 'cpu'")
        device = torch.device("cpu")
        warnings.append(f"policy.device: {lack}; running on the CPU")
    engine = settings.engine
    if settings.compile and device.type == "cpu" and engine in ("auto", "openvino"):
        if engine == "openvino":
            raise ConfigError(
                "policy.compile: layers compiled by PyTorch cannot run on OpenVINO; use policy.engine: eager"
            )
        engine = "eager"
    if fp8 and device.type == "cpu":
        if engine == "openvino":
            raise ConfigError(
                "policy.dtype: 'fp8' is emulated by PyTorch on a CPU and cannot run on OpenVINO; use policy.engine: "
                "eager, or policy.dtype: auto"
            )
        engine = "eager"
        warnings.append("policy.dtype: 'fp8' is emulated on a CPU, which is slow and only good to measure its error")
    return Placement(device, _dtype(settings.dtype, device), engine, "; ".join(warnings), fp8)


def warm_policy(config: Config) -> Policy:
    """The policy that `config.policy` names, ready to answer: what the process of the model runs."""
    policy = load_policy(config)
    policy.warm_up(config)
    return policy


class LoadingLog:
    """Says in the log how far the weights are, every few seconds."""

    EVERY_S = 2.0

    def __init__(self):
        self._said_s = time.monotonic()

    def __call__(self, done: int, total: int, name: str) -> None:
        if time.monotonic() - self._said_s > self.EVERY_S:
            self._said_s = time.monotonic()
            log.info("weights: %.1f of %.1f GB (%s)", done / 1e9, total / 1e9, name)


WORKSPACE_BYTES = 2 << 30
"""Activations, libraries' workspaces and captured graphs of the 7B model, generously."""


def needed_bytes(folder: Path, settings: PolicySettings, device: torch.device) -> int:
    """Device memory that the checkpoint takes while it runs: weights in the chosen arithmetic, and the rest.

    With FP8 the most is needed at the start, as the weights are read in bf16 before they are rounded.
    """
    model, itemsize = open_checkpoint(folder, settings).model, _dtype(settings.dtype, device).itemsize
    weights = sum(p.numel() for p in model.parameters()) * itemsize
    if settings.dtype != "fp8":
        return weights + WORKSPACE_BYTES
    running = weights - saved_bytes(model.decoder, itemsize) + WORKSPACE_BYTES
    return max(weights + scratch_bytes(model.decoder), running)


def lack_of_memory(needed: int, device: torch.device) -> str:
    """What is wrong when `needed` bytes do not fit on the device now; empty when they do."""
    free, total = torch.cuda.mem_get_info(device)
    if needed <= free:
        return ""
    return f"the policy needs {needed / 1e9:.1f} GB of GPU memory, {free / 1e9:.1f} of {total / 1e9:.1f} GB are free"


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("policy.device: 'cuda' was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")
    return name


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """bf16 where the arithmetic units take it; elsewhere it would be emulated and slow.

    fp8: what everything but the decoder's products runs in.
    """
    if name == "fp8":
        name = "bf16" if device.type == "cuda" else "auto"
    if name == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else fast_bf16_cpu()
        name = "bf16" if native else "fp32"
        if not native and device.type == "cuda":
            log.warning("policy.dtype: this GPU has no bf16 units; using fp32, which needs twice the memory")
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[name]


def fast_bf16_cpu() -> bool:
    """Whether this CPU multiplies bf16 natively (AVX512-BF16 or AMX)."""
    return "avx512_bf16" in cpu_flags()
