"""Halves of inferences as OpenVINO models: converted once a machine, compiled once a process, for CPUs of any vendor.

Arithmetic is float32, or bf16 where the policy runs in bf16 and the CPU multiplies it natively; then OpenVINO keeps
what lies behind the last products of an output in float32, the selection of tokens among it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from specprune_ros.infer.clock import Spent
from specprune_ros.infer.convert import Order, order_of
from specprune_ros.infer.converter import Converter
from specprune_ros.infer.model_cache import ConvertedModel, ModelCache
from specprune_ros.infer.passes import Half, Middle, Outputs, PrefixHalf, PrefixInputs, SuffixInputs
from specprune_ros.infer.records import tensors_of
from specprune_ros.types import STAGES

MOST_WEIGHT_BYTES = 512 << 20
"""Float32 weights of the largest model that is converted. Every token budget holds a copy of most of them:
`most_suffixes` of them in memory, and twice the model while the converter runs."""

COPIES_BYTES = 1 << 30
"""Memory for the copies of all second halves together, beyond the few that a policy needs at least."""

FEWEST_SUFFIXES, MOST_SUFFIXES = 8, 48
"""Both modes at the aggressiveness in force and at those of the presets take seven, the dense pass among them."""

PROFILED_REPLAYS = 3
"""First replays of a graph whose operations are timed one by one; later ones are timed as a whole and split
likewise."""


def reason_against(model: nn.Module) -> str:
    """Why OpenVINO is not for this model; empty where it is."""
    needed = 4 * sum(parameter.numel() for parameter in model.parameters())
    if needed <= MOST_WEIGHT_BYTES:
        return ""
    return (
        f"the model has {needed / 1e9:.1f} GB of weights in float32 and OpenVINO is used up to "
        f"{MOST_WEIGHT_BYTES / 1e9:.1f} GB, because every token budget takes a copy of them"
    )


class OpenVinoCapture:
    """Takes models from the cache, or has them converted and caches them, and compiles them."""

    name = "openvino"
    from_cameras = (
        False  # frames of any size are brought to the model's by exact integer arithmetic, which stays in PyTorch
    )
    background = True
    dtype = torch.float32

    def __init__(self, model: nn.Module, models: ModelCache, threads: int, bf16: bool):
        self.core, self.models = ov.Core(), models
        native = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 and native else "f32",
            "ENABLE_CPU_PINNING": False,  # a core tied to inference is a core that control and drivers cannot have
            "PERF_COUNT": True,
        }
        weights = 4 * sum(parameter.numel() for parameter in model.parameters())
        self.most_suffixes = max(FEWEST_SUFFIXES, min(MOST_SUFFIXES, COPIES_BYTES // max(1, weights)))
        self._model, self._converter = model, Converter(model)
        self._subject = ""

    def __call__(self, half: Half, given: PrefixInputs | SuffixInputs) -> OpenVinoGraph:
        order = order_of(half, given)
        key = self._key(order)
        converted = self.models.load(key)
        if converted is None:
            converted = self._converter.convert(order)
            self.models.save(key, converted)
        record = Middle if isinstance(half, PrefixHalf) else Outputs
        return OpenVinoGraph(self._compiled(converted), given, record)

    def release(self) -> None:
        """The converter ends: with PyTorch and OpenVINO in it, it is as large as the policy."""
        self._converter.stop()

    def _compiled(self, converted: ConvertedModel) -> ov.CompiledModel:
        weights = ov.Tensor(np.frombuffer(converted.weights, np.uint8))
        return self.core.compile_model(self.core.read_model(converted.xml, weights), "CPU", self.settings)

    def _key(self, order: Order) -> str:
        """Everything that a converted model depends on."""
        self._subject = self._subject or subject_digest(self._model)
        forms = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors_of(order.given)]
        text = repr((self._subject, order._replace(given=None), forms))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class OpenVinoGraph:
    """A compiled half on fixed buffers: it reads those of `given`, and writes into tensors of its own."""

    def __init__(
        self, compiled: ov.CompiledModel, given: PrefixInputs | SuffixInputs, record: type[Middle] | type[Outputs]
    ):
        self._request = compiled.create_infer_request()
        self._given = given  # the request reads their memory
        buffers = tensors_of(given)
        for port in compiled.inputs:
            (index,) = (int(name[2:]) for name in port.get_names() if name.startswith("in"))
            self._request.set_tensor(port, ov.Tensor(buffers[index].numpy(), shared_memory=True))
        made = [self._made(port) for port in compiled.outputs]
        self.outputs = record(*made, *[None] * (len(record._fields) - len(made)))
        self._profiled: list[dict[str, float]] = []
        self._ms = 0.0

    def _made(self, port) -> Tensor:
        array = np.empty(list(port.shape), port.get_element_type().to_dtype())
        self._request.set_tensor(port, ov.Tensor(array, shared_memory=True))
        return torch.from_numpy(array)

    def replay(self) -> None:
        started = time.perf_counter()
        self._request.infer(share_outputs=True)
        self._ms = 1e3 * (time.perf_counter() - started)
        if len(self._profiled) < PROFILED_REPLAYS:
            self._profiled.append(_by_stage(self._request.profiling_info))

    def spent(self) -> Spent:
        total = sum(sum(stages.values()) for stages in self._profiled) or 1.0
        return Portions({s: self._ms * sum(stages[s] for stages in self._profiled) / total for s in STAGES})


class Portions:
    """Milliseconds per stage, known."""

    def __init__(self, stages_ms: dict[str, float]):
        self._stages_ms = stages_ms

    def milliseconds(self) -> dict[str, float]:
        return self._stages_ms


def _by_stage(profile: Sequence[ov.ProfilingInfo]) -> dict[str, float]:
    """[ms] of the operations of every stage; names begin with it. What OpenVINO added itself (reordered weights) is
    decoder."""
    spent = dict.fromkeys(STAGES, 0.0)
    for operation in profile:
        stage = operation.node_name.partition("/")[0]
        spent[stage if stage in spent else "decoder"] += 1e3 * operation.real_time.total_seconds()
    return spent


def subject_digest(model: nn.Module) -> str:
    """Tells models apart, and versions of what converts them: weights, sizes, this package's code, OpenVINO,
    PyTorch."""
    digest = hashlib.blake2b(repr(model.config).encode(), digest_size=16)
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    digest.update(f"{ov.__version__} {metadata.version('torch')} {_code_digest()}".encode())
    return digest.hexdigest()


@cache
def _code_digest() -> str:
    """Digest of the modules that are converted, so that a code edit invalidates cached models."""
    digest, root = hashlib.blake2b(digest_size=16), Path(__file__).resolve().parent.parent
    for folder in ("infer", "model", "prune"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()
