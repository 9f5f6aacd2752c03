"""What a policy is asked in tests: random frames, a resting arm, one instruction."""

import numpy as np

from specprune_ros.config import Pruning
from specprune_ros.types import InferenceRequest, Mode, Motion, Observation

INSTRUCTION = "pick up the red cube"


def frames(seed=0):
    """Two views of noise."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(2))


def request(images=None, reference=None, mode=Mode.COARSE, memory=None, instruction=INSTRUCTION, proprio=None):
    proprio = np.zeros(8, np.float32) if proprio is None else proprio
    observation = Observation(5, images or frames(), proprio, instruction, Motion(0.1, 0.0, 0.0))
    return InferenceRequest(3, observation, reference, 7, mode, memory, Pruning())
