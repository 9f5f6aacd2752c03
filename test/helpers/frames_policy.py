"""A policy whose actions are what it saw of its images: [sum, height, width, channels] of each. Loaded as
`frames_policy:load`."""

import logging
import os
from pathlib import Path

import numpy as np

from specprune_ros.types import ActionChunk, BadInput, EngineState, InferenceResult, PolicyMemory


def load(config):
    log = logging.getLogger("specprune_ros.frames")
    log.info("loading %d %%", 50)
    log.warning("this machine is slow")
    log.debug("nobody reads this")
    return FramesPolicy()


class FramesPolicy:
    view_count, chunk_steps, proprio_dims, patch_grid = 2, 8, 0, (1, 1)
    engine = EngineState("none")

    def __init__(self):
        path = os.environ.get("FRAMES_POLICY_NAME")
        self.name = Path(path).read_text() if path else "frames"

    def idle(self):
        return False

    def infer(self, request):
        observation = request.observation
        if observation.instruction == "bad input":
            raise BadInput("these words\n are not known")
        seen = (*observation.images, *(request.reference_images or ()))
        assert all(not frame.flags.writeable for frame in seen)
        actions = np.array([[int(frame.astype(np.int64).sum()), *frame.shape] for frame in seen])
        chunk = ActionChunk(request.chunk_id, observation.stamp_ns, actions, request.mode, observation.instruction)
        return InferenceResult(request, chunk, None, PolicyMemory(None, observation.instruction, observation.stamp_ns))
