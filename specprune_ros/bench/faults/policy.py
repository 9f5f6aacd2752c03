"""A policy without a model: starts at once and does what the instruction says. Loaded by the process of the model as
FACTORY says.

A small motion: "move"; the opposite one: "back"; none: "still"; with an open gripper: "open"; numbers far out of
range, different in every step: "wild". What a broken model does: "slow" takes 1.5 s; "babble" writes 20,000 records
to the log; "hang" and "gil" never answer, the second with the interpreter blocked; "raise", "oom" raise; "nan",
"short" answer nonsense; "segv", "exit", "kill" end the process; "stop" stops it; "idle" answers, and then fails in
its idle work. What a broken load does: the environment variable SPECPRUNE_SCRIPTED_LOAD names it: "slow", "hang",
"segv", "exit", "raise" (an error nobody has thought of), "torch" (no such module), "refuse" (a CheckpointError),
"making" (for half a second something is still made fast); or a file that holds such a word."""

import ctypes
import importlib
import logging
import os
import resource
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from specprune_ros.model.errors import CheckpointError
from specprune_ros.types import ActionChunk, EngineState, InferenceResult, PolicyMemory, PruningReport

log = logging.getLogger(__name__)

FACTORY = "specprune_ros.bench.faults.policy:load"
MOTION = (0.2, 0.0, -0.1, 0.0, 0.0, 0.3)
GRIPPER = 0.25


def load(config):
    word = os.environ.get("SPECPRUNE_SCRIPTED_LOAD", "")
    if word.startswith("/"):
        word = Path(word).read_text().strip()
    if word == "refuse":
        raise CheckpointError("model.safetensors: checksum\n  does not match")
    if word == "torch":
        importlib.import_module("no_such_torch")
    misbehave(word)
    policy = ScriptedPolicy(config.policy.views or 2)
    if word == "making":
        made = policy.engine
        policy.engine = replace(made, making=2)
        threading.Timer(0.5, lambda: setattr(policy, "engine", made)).start()
    return policy


def misbehave(how):
    """What broken models do besides answering nonsense."""
    if how == "raise":
        raise RuntimeError("the model broke")
    if how == "babble":
        for number in range(20_000):
            log.warning("record %d", number)
    if how == "slow":
        time.sleep(1.5)
    if how == "hang":
        time.sleep(3600)
    while how == "gil":  # a signal interrupts it
        ctypes.PyDLL(None).sleep(3600)
    if how == "segv":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(3)
    if how in ("kill", "stop"):
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[how])
    if how == "oom":
        allocate_more_than_there_is()


def allocate_more_than_there_is():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, before[1]))
    try:
        bytearray(1 << 33)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class ScriptedPolicy:
    name = "scripted"
    proprio_dims = 8
    chunk_steps = 8
    patch_grid = (16, 16)

    def __init__(self, view_count):
        self.view_count = view_count
        self.engine = EngineState("scripted")
        self._task = ""

    def idle(self):
        if self._task == "idle":
            raise RuntimeError("idle work broke")
        return False

    def infer(self, request):
        self._task = task = request.observation.instruction
        misbehave(task)
        actions = self._actions(task, request.chunk_id, request.observation.proprio[0])
        stamp_ns = request.observation.stamp_ns
        chunk = ActionChunk(request.chunk_id, stamp_ns, actions, request.mode, task)
        return InferenceResult(request, chunk, self._report(request), PolicyMemory("seen", task, stamp_ns))

    def _actions(self, task, seed, x):
        """x: where the arm is [m]; it turns round before it reaches a wall of the box."""
        if task == "still":
            return np.tile([*[0.0] * 6, GRIPPER], (self.chunk_steps, 1))
        if task == "wild":
            return np.random.default_rng(seed).normal(0.0, 20.0, (self.chunk_steps, 7))
        sign = (-1 if x > 0.3 else 1) if task == "back" else (1 if x < 0.65 else -1)
        motion = sign * np.array(MOTION)
        value = {"nan": float("nan"), "open": 1.0}.get(task, GRIPPER)
        return np.tile([*motion, value], (self.chunk_steps - (task == "short"), 1))

    def _report(self, request):
        views, total = self.view_count, 256 * self.view_count
        kept = np.zeros(total, np.uint8)
        count = round(total * (1.0 - 0.5 * request.pruning.aggressiveness))
        kept[:count] = 16 | 32 | 4
        per_view = tuple(np.count_nonzero(kept.reshape(views, 256), axis=1).tolist())
        none = (0,) * views
        return PruningReport(
            mode=request.mode,
            aggressiveness=request.pruning.aggressiveness,
            tokens_total=total,
            tokens_kept=count,
            total_per_view=(256,) * views,
            kept_static_per_view=per_view,
            kept_dynamic_per_view=per_view,
            from_global_per_view=none,
            from_dynamic_per_view=none,
            from_local_per_view=per_view,
            from_fill_per_view=none,
            frame_offset=request.frame_offset,
            used_last_attention=request.memory is not None,
            stage_ms={"total": 1.0},
            layer_lengths=(),
            kept=kept,
        )
