"""The converter: a process of low priority that turns halves of inferences into OpenVINO models for a policy's
process.

Conversion takes seconds of Python, which in the policy's own process would hold up the control loop. Here it only
uses what nobody else wants of the machine, and a crash in it costs a faster engine and no more.

`python -m specprune_ros.infer.convert` reads pickled records from standard input, first `Subject`, then `Order`s, and
answers each order on standard output with a pickled `ConvertedModel`, or with the text of an error. It ends when its
input does.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from specprune_ros.infer.model_cache import ConvertedModel
from specprune_ros.infer.passes import Half, Passes, PrefixHalf, PrefixInputs, SuffixHalf, SuffixInputs
from specprune_ros.infer.records import refilled, tensors_of
from specprune_ros.model.vla import Plan
from specprune_ros.prune.layout import Layout
from specprune_ros.types import STAGES

NICENESS = 10


class Subject(NamedTuple):
    """What all orders are about."""

    model: nn.Module


class Order(NamedTuple):
    """One half to convert: of a prefix `scored` and `similarity` count, of a suffix `plan`. given: example buffers."""

    layout: Layout
    plan: Plan | None
    scored: str
    similarity: str
    given: PrefixInputs | SuffixInputs


def order_of(half: Half, given: PrefixInputs | SuffixInputs) -> Order:
    """The order for one half, whose input buffers are `given`."""
    if isinstance(half, PrefixHalf):
        return Order(half.layout, None, half.scored, half.similarity, given)
    return Order(half.layout, half.plan, half.plan.scored, half.plan.static.similarity, given)


def main() -> int:
    """Answer orders from standard input until it ends; see the module's description. Returns the exit status 0."""
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the node; this process ends with it
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Redirect library output to stderr, so that it does not mix with the answers on stdout.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    torch.set_num_threads(1)
    # The tracer warns that some values become constants. That is intended here.
    warnings.simplefilter("ignore")
    orders = sys.stdin.buffer
    passes = Passes(_received(orders).model.float().eval())
    while (order := _received(orders)) is not None:
        try:
            answer = convert(passes, order)
        except Exception as error:
            answer = " ".join(f"{type(error).__name__}: {error}".split())
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
    return 0


def _received(source: BinaryIO):
    """The next record; None when there are no more. It comes from the process that started this one, over a pipe."""
    try:
        return pickle.load(source)
    except EOFError:
        return None


def convert(passes: Passes, order: Order) -> ConvertedModel:
    """The OpenVINO model of a half of a float32 model.

    Inputs are named `in0`, `in1`, ... in the order of `tensors_of(order.given)`, as far as they matter; outputs come
    in the order of `tensors_of` of what the half returns. Names of operations begin with their stage.
    """
    names: dict[str, str] = {}
    with torch.no_grad():
        traced, examples = _traced(passes, order, names)
        model = _openvino_model(traced, examples)
    for operation in model.get_ordered_ops():
        outputs = [name for output in operation.outputs() for name in output.get_names()]
        stage = next((names[name] for name in outputs if name in names), "decoder")
        operation.set_friendly_name(f"{stage}/{operation.get_friendly_name()}")
    return _serialised(model)


def _traced(passes: Passes, order: Order, names: dict[str, str]) -> tuple[torch.jit.ScriptFunction, tuple[Tensor, ...]]:
    """The half as TorchScript; `names`: of its values, and the stage that each belongs to."""
    rope = passes.model.rope(order.layout.length, torch.empty(0))
    if order.plan is None:
        half: Half = PrefixHalf(passes, order.layout, rope, order.scored, order.similarity)
    else:
        half = SuffixHalf(passes, order.layout, rope, order.plan)

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors_of(half(refilled(order.given, tensors), trace_stage))

    examples = tensors_of(order.given)
    traced = torch.jit.trace(flat, examples, check_trace=False)
    for index, value in enumerate(traced.graph.inputs()):
        value.setDebugName(f"in{index}")
    for index, node in enumerate(traced.graph.nodes()):
        stage = next((name for name in reversed(node.scopeName().split("/")) if name in STAGES), "decoder")
        for place, value in enumerate(node.outputs()):
            name = f"{stage}.{index}.{place}"
            value.setDebugName(name)
            names[name] = stage
    return traced, examples


@contextmanager
def trace_stage(stage: str) -> Iterator[None]:
    """A `StageClock` for tracing: the operations inside belong to `stage`."""
    state = torch._C._get_tracing_state()
    state.push_scope(stage)
    yield
    state.pop_scope()


def _openvino_model(traced: torch.jit.ScriptFunction, examples: tuple[Tensor, ...]):
    # OpenVINO's converter reports its use over the network, unless the module that does it is missing.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino as ov

    model = ov.convert_model(traced, example_input=examples)
    shapes = {f"in{index}": list(example.shape) for index, example in enumerate(examples)}
    for parameter in model.inputs:
        (name,) = parameter.get_names() & shapes.keys()
        parameter.get_node().set_partial_shape(ov.PartialShape(shapes[name]))
    model.validate_nodes_and_infer_types()
    return model


def _serialised(model) -> ConvertedModel:
    import openvino as ov

    with tempfile.TemporaryDirectory(prefix="specprune-") as folder:
        xml = Path(folder, "model.xml")
        ov.serialize(model, xml)
        return ConvertedModel(xml.read_bytes(), xml.with_suffix(".bin").read_bytes())


if __name__ == "__main__":
    sys.exit(main())
