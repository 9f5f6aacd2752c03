"""The node's end of the model's process around the scripted policy, for tests."""

import time

import numpy as np
import pytest

from specprune_ros.bench.faults.policy import FACTORY
from specprune_ros.config import Config
from specprune_ros.infer.worker import (
    InferenceWorker,
)
from specprune_ros.types import (
    InferenceRequest,
    Mode,
    Observation,
)

PATIENCE_S = 60.0
"""Real time, and only ever spent on a busy machine."""


def request(task="move", number=1, memory=None, level=0, reference=None, config=None):
    images = tuple(np.full((16 + 8 * view, 16, 3), level + view, np.uint8) for view in range(2))
    observation = Observation(5, images, np.full(8, 0.4, np.float32), task, None)
    return InferenceRequest(number, observation, reference, 3, Mode.FINE, memory, (config or Config()).pruning)


class Supervised:
    """A worker whose clock is moved by hand: it may be hours later in no time."""

    def __init__(self, factory=FACTORY, **changes):
        self.now_s = 0.0
        self.worker = InferenceWorker(factory, Config().updated(changes), self.now_s)

    def poll(self):
        return self.worker.poll(self.now_s)

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end, (self.worker.state, self.worker.trouble)
            time.sleep(0.002)
        return value

    def loaded(self):
        return self.until(lambda: self.poll() or self.worker.policy())

    def until_state(self, state):
        """Outcomes on the way there."""
        outcomes = []

        def there():
            outcomes.append(self.poll())
            return self.worker.state is state

        self.until(there)
        return [outcome for outcome in outcomes if outcome is not None]

    def submit(self, *args, patience_s=1.0, **kwargs):
        self.until(lambda: self.poll() or self.worker.accepts(self.now_s))
        self.worker.submit(request(*args, **kwargs), patience_s, self.now_s)

    def answer(self, *args, **kwargs):
        self.submit(*args, **kwargs)
        return self.until(self.poll)


@pytest.fixture
def make():
    made = []

    def make(*args, **kwargs):
        made.append(Supervised(*args, **kwargs))
        return made[-1]

    yield make
    for supervised in made:
        assert supervised.worker.close(1.0)
        assert supervised.worker.gone()


@pytest.fixture
def supervised(make):
    supervised = make()
    supervised.loaded()
    return supervised
