"""Small random checkpoints in the real layout, for tests and for trying the node without the bundled weights."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from .checkpoint import save_checkpoint
from .config import model_config
from .small import POLICY_CONFIG, tokenizer_json
from .vla import Vla


def tiny_config() -> dict:
    """A `config.json` with few, narrow layers and the bundled policy's token layout."""
    config = copy.deepcopy(POLICY_CONFIG)
    config["text_config"] |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 2}
    for tower in config["specprune"]["towers"].values():
        tower |= {"width": 16, "depth": 2, "heads": 1, "mlp": 32}
    return config


def write_tiny_checkpoint(folder: str | Path, seed: int = 0, config: dict | None = None) -> Path:
    """Random weights in `folder`, loadable by `load_checkpoint`; returns the folder."""
    torch.manual_seed(seed)
    config = config or tiny_config()
    model = Vla(model_config(config))
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=0.2)
    one = [1.0] * 7
    statistics = {
        "tiny": {
            "action": {"q01": [-x for x in one], "q99": one, "mask": [True] * 6 + [False]},
            "proprio": {"q01": [-1.0] * 8, "q99": [1.0] * 8},
        }
    }
    save_checkpoint(model, Path(folder), 0, config=config, statistics=statistics, tokenizer=tokenizer_json())
    return Path(folder)
