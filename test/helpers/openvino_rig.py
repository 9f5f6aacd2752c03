"""Requests with smooth pictures, for engines whose results are compared, and fixtures for tests of conversion."""

import copy
import pickle

import numpy as np
import pytest
from tiny_checkpoints import tiny_config, write_tiny_checkpoint

pytest.importorskip("openvino", reason="without OpenVINO a CPU runs op by op")

from specprune_ros.config import Config
from specprune_ros.infer import converter
from specprune_ros.infer import policy as policy_module
from specprune_ros.infer.convert import convert
from specprune_ros.infer.passes import Passes
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.types import InferenceRequest, Mode, Motion, Observation

RED = "pick up the red cube"
CONFIG = Config().updated({"instruction": RED})


def checkpoint_of(folder, **specprune):
    config = copy.deepcopy(tiny_config())
    config["specprune"] |= specprune
    return load_checkpoint(write_tiny_checkpoint(folder, config=config))


def frames(seed, views=2, size=(224, 224)):
    """Smooth pictures: patches differ clearly, so that rounding decides nowhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    waves = [rng.uniform(1, 9, 3) * x[..., None] + rng.uniform(1, 9, 3) * y[..., None] for _ in range(views)]
    return tuple((127 + 120 * np.sin(wave + rng.uniform(0, 6, 3))).astype(np.uint8) for wave in waves)


def request(policy, seed=0, mode=Mode.COARSE, memory=None, reference=True, size=(224, 224)):
    proprio = np.random.default_rng(seed).uniform(-1, 1, 8).astype(np.float32) if policy.proprio_dims else None
    views = policy.view_count
    observation = Observation(5, frames(seed, views, size), proprio, RED, Motion(0.1, 0.0, 0.0))
    reference_frames = frames(seed + 9, views, size) if reference else None
    return InferenceRequest(seed, observation, reference_frames, 7, mode, memory, CONFIG.pruning)


@pytest.fixture(autouse=True)
def no_presets(monkeypatch):
    """Only what a test asks for is converted."""
    monkeypatch.setattr(policy_module, "PRESET_LEVELS", ())


@pytest.fixture(autouse=True)
def converter_here(request, monkeypatch):
    """Conversion in this process, which spares a test the start of another one; who asks for `own_process` has that."""
    if "own_process" in request.fixturenames:
        return

    def here(self, order):
        passes = Passes(copy.deepcopy(self._model).float())
        return convert(passes, pickle.loads(pickle.dumps(order)))

    monkeypatch.setattr(converter.Converter, "convert", here)


@pytest.fixture
def own_process():
    """The converter as it is: a process of its own."""


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoint_of(tmp_path_factory.mktemp("tiny"))
