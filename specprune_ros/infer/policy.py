"""`Policy.infer`: from an observation and what the last chunk remembers to an action chunk. The readable heart."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import Config, ConfigError, Pruning
from ..model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from ..model.flops import inference_flop
from ..model.vla import Plan, Trace, reached
from ..prune.budgets import budget, is_dense
from ..prune.frames import patch_similarity
from ..prune.layout import Layout
from ..prune.static import Source
from ..types import (
    ACTION_DIMS,
    ActionChunk,
    BadInput,
    InferenceRequest,
    InferenceResult,
    Mode,
    Motion,
    Observation,
    PolicyMemory,
    PruningReport,
)
from .memory import keep_freed_memory
from .preprocess import image_tensor, to_model

BUNDLED = Path(__file__).resolve().parent.parent / "model" / "bundled"
STAGES = ("preprocess", "vision", "selection", "decoder", "head")


def load_policy(config: Config) -> Policy:
    """The policy that `config.policy` names; CheckpointError or ConfigError says what is wrong with it."""
    settings = config.policy
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 2) // 2))
    folder = Path(settings.checkpoint).expanduser() if settings.checkpoint else BUNDLED
    device = torch.device(_device(settings.device))
    if device.type == "cpu":
        keep_freed_memory()
    policy = Policy(load_checkpoint(folder, device, _dtype(settings.dtype, device)))
    if settings.compile:
        policy.compile()
    return policy


class Policy:
    """A checkpoint ready to act. Use it from one thread: the same for `warm_up` and `infer`."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint, self.model, self.config = checkpoint, checkpoint.model, checkpoint.config
        if self.config.action_dims != ACTION_DIMS:
            raise CheckpointError(
                f"{checkpoint.folder}: predicts {self.config.action_dims} action dimensions; this node commands {ACTION_DIMS}"
            )
        parameter = next(self.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.name = checkpoint.folder.name
        self.view_count = self.config.views
        self.image_size = self.config.image_size
        self.proprio_dims = self.config.proprio_dims
        self.chunk_steps = self.config.chunk_steps
        self.patch_grid = (self.config.grid, self.config.grid)
        self._prompt = lru_cache(maxsize=32)(self._encode_prompt)
        self._rope = lru_cache(maxsize=32)(self._table)

    def compile(self) -> None:
        """Fuse the element-wise work of every decoder layer and vision block; the first passes compile."""
        blocks = [block for tower in self.model.vision_backbone.children() for block in tower.blocks]
        for module in (*self.model.decoder.layers, *blocks):
            module.forward = torch.compile(module.forward, dynamic=True)

    def warm_up(self, config: Config, passes: int = 2) -> None:
        """Run every path once or more on blank frames, so that the first real inference is not the slow one."""
        blank = np.zeros((self.image_size, self.image_size, 3), np.uint8)
        images = (blank,) * self.view_count
        proprio = np.zeros(self.proprio_dims, np.float32) if self.proprio_dims else None
        word = self.checkpoint.prompt.known_instruction()
        observation = Observation(0, images, proprio, word, Motion(0.0, 0.0, 0.0))
        for _ in range(passes):
            memory = None
            for mode in (Mode.FINE, Mode.FINE, Mode.COARSE):
                memory = self.infer(InferenceRequest(0, observation, images, 1, mode, memory), config).memory

    @torch.inference_mode()
    def infer(self, request: InferenceRequest, config: Config) -> InferenceResult:
        """One inference. BadInput when images, proprio or instruction cannot be used."""
        clock = Stopwatch()
        observation, pruning = request.observation, config.pruning
        memory = request.memory if request.memory and request.memory.instruction == observation.instruction else None
        with clock("preprocess"):
            layout, prompt = self._prompt(observation.instruction)
            frames = image_tensor(observation.images, self.view_count, self.image_size).to(self.device)
            pixels = to_model(frames, self.config)
            proprio = self._proprio(observation)
        with clock("vision"):
            visual = self.model.encode(pixels)
        with clock("selection"):
            plan = self._plan(request, pruning, memory, frames)
        with clock("decoder"):
            x = self.model.assemble(visual, proprio, prompt)
            states, trace = self.model.decode(x, self._rope(layout), layout, plan, clock)
        with clock("head"):
            actions = self._actions(self.model.act(states))
        mode = request.mode if plan.budget else Mode.DENSE
        chunk = ActionChunk(request.chunk_id, observation.stamp_ns, actions, mode, observation.instruction)
        report = self._report(request, pruning, plan, trace, layout, mode, clock)
        return InferenceResult(chunk, report, PolicyMemory(trace.salient, observation.instruction, observation.stamp_ns))

    def gflop(self, report: PruningReport) -> float:
        """Analytic cost of the inference that `report` describes."""
        return inference_flop(self.config, report.layer_lengths) / 1e9

    def _plan(self, request: InferenceRequest, pruning: Pruning, memory: PolicyMemory | None, frames: Tensor) -> Plan:
        """Budget and history of this pass; without history the first pass is dense, or local-only if asked for."""
        if is_dense(pruning):
            return Plan(pruning, None, remember=False)
        reuse = memory.salient if memory else None
        static = pruning.static
        if reuse is None and static.enabled and static.first_pass == "dense":
            return Plan(pruning, None, remember=True)
        depth = self.config.decoder.layers
        counts = budget(pruning, request.mode, self.view_count, self.config.patches, depth)
        similarity = None
        if reuse is not None and request.reference_images is not None and static.enabled:
            before = image_tensor(request.reference_images, self.view_count, self.image_size).to(self.device)
            similarity = patch_similarity(frames, before, self.config.towers[0].patch, static.similarity)
        return Plan(pruning, counts, True, reuse, similarity)

    def _encode_prompt(self, instruction: str) -> tuple[Layout, Tensor]:
        prompt = self.checkpoint.prompt.encode(instruction)
        c = self.config
        layout = Layout(c.views, c.patches, int(c.proprio_dims > 0), len(prompt.ids) - 1, prompt.task, c.placeholders)
        return layout, torch.tensor([prompt.ids], device=self.device)

    def _table(self, layout: Layout):
        return self.model.rope(layout.length, torch.empty(0, device=self.device, dtype=self.dtype))

    def _proprio(self, observation: Observation) -> Tensor | None:
        if not self.proprio_dims:
            return None
        raw = observation.proprio
        if raw is None or raw.shape != (self.proprio_dims,):
            found = "none" if raw is None else f"shape {raw.shape}"
            raise BadInput(f"proprio: the policy needs {self.proprio_dims} values, got {found}; check the state topics")
        if not np.isfinite(raw).all():
            raise BadInput(f"proprio {raw.tolist()} has values that are not finite; check the state topics")
        normalised = self.checkpoint.statistics.normalise_proprio(raw)
        return torch.from_numpy(normalised)[None].to(self.device, self.dtype)

    def _actions(self, normalised: Tensor) -> np.ndarray:
        """(1, T, 7) -> (T, 7) float64 action units, within range; the finite check is the executor's."""
        actions = self.checkpoint.statistics.restore_actions(normalised[0].float().cpu().numpy())
        return np.clip(actions, [-1.0] * 6 + [0.0], 1.0)

    def _report(self, request, pruning, plan, trace: Trace, layout: Layout, mode, clock) -> PruningReport:
        bits = reached(trace, layout).cpu().numpy()
        views = bits.reshape(layout.views, layout.patches)

        def per_view(flag: Source) -> tuple[int, ...]:
            return tuple(int(count) for count in ((views & int(flag)) > 0).sum(axis=1))

        return PruningReport(
            mode=mode,
            aggressiveness=pruning.aggressiveness,
            tokens_total=layout.visual,
            tokens_kept=trace.kept.numel(),
            total_per_view=(layout.patches,) * layout.views,
            kept_static_per_view=per_view(Source.AFTER_STATIC),
            kept_dynamic_per_view=per_view(Source.LAST_LAYER),
            from_global_per_view=per_view(Source.GLOBAL),
            from_dynamic_per_view=per_view(Source.DYNAMIC),
            from_local_per_view=per_view(Source.LOCAL),
            from_fill_per_view=per_view(Source.FILL),
            frame_offset=request.frame_offset if plan.similarity is not None else 0,
            reused_global=plan.reuse is not None,
            stage_ms=clock.milliseconds(),
            layer_lengths=tuple(trace.lengths),
            kept=bits,
        )


class Stopwatch:
    """Wall time per stage; a stage entered inside another is taken out of the outer one."""

    def __init__(self):
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.began = time.perf_counter()
        self.inner = 0.0

    @contextmanager
    def __call__(self, stage: str):
        start, before = time.perf_counter(), self.inner
        self.inner = 0.0
        yield
        spent = time.perf_counter() - start
        self.seconds[stage] += spent - self.inner
        self.inner = before + spent

    def milliseconds(self) -> dict[str, float]:
        stages = {stage: 1e3 * seconds for stage, seconds in self.seconds.items()}
        return {**stages, "total": 1e3 * (time.perf_counter() - self.began)}


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("policy.device: 'cuda' was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")
    return name


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """bf16 where the arithmetic units take it; elsewhere it would be emulated and slow."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" or fast_bf16_cpu() else "fp32"
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[name]


def fast_bf16_cpu() -> bool:
    """Whether this CPU multiplies bf16 natively (AVX512-BF16 or AMX)."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
