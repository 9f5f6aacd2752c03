"""Recorded inference requests: what the benchmark replays.

The expert drives while the control loop asks for inferences as it would on the robot, so that frames, motion,
reference frames and modes are those of real movement, and no policy is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.eval.rollout import START_NS, observe
from specprune_ros.types import ACTION_DIMS, ActionChunk, InferenceRequest, InferenceResult, PolicyMemory


def record(config: Config, policy, count: int, seed0: int) -> list[InferenceRequest]:
    """Requests of whole episodes until `count` of them have a memory (the first of an episode has none)."""
    from specprune_ros.sim.env import TabletopEnv

    requests: list[InferenceRequest] = []
    with TabletopEnv(image_size=policy.image_size, control_rate=config.control.rate) as env:
        for seed in range(seed0, seed0 + count):
            for request in _episode(env, config, policy, seed):
                requests.append(request)
                if sum(request.memory is not None for request in requests) == count:
                    return requests
    raise RuntimeError(f"{count} episodes gave only {len(requests)} inferences; does the expert move?")


def _episode(env, config: Config, policy, seed: int) -> Iterator[InferenceRequest]:
    from specprune_ros.sim.expert import expert_action

    loop = ControlLoop(config, policy.view_count, policy.chunk_steps, policy.proprio_dims)
    loop.set_instruction(env.reset(seed))
    period_ns = round(1e9 / config.control.rate)
    for now_ns in range(START_NS, START_NS + env.max_steps * period_ns, period_ns):
        observe(loop, env, now_ns)
        loop.tick(now_ns)
        if request := loop.request(now_ns):
            yield request
            loop.accept(_answer(request, policy.chunk_steps), now_ns)
        env.step(expert_action(env.state(), env.period_s))
        if env.success():
            return


def _answer(request: InferenceRequest, chunk_steps: int) -> InferenceResult:
    """A chunk that nobody executes: it only makes the loop ask again when a real one would have run out."""
    seen = request.observation
    still = np.zeros((chunk_steps, ACTION_DIMS))
    chunk = ActionChunk(request.chunk_id, seen.stamp_ns, still, request.mode, seen.instruction)
    memory = PolicyMemory(None, seen.instruction, seen.stamp_ns)
    return InferenceResult(request, chunk, report=None, memory=memory)
