"""A stand-in for CUDA graphs: traces halves of inferences to fixed graphs of tensor operations and replays those.

Like a CUDA graph it knows nothing but its buffers, so a value that was read on the host while recording shows as a
wrong result.
"""

from torch.fx.experimental.proxy_tensor import make_fx

from specprune_ros.infer.clock import Stopwatch
from specprune_ros.infer.records import refilled, tensors_of


class Recorder:
    """Stands in for CUDA graphs: `fails` recordings go wrong."""

    name, from_cameras, background, dtype, most_suffixes = "graph", True, False, None, 48

    def __init__(self, fails=0):
        self.recorded, self.fails, self.replays = 0, fails, 0

    def __call__(self, half, given):
        if self.fails:
            self.fails -= 1
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.recorded += 1
        return Recording(self, half, given)

    def release(self):
        """Nothing to let go of."""


class Recording:
    def __init__(self, recorder, half, given):
        self.recorder, self.given, self.clock = recorder, given, Stopwatch()
        record = half(given, self.clock)
        flat = lambda *tensors: tensors_of(half(refilled(given, tensors), self.clock))  # noqa: E731
        self.graph = make_fx(flat)(*tensors_of(given))
        self.outputs = refilled(record, [tensor.clone() for tensor in tensors_of(record)])

    def replay(self):
        self.recorder.replays += 1
        for output, value in zip(tensors_of(self.outputs), self.graph(*tensors_of(self.given)), strict=True):
            output.copy_(value)

    def spent(self):
        return self.clock
