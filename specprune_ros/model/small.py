"""The bundled policy's sizes and words: OpenVLA-OFT's architecture, three orders of magnitude smaller than 7B."""

from __future__ import annotations

import json

TOWER = dict(width=128, depth=4, heads=2, mlp=512)
POLICY_CONFIG = {
    "model_type": "openvla",
    "architectures": ["OpenVLAForActionPrediction"],
    "use_fused_vision_backbone": True,
    "timm_model_ids": ["specprune_tiny_dinov2", "specprune_tiny_siglip"],
    "image_sizes": [224, 224],
    "text_config": {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 3,
        "vocab_size": 64,
        "rms_norm_eps": 1e-6,
    },
    "specprune": {
        "views": 2,
        "proprio_dims": 8,
        "chunk_steps": 8,
        "action_dims": 7,
        "center_crop": False,
        "jpeg_round_trip": False,
        "suffix_token_id": None,
        "stop_token_id": 2,
        "action_units": "normalised",
        "towers": {
            "specprune_tiny_dinov2": dict(**TOWER, class_token=True, registers=4, layer_scale=True),
            "specprune_tiny_siglip": dict(**TOWER, class_token=False, registers=0, layer_scale=False),
        },
    },
}
"""The bundled policy's `config.json`: the 7B model's architecture with small numbers."""

WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "In",
    ":",
    "What",
    "action",
    "should",
    "the",
    "robot",
    "take",
    "to",
    "?",
    "Out",
    "pick",
    "up",
    "cube",
    "put",
    "on",
    "plate",
    "red",
    "green",
    "blue",
    "yellow",
    "purple",
    "cyan",
    "orange",
    "white",
    "black",
    "grey",
    "ball",
    "can",
    "button",
    "edge",
    "left",
    "right",
    "of",
    "behind",
    "in",
    "front",
    "nearest",
    "stack",
    "push",
    "press",
    "and",
    "then",
    "lift",
    "grab",
    "place",
    "move",
]
"""By id: new words go to the end, so that weights that were trained before keep their meaning."""


def tokenizer_json() -> str:
    """A word-level tokenizer in `tokenizer.json` form, BOS added, as the checkpoint loader expects it."""
    bos = WORDS.index("<s>")
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "<unk>"},
    }
    return json.dumps(content, indent=1) + "\n"
