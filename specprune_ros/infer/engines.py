"""Which engine a policy runs on."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import torch

from specprune_ros.infer.engine import EagerEngine, Engine, GraphEngine
from specprune_ros.infer.model_cache import ModelCache, default_folder
from specprune_ros.infer.passes import Passes

log = logging.getLogger(__name__)


def make_engine(name: str, passes: Passes, device: torch.device, cache_dir: str = "") -> Engine:
    """The engine that `policy.engine` names; `auto`: the fastest one that this machine and model can have.

    One that cannot be had becomes eager. Its state says why, and a warning does where the engine was asked for by name.
    """
    if name == "eager":
        return EagerEngine(passes)
    wanted = name if name != "auto" else {"cuda": "graph", "cpu": "openvino"}.get(device.type, "eager")
    if wanted == "graph":
        made = _graph_engine(passes, device)
    elif wanted == "openvino":
        made = _openvino_engine(passes, device, cache_dir)
    else:
        made = EagerEngine(passes)
    if made.name != name and name != "auto":
        log.warning("policy.engine: %r cannot be used, inferences run op by op: %s", name, made.state)
    return made


def _graph_engine(passes: Passes, device: torch.device) -> Engine:
    from specprune_ros.infer.capture_cuda import FIRST_TORCH, CudaCapture

    if device.type != "cuda":
        return EagerEngine(passes, f"captured graphs need a CUDA device and the model is on {device}")
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < FIRST_TORCH:
        needed = ".".join(map(str, FIRST_TORCH))
        return EagerEngine(passes, f"captured graphs need torch {needed} or newer, this is {torch.__version__}")
    return GraphEngine(EagerEngine(passes), CudaCapture(device))


def _openvino_engine(passes: Passes, device: torch.device, cache_dir: str) -> Engine:
    if device.type != "cpu":
        return EagerEngine(passes, f"OpenVINO runs on a CPU and the model is on {device}")
    if importlib.util.find_spec("openvino") is None:
        return EagerEngine(passes, "OpenVINO is not installed (pip install openvino)")
    try:
        from specprune_ros.infer.capture_openvino import OpenVinoCapture, reason_against

        if why_not := reason_against(passes.model):
            return EagerEngine(passes, why_not)
        folder = Path(cache_dir).expanduser() if cache_dir else default_folder()
        bf16 = next(passes.model.parameters()).dtype is torch.bfloat16
        capture = OpenVinoCapture(passes.model, ModelCache(folder), torch.get_num_threads(), bf16)
    except Exception as error:  # a broken installation raises anything; inference works without it
        return EagerEngine(passes, f"OpenVINO does not work here ({str(error).strip() or type(error).__name__})")
    return GraphEngine(EagerEngine(passes), capture)
