"""A control loop with one camera and an arm, fed by hand, for tests."""

import numpy as np

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.types import (
    ActionChunk,
    EndEffector,
    Hold,
    InferenceResult,
    PolicyMemory,
)

PERIOD = 50_000_000
IMAGE = np.zeros((4, 4, 3), np.uint8)
CONFIG = Config(instruction="pick up the red cube")


class Rig:
    """A loop with a clock, cameras, an arm and a policy of a chosen latency, all under the test's control."""

    def __init__(self, config=CONFIG, **changes):
        self.loop = ControlLoop(config.updated({"control.lead_steps": 2, **changes}), view_count=2, chunk_steps=8)
        self.now = 10**12
        self.position = np.array([0.5, 0.0, 0.3])
        self.turn = np.array([0.0, 0.0, 0.0, 1.0])

    def see(self, images=(IMAGE, IMAGE)):
        self.loop.set_frame(self.now, images)

    def feel(self, move=(0, 0, 0)):
        """The arm moved by `move` action units."""
        self.position = self.position + 0.05 * np.asarray(move, float)
        self.loop.set_state(EndEffector(self.now, self.position, self.turn), np.zeros(8, np.float32))

    def sense(self, move=(0, 0, 0)):
        self.see()
        self.feel(move)

    def tick(self):
        return self.loop.tick(self.now)

    def request(self):
        return self.loop.request(self.now)

    def accept(self, request, value=0.1):
        return self.loop.accept(result(request, value), self.now)

    def wait(self, periods=1):
        self.now += periods * PERIOD

    def step(self, move=(0, 0, 0)):
        """One period without inference."""
        self.wait()
        self.sense(move)
        return self.tick()

    def run_first_chunk(self):
        self.sense()
        assert self.accept(self.request())
        return self.tick()


def result(request, value=0.1):
    observation = request.observation
    actions = np.full((8, 7), value)
    chunk = ActionChunk(request.chunk_id, observation.stamp_ns, actions, request.mode, observation.instruction)
    memory = PolicyMemory(f"last_attention {request.chunk_id}", observation.instruction, observation.stamp_ns)
    return InferenceResult(request, chunk, report=None, memory=memory)


def held(out, *parts):
    assert isinstance(out, Hold), out
    for part in parts:
        assert part in out.reason
    return True
