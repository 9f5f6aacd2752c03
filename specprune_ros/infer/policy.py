"""`Policy.infer`: from an observation and what the last chunk remembers to an action chunk. The readable heart."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from specprune_ros.config import PRESETS, ActionScale, Config, Pruning
from specprune_ros.infer.engines import make_engine
from specprune_ros.infer.passes import Passes, PassInputs
from specprune_ros.infer.preprocess import upload
from specprune_ros.infer.staircase import MachineStaircase
from specprune_ros.model.attention import choose_attention
from specprune_ros.model.checkpoint import Checkpoint
from specprune_ros.model.demands import check_dimensions
from specprune_ros.model.flops import inference_flop
from specprune_ros.model.units import action_units
from specprune_ros.model.vla import Plan, Vla
from specprune_ros.prune.budgets import SPECPRUNE, Budget, budget, is_dense
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.staircase import snapped_budget
from specprune_ros.prune.strategies.registry import STRATEGIES
from specprune_ros.types import (
    STAGES,
    ActionChunk,
    BadInput,
    InferenceRequest,
    InferenceResult,
    Mode,
    Motion,
    Observation,
    PolicyMemory,
    PruningReport,
    Source,
)

PRESET_LEVELS = tuple(values["pruning.aggressiveness"] for values in PRESETS.values())
AS_PRESETS = {name: PRESETS["paper"][f"pruning.{name}"] for name in ("strategy", "keep")}
"""What every preset sets alike, besides the switches."""

SETTLE_S = 600.0
MOST_PROMPTS = 32
"""Instructions whose tokens are kept on the device."""


class Policy:
    """A checkpoint ready to act. Use it from one thread: the same for `warm_up`, `infer` and `idle`."""

    def __init__(
        self, checkpoint: Checkpoint, engine: str = "auto", cache_dir: str = "", scale: ActionScale | None = None
    ):
        """scale: the robot's action units, into which actions in metres are converted (`model.units`)."""
        self.checkpoint, self.model, self.config = checkpoint, checkpoint.model, checkpoint.config
        check_dimensions(self.config, checkpoint.folder)
        parameter = next(self.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.name = checkpoint.name
        self.view_count = self.config.views
        self.image_size = self.config.image_size
        self.proprio_dims = self.config.proprio_dims
        self.chunk_steps = self.config.chunk_steps
        self.patch_grid = (self.config.grid, self.config.grid)
        widths = (*(tower.width // tower.heads for tower in self.config.towers), self.config.decoder.head_dim)
        self.attention = choose_attention(self.device, self.dtype, widths)
        self.engine = make_engine(engine, Passes(self.model), self.device, cache_dir)
        self.machine = MachineStaircase(self.model.decoder, cache_dir)
        """What `pruning.budget: machine` knows; measured by `warm_up` or `idle`, never within an inference."""
        self._scale = scale or ActionScale()
        self._prompts: dict[str, tuple[Layout, Tensor]] = {}
        self._expected: tuple | None = None
        self.levels_ahead = PRESET_LEVELS
        """Aggressiveness that may be asked for next: such inferences are made fast ahead of time."""

    def compile(self) -> None:
        """Fuse the element-wise work of every decoder layer, of its scores and of every vision block; the first passes
        compile."""
        for name in ("scored", "folded"):
            setattr(self.model, name, torch.compile(getattr(Vla, name), dynamic=True))
        blocks = [block for tower in self.model.vision_backbone.children() for block in tower.blocks]
        for module in (*self.model.decoder.layers, *blocks):
            module.forward = torch.compile(module.forward, dynamic=True)

    @torch.inference_mode()
    def warm_up(self, config: Config, passes: int = 2, image_size: tuple[int, int] | None = None) -> None:
        """Run every path once or more on blank frames of `image_size` (height, width), and capture what is to be
        captured, so that the first real inference is not the slow one."""
        blank = np.zeros((*(image_size or (self.image_size, self.image_size)), 3), np.uint8)
        images = (blank,) * self.view_count
        proprio = np.zeros(self.proprio_dims, np.float32) if self.proprio_dims else None
        word = config.instruction or self.checkpoint.prompt.known_instruction()
        observation = Observation(0, images, proprio, word, Motion(0.0, 0.0, 0.0))
        if config.pruning.budget == "machine" and not is_dense(config.pruning):
            self.machine.want(config.pruning, self._prompt(word)[0])
            self.machine.finish()  # before anything else is busy
        for _ in range(passes):
            memory = None
            for mode in (Mode.FINE, Mode.FINE, Mode.COARSE):
                request = InferenceRequest(0, observation, images, 1, mode, memory, config.pruning)
                self.engine.prepare(*self._work(request, memory))
                memory = self.infer(request).memory

    @torch.inference_mode()
    def infer(self, request: InferenceRequest) -> InferenceResult:
        """One inference. BadInput when images, proprio or instruction cannot be used."""
        began = time.perf_counter()
        observation = request.observation
        memory = request.memory if request.memory and request.memory.instruction == observation.instruction else None
        inputs, layout, plan = self._work(request, memory)
        self._expect(inputs, layout, request.pruning)
        uploaded = time.perf_counter()
        outputs, spent = self.engine.run(inputs, layout, plan)
        actions = self._actions(outputs.actions)
        bits = outputs.bits.cpu().numpy()
        spent_ms = {**spent.milliseconds(), "total": 1e3 * (time.perf_counter() - began)}
        spent_ms["preprocess"] += 1e3 * (uploaded - began)
        report = self._report(request, plan, inputs, layout, bits, spent_ms)
        chunk = ActionChunk(request.chunk_id, observation.stamp_ns, actions, report.mode, observation.instruction)
        kept = PolicyMemory(outputs.last_attention, observation.instruction, observation.stamp_ns)
        return InferenceResult(request, chunk, report, kept)

    @torch.inference_mode()
    def idle(self) -> bool:
        """Use a moment without a request to get a bit of later work ready; False when there is none left."""
        if self.machine.pending and not self.engine.making:
            self.machine.advance()
            return True
        return self.engine.idle()

    def settle(self, timeout_s: float = SETTLE_S) -> bool:
        """Wait until inferences of every expected kind run as fast as they will; False when that took too long."""
        self.machine.finish()
        return self.engine.settle(timeout_s)

    @property
    def pending(self) -> int:
        """How many things `idle` has still to get ready, each of which stops inferences for a moment: wait before
        moving.

        What is made beside the inferences does not count: they work at once, only slower.
        """
        return self.engine.pending + self.machine.pending

    @property
    def ran(self) -> str:
        """The engine that really ran the last inference: `eager` while there is no graph for its kind."""
        return self.engine.ran

    @property
    def engine_state(self) -> str:
        """Which engine runs, what is still being made for it, and what went wrong with it."""
        return self.engine.state

    def _expect(self, inputs: PassInputs, layout: Layout, pruning: Pruning) -> None:
        """What may come next with these cameras and these words: either mode, as it is set now or as by a preset."""
        given = (layout, pruning, tuple(frame.shape for frame in inputs.frames))
        if is_dense(pruning) or not self.engine.captures or given == self._expected:
            return
        if pruning.budget == "machine" and self.machine.pending:
            return  # the counts that will come are not known yet
        self._expected = given
        ahead = (replace(pruning, **AS_PRESETS, aggressiveness=level) for level in self.levels_ahead)
        for tuned in dict.fromkeys((pruning, *ahead)):
            for mode in (Mode.FINE, Mode.COARSE):
                self.engine.expect(inputs, layout, self._pruned(mode, tuned, layout))

    def knows(self, instruction: str) -> bool:
        """Whether the tokenizer has all the words of an instruction, and room for them."""
        try:
            self._prompt(instruction)
        except BadInput:
            return False
        return True

    def gflop(self, report: PruningReport) -> float:
        """Analytic cost of the inference that `report` describes."""
        return inference_flop(self.config, report.layer_lengths) / 1e9

    def _work(self, request: InferenceRequest, memory: PolicyMemory | None) -> tuple[PassInputs, Layout, Plan]:
        """What the engine is to do; everything that can be wrong with a request is found here."""
        layout, prompt = self._prompt(request.observation.instruction)
        frames = upload(request.observation.images, self.view_count, self.device)
        proprio = self._proprio(request.observation)
        plan = self._plan(request.mode, request.pruning, memory, layout)
        uses = plan.budget is not None and STRATEGIES[plan.strategy].remembers
        last_attention = memory.last_attention if memory and uses else None
        reference = None
        if last_attention is not None and plan.static.enabled and request.reference_images is not None:
            reference = upload(request.reference_images, self.view_count, self.device)
        noise = self._noise(request, layout) if plan.budget and STRATEGIES[plan.strategy].noisy else None
        return PassInputs(frames, prompt, proprio, reference, last_attention, noise), layout, plan

    def _plan(self, mode: Mode, pruning: Pruning, memory: PolicyMemory | None, layout: Layout) -> Plan:
        """The token budget; without history the first pass is dense, or local-only if asked for."""
        static, dynamic = pruning.static, pruning.dynamic
        if is_dense(pruning):
            return Plan(static, dynamic, None, remember=False)
        remembers = STRATEGIES[pruning.strategy].remembers
        remembered = memory is not None and (memory.last_attention is not None or not remembers)
        if not remembered and static.enabled and static.first_pass == "dense":
            # Where nothing is remembered it is the dense model's own plan, so that they share a graph.
            return Plan(static, dynamic, None, remembers, pruning.strategy if remembers else SPECPRUNE)
        return self._pruned(mode, pruning, layout)

    def _pruned(self, mode: Mode, pruning: Pruning, layout: Layout) -> Plan:
        remembers = STRATEGIES[pruning.strategy].remembers
        counts = self._counts(mode, pruning, layout)
        return Plan(pruning.static, pruning.dynamic, counts, remembers, pruning.strategy)

    def _counts(self, mode: Mode, pruning: Pruning, layout: Layout) -> Budget:
        """The paper's counts, or what they come to on this machine once that is known."""
        counts = budget(pruning, mode, self.view_count, self.config.patches, self.config.decoder.layers)
        if pruning.budget == "paper":
            return counts
        self.machine.want(pruning, layout)
        staircase = self.machine.staircase
        return counts if staircase is None else snapped_budget(counts, pruning, layout, staircase)

    def _noise(self, request: InferenceRequest, layout: Layout) -> Tensor:
        """(V, N) int32: an order of the visual tokens, drawn anew for every chunk and alike for equal seeds."""
        seed = (request.pruning.random_seed, abs(request.chunk_id))
        order = np.random.default_rng(seed).permutation(layout.visual).astype(np.int32)
        return self._sent(torch.from_numpy(order).view(layout.views, layout.patches))

    def _prompt(self, instruction: str) -> tuple[Layout, Tensor]:
        """Layout and token ids of an instruction. Those of the latest instructions are cached."""
        if instruction not in self._prompts:
            if len(self._prompts) >= MOST_PROMPTS:
                self._prompts.clear()
            self._prompts[instruction] = self._encode_prompt(instruction)
        return self._prompts[instruction]

    def _encode_prompt(self, instruction: str) -> tuple[Layout, Tensor]:
        prompt = self.checkpoint.prompt.encode(instruction)
        c = self.config
        layout = Layout(c.views, c.patches, int(c.proprio_dims > 0), len(prompt.ids) - 1, prompt.task, c.placeholders)
        return layout, torch.tensor([prompt.ids], device=self.device)

    def _proprio(self, observation: Observation) -> Tensor | None:
        if not self.proprio_dims:
            return None
        raw = observation.proprio
        if raw is None or raw.shape != (self.proprio_dims,):
            found = "none" if raw is None else f"shape {raw.shape}"
            raise BadInput(f"proprio: the policy needs {self.proprio_dims} values, got {found}; check the state topics")
        if not np.isfinite(raw).all():
            raise BadInput(f"proprio {raw.tolist()} has values that are not finite; check the state topics")
        normalised = torch.from_numpy(self.checkpoint.statistics.normalise_proprio(raw))[None].to(self.dtype)
        return self._sent(normalised)

    def _sent(self, values: Tensor) -> Tensor:
        """On the model's device; to a GPU from page-locked memory, so that the copy is not waited for."""
        if self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)

    def _actions(self, normalised: Tensor) -> np.ndarray:
        """(1, T, 7) -> (T, 7) float64 action units; whether they are finite and in range, the control loop judges."""
        actions = self.checkpoint.statistics.restore_actions(normalised[0].float().cpu().numpy())
        return action_units(actions, self._scale, self.config.action_units)

    def _report(self, request, plan: Plan, inputs: PassInputs, layout, bits, spent_ms) -> PruningReport:
        views = bits.reshape(self.view_count, self.config.patches)

        def per_view(flag: Source) -> tuple[int, ...]:
            return tuple(int(count) for count in ((views & int(flag)) > 0).sum(axis=1))

        kept = per_view(Source.LAST_LAYER)
        return PruningReport(
            mode=request.mode if plan.budget else Mode.DENSE,
            aggressiveness=request.pruning.aggressiveness,
            tokens_total=bits.size,
            tokens_kept=sum(kept),
            total_per_view=(self.config.patches,) * self.view_count,
            kept_static_per_view=per_view(Source.AFTER_STATIC),
            kept_dynamic_per_view=kept,
            from_global_per_view=per_view(Source.GLOBAL),
            from_dynamic_per_view=per_view(Source.DYNAMIC),
            from_local_per_view=per_view(Source.LOCAL),
            from_fill_per_view=per_view(Source.FILL),
            frame_offset=request.frame_offset if inputs.reference is not None else 0,
            used_last_attention=inputs.last_attention is not None and plan.static.enabled,
            stage_ms={stage: spent_ms[stage] for stage in (*STAGES, "total")},
            layer_lengths=plan.layer_lengths(layout, self.config.decoder.layers),
            kept=bits,
        )
