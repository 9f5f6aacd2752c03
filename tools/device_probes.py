"""What a first run on a GPU must tell besides the benchmark: `python tools/device_probes.py --json FILE`.

Without --profile:
- attention: each backend at the decoder's lengths: its first call, where a plan may be built, its time, its error;
- engine: whether a replayed inference equals the same one op by op, whether one waits for the host on its way, and how
  long one capture in an idle moment stops the inference thread;
- staircase: time of a decoder layer's four products by rows, in bf16 and in FP8: where fewer rows stop helping.
With --profile: one replayed inference under the profiler, time on the device and calls by kernel.

`--scale tiny` runs the same on a CPU, as a rehearsal: its numbers mean nothing. Every probe is written to the file as
soon as it is there, and one that fails is written down with its error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from specprune_ros.bench.gpu import gpu_state, seconds_of, synchronise
from specprune_ros.bench.model_rows import CAMERA_PIXELS, OBSERVATIONS, frames, place
from specprune_ros.config import Config
from specprune_ros.eval.results import write_json
from specprune_ros.infer.policy import Policy
from specprune_ros.model.synthetic import SCALES, random_checkpoint
from specprune_ros.types import InferenceRequest, InferenceResult, Mode, PolicyMemory

FRAME_OFFSET = 11
REPEATS = {"cuda": 20, "cpu": 1}
BACKENDS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
ATTENTION = {"full": ((605, 605), (269, 269), (208, 208), (208, 56)), "tiny": ((64, 64),)}
"""(rows attended to, rows that attend): dense, after the static pruning at 0.5, at the end, and the action tokens."""
PRODUCTS = {
    "full": {"qkv": (12288, 4096), "o": (4096, 4096), "gate_up": (22016, 4096), "down": (4096, 11008)},
    "tiny": {"o": (256, 256)},
}
"""Name -> (columns, depth) of a decoder layer's products."""
ROWS = {"full": range(64, 641, 16), "tiny": (64, 128)}
ROTATED_BYTES = 2**28
"""Weights of one product in all: more than the caches hold, so that they stream from memory as in the model."""
CHANGED_LEVEL, PASSES, MOST_KERNELS = 0.63, 6, 60


class Probes:
    """One method a probe; each returns what goes into the JSON."""

    def __init__(self, scale: str):
        self.scale, self.config = scale, Config()
        self.device, self.dtype = place(self.config, scale)
        self.on_gpu = self.device.type == "cuda"
        self._policies: dict[str, Policy] = {}

    def attention(self) -> dict[str, object]:
        """Backend and lengths -> first call [ms], one call [us], error relative to float64. Strides as in the decoder,
        whose queries, keys and values are one product's."""
        found: dict[str, object] = {}
        heads, width = 32, 128
        for length, rows in ATTENTION[self.scale]:
            qkv = torch.randn(1, length, 3 * heads, width, device=self.device).to(self.dtype).transpose(1, 2)
            q, k, v = qkv[:, :heads, :rows], qkv[:, heads : 2 * heads], qkv[:, 2 * heads :]
            exact = F.scaled_dot_product_attention(*(part.double().cpu() for part in (q, k, v)))
            for backend in (None, *(BACKENDS if self.on_gpu else ())):
                name = f"{rows} of {length}, {backend.name.lower() if backend else 'as chosen by torch'}"
                with sdpa_kernel(backend) if backend else contextlib.nullcontext():
                    found[name] = self._attended(q, k, v, exact)
        return found

    def _attended(self, q, k, v, exact) -> dict[str, float]:
        synchronise(self.device)
        began_s = time.perf_counter()
        out = F.scaled_dot_product_attention(q, k, v)
        synchronise(self.device)
        first_ms = 1e3 * (time.perf_counter() - began_s)
        error = float((out.double().cpu() - exact).norm() / exact.norm())
        call_s = seconds_of(lambda: F.scaled_dot_product_attention(q, k, v), self.device, REPEATS[self.device.type])
        return {"first_ms": round(first_ms, 2), "us": round(1e6 * call_s, 2), "error": error}

    def engine(self) -> dict[str, object]:
        """Replayed against op by op, over passes that remember each other."""
        policies, found = self._ready(), {"engines": list(self._policies)}
        fastest = policies[list(policies)[-1]]
        found["state"] = fastest.engine_state
        memories: dict[str, PolicyMemory | None] = dict.fromkeys(policies)
        worst, same = 0.0, True
        for index in range(PASSES):
            results = {name: self._infer(policy, index, memories[name]) for name, policy in policies.items()}
            memories = {name: result.memory for name, result in results.items()}
            eager, other = results["eager"], results[list(policies)[-1]]
            worst = max(worst, float(abs(eager.chunk.actions - other.chunk.actions).max()))
            same &= bool((eager.report.kept == other.report.kept).all())
        found |= {"ran": fastest.ran, "largest_difference_of_actions": worst, "kept_the_same_tokens": same}
        if self.on_gpu:
            found["waits_for_the_host"] = self._waits(memories["eager"])
        return found | self._captures(fastest, memories[list(policies)[-1]])

    def _ready(self) -> dict[str, Policy]:
        if not self._policies:
            checkpoint = random_checkpoint(SCALES[self.scale], self.device, self.dtype)
            self._frames = frames(checkpoint)
            for engine in ("eager", "graph") if self.on_gpu else ("eager",):
                self._policies[engine] = Policy(checkpoint, engine=engine)
                self._policies[engine].warm_up(self.config, image_size=(CAMERA_PIXELS, CAMERA_PIXELS))
                self._policies[engine].settle()
        return self._policies

    def _request(self, index: int, memory: PolicyMemory | None, config: Config) -> InferenceRequest:
        now, before = (self._frames[i % OBSERVATIONS] for i in (index, index - 1))
        return InferenceRequest(0, now, before.images, FRAME_OFFSET, Mode.COARSE, memory, config.pruning)

    def _infer(self, policy: Policy, index: int, memory: PolicyMemory | None) -> InferenceResult:
        return policy.infer(self._request(index, memory, self.config))

    def _waits(self, memory: PolicyMemory | None) -> str:
        """Where the first wait for the host between frames and outputs is; empty when there is none."""
        policy = self._policies["eager"]
        with torch.inference_mode():
            work = policy._work(self._request(1, memory, self.config), memory)
            torch.cuda.set_sync_debug_mode("error")
            try:
                policy.engine.run(*work)
            except RuntimeError:
                return traceback.format_exc()[-600:]
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return ""

    def _captures(self, policy: Policy, memory: PolicyMemory | None) -> dict[str, object]:
        """The first inference at a level that nothing was made for, and how long each idle moment after it takes."""
        changed = self.config.updated({"pruning.aggressiveness": CHANGED_LEVEL})
        began_s = time.perf_counter()
        policy.infer(self._request(1, memory, changed))
        first_ms, moments_ms = 1e3 * (time.perf_counter() - began_s), []
        while policy.pending:
            began_s = time.perf_counter()
            policy.idle()
            moments_ms.append(round(1e3 * (time.perf_counter() - began_s), 1))
        return {"first_inference_at_a_new_level_ms": round(first_ms, 1), "captures_ms": moments_ms}

    @torch.no_grad()
    def staircase(self) -> dict[str, dict[str, float]]:
        """Product and format -> rows -> time of one call [us]."""
        found: dict[str, dict[str, float]] = {}
        for name, (columns, depth) in PRODUCTS[self.scale].items():
            for form, product in self._products(columns, depth):
                times = {}
                for rows in ROWS[self.scale]:
                    x = torch.randn(rows, depth, device=self.device).to(self.dtype)
                    call_s = seconds_of(product(x), self.device, REPEATS[self.device.type])
                    times[str(rows)] = round(1e6 * call_s, 2)
                found[f"{name} {form}"] = times
        return found

    def _products(self, columns: int, depth: int) -> Iterator[tuple[str, Callable]]:
        """Format, and a function that makes the call to be timed from (rows, depth) in the model's arithmetic."""
        copies = max(2, min(12, ROTATED_BYTES // (self.dtype.itemsize * columns * depth))) if self.on_gpu else 1
        weights = [torch.randn(columns, depth, device=self.device).to(self.dtype) for _ in range(copies)]
        turn = iter(range(1 << 62))

        def plain(x):
            return lambda: F.linear(x, weights[next(turn) % copies])

        yield str(self.dtype).removeprefix("torch."), plain
        if not self.on_gpu or torch.cuda.get_device_capability(self.device) < (8, 9):
            return
        eighths = [(w.to(torch.float8_e4m3fn), torch.rand(1, columns, device=self.device)) for w in weights]

        def row_wise(x):
            short, scale = x.to(torch.float8_e4m3fn), torch.rand(x.shape[0], 1, device=self.device)

            def call():
                w, scales = eighths[next(turn) % copies]
                return torch._scaled_mm(
                    short, w.t(), scale_a=scale, scale_b=scales, out_dtype=torch.bfloat16, use_fast_accum=True
                )

            return call

        yield "fp8 row-wise", row_wise

    def kernels(self) -> list[dict[str, object]]:
        """The kernels of one inference that take longest: time on the device [us] and calls."""
        from torch.profiler import ProfilerActivity, profile

        policy = list(self._ready().values())[-1]
        memory = None
        for index in range(3):
            memory = self._infer(policy, index, memory).memory
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_gpu else [])]
        with profile(activities=kinds) as trace:
            self._infer(policy, 3, memory)
            synchronise(self.device)

        def spent_us(event) -> float:
            return event.self_device_time_total if self.on_gpu else event.self_cpu_time_total

        longest = sorted(trace.key_averages(), key=spent_us, reverse=True)[:MOST_KERNELS]
        return [{"name": event.key[:120], "us": round(spent_us(event), 1), "calls": event.count} for event in longest]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", choices=sorted(SCALES), default="full")
    parser.add_argument("--profile", action="store_true", help="the profile instead of the probes")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(arguments)
    probes = Probes(args.scale)
    found: dict[str, object] = {
        "scale": args.scale,
        "device": torch.cuda.get_device_name(probes.device) if probes.on_gpu else "cpu",
        "torch": torch.__version__,
        "gpu_state": gpu_state(probes.device),
    }
    failed = 0
    for probe in (probes.kernels,) if args.profile else (probes.attention, probes.engine, probes.staircase):
        began_s = time.monotonic()
        try:
            found[probe.__name__] = probe()
        except Exception:  # the others are still worth their time
            failed += 1
            found[probe.__name__] = {"failed": traceback.format_exc()[-1500:]}
        text = json.dumps(found[probe.__name__])
        print(f"{probe.__name__}, {time.monotonic() - began_s:.1f} s: {text[:600]}", flush=True)
        write_json(args.json, found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
