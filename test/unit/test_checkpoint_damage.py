"""Checkpoints in upstream's layout that cannot be used: the error names the file, the key and what to do."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import TINY_TOWERS, upstream_config, write_upstream_checkpoint

from specprune_ros.config import Policy
from specprune_ros.model.checkpoint import CheckpointError, open_checkpoint
from specprune_ros.model.config import model_config
from specprune_ros.model.stored import INDEX

pytestmark = pytest.mark.usefixtures("tiny_towers")

DINO, SIGLIP = TINY_TOWERS
SECOND = "model-00002-of-00003.safetensors"
LAYER = "language_model.model.layers.0."


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny_towers):
    return write_upstream_checkpoint(tmp_path_factory.mktemp("upstream"), upstream_config(vocab_size=128))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def change(folder, key, value):
    """Replace one tensor (None: remove it) in the shard that holds it; the index follows."""
    index = json.loads((folder / INDEX).read_text())
    shard = index["weight_map"].get(key, SECOND)
    tensors = load_file(folder / shard)
    tensors.pop(key, None)
    index["weight_map"].pop(key, None)
    if value is not None:
        tensors[key] = value
        index["weight_map"][key] = shard
    save_file(tensors, folder / shard)
    (folder / INDEX).write_text(json.dumps(index))


def edit_head(folder, edit):
    path = folder / "action_head--latest_checkpoint.pt"
    torch.save(edit(torch.load(path, weights_only=True)), path)


def promise(folder, key, shard):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][key] = shard
    (folder / INDEX).write_text(json.dumps(index))


def only_adapter(folder):
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "lora_adapter").mkdir()


def only_bin(folder):
    for path in folder.glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


DAMAGE = {
    "shard missing": (lambda f: (f / SECOND).unlink(), f"{SECOND}: missing, 3 shards belong together"),
    "shard missing, no index": (lambda f: [(f / n).unlink() for n in (SECOND, INDEX)], f"{SECOND}: missing"),
    "shard too many": (
        lambda f: shutil.copy(f / SECOND, f / "model-00004-of-00003.safetensors"),
        "00004-of-00003.*not listed in",
    ),
    "shard twice": (
        lambda f: [(f / INDEX).unlink(), shutil.copy(f / SECOND, f / "extra.safetensors")],
        f"{SECOND}: .* is also in extra.safetensors",
    ),
    "shard truncated": (lambda f: truncate(f / SECOND), f"{SECOND}: truncated or damaged"),
    "key only in the index": (
        lambda f: promise(f, "projector.fc7.weight", SECOND),
        f"{SECOND}: has no projector.fc7.weight",
    ),
    "key elsewhere": (lambda f: promise(f, "projector.fc1.weight", SECOND), f"{SECOND}: has no projector.fc1.weight"),
    "key missing": (
        lambda f: change(f, LAYER + "mlp.up_proj.weight", None),
        "1 tensors missing, first .*layers.0.mlp.up_proj.weight",
    ),
    "key too many": (
        lambda f: change(f, "projector.fc9.bias", torch.zeros(2)),
        f"{SECOND}: projector.fc9.bias has no place",
    ),
    "layer too many": (
        lambda f: change(f, "language_model.model.layers.4.input_layernorm.weight", torch.ones(64)),
        "layers.4.input_layernorm.weight has no place",
    ),
    "shape": (
        lambda f: change(f, LAYER + "self_attn.k_proj.weight", torch.zeros(32, 64)),
        r"k_proj.weight has shape \(32, 64\), config.json asks for \(64, 64\)",
    ),
    "integers": (
        lambda f: change(f, "projector.fc1.bias", torch.zeros(320, dtype=torch.int8)),
        "projector.fc1.bias is I8, .*quantised checkpoints are not supported",
    ),
    "unmerged keys": (
        lambda f: change(f, LAYER + "q_proj.lora_A.weight", torch.zeros(2)),
        "unmerged LoRA adapter; merge it",
    ),
    "adapter only": (only_adapter, "holds a LoRA adapter .*merge_lora_weights_and_save.py"),
    "pickles only": (only_bin, "holds pickled weights .*save the model as safetensors"),
    "plain OpenVLA": (lambda f: next(f.glob("action_head*")).unlink(), "found none: plain OpenVLA .*causal mask"),
    "two heads": (
        lambda f: shutil.copy(f / "action_head--latest_checkpoint.pt", f / "action_head--50000_checkpoint.pt"),
        "exactly one action_head.*50000_checkpoint.pt, action_head--latest",
    ),
    "diffusion beside": (
        lambda f: (f / "noisy_action_projector--5_checkpoint.pt").touch(),
        "has a diffusion action head",
    ),
    "diffusion head": (
        lambda f: edit_head(f, lambda s: {k.replace("model.", "noise_predictor."): v for k, v in s.items()}),
        "action_head--latest_checkpoint.pt: has no L1 action head",
    ),
    "FiLM": (lambda f: (f / "vision_backbone--latest_checkpoint.pt").touch(), "has a FiLM-conditioned vision backbone"),
    "head of another width": (
        lambda f: edit_head(f, lambda s: s | {"module.model.fc1.weight": torch.zeros(64, 70)}),
        r"action_head.model.fc1.weight has shape \(64, 70\), config.json asks for \(64, 448\)",
    ),
    "head is no dictionary": (lambda f: edit_head(f, lambda s: torch.zeros(3)), "something else than named tensors"),
    "head truncated": (lambda f: truncate(f / "action_head--latest_checkpoint.pt"), "cannot be read as plain tensors"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(folder, name):
    damage, text = DAMAGE[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=text) as caught:
        open_checkpoint(folder)
    assert str(folder) in str(caught.value)


def test_integers_in_tensors_that_nobody_reads_do_not_matter(folder):
    change(folder, "language_model.lm_head.weight", torch.zeros(3, dtype=torch.int8))
    open_checkpoint(folder)


def test_proprio_needs_its_projector_when_it_is_asked_for(folder):
    next(folder.glob("proprio_projector*")).unlink()
    assert open_checkpoint(folder).config.proprio_dims == 0
    with pytest.raises(CheckpointError, match="policy.proprio is 'on', but there is no proprio_projector"):
        open_checkpoint(folder, Policy(proprio="on"))


CONFIGS = {
    "model_type is 'prismatic'": {"model_type": "prismatic"},
    "timm_model_ids is None": {"timm_model_ids": None},
    r"timm_model_ids is \['vit_tiny_siglip'\]; expected the timm ids of 2": {"timm_model_ids": [SIGLIP]},
    "unknown vision tower 'resnet50'; known: vit_large.*specprune.towers": {"timm_model_ids": [DINO, "resnet50"]},
    "has activation 'quick_gelu'": {"timm_override_act_layers": [None, "quick_gelu"]},
    "image_sizes has 1 entries for 2": {"image_sizes": [224]},
    "see different grids: 16 patches a side at 224 px and 27 at 384": {"image_sizes": [224, 384]},
    "specprune.view is not known; known: views": {"specprune": {"view": 2}},
    "specprune.views is 'two'": {"specprune": {"views": "two"}},
    "specprune.chunk_steps is 0": {"specprune": {"chunk_steps": 0}},
    "specprune.normalisation is 'log'": {"specprune": {"normalisation": "log"}},
    "text_config.model_type is 'mistral'; this decoder computes only 'llama'": {
        "text_config": {"model_type": "mistral"}
    },
    "text_config.rope_scaling is {'type': 'linear'}": {"text_config": {"rope_scaling": {"type": "linear"}}},
    "text_config.attention_bias is True": {"text_config": {"attention_bias": True}},
    "text_config.head_dim is 96; this decoder has .* = 128": {"text_config": {"head_dim": 96}},
    "hidden_size 100 is not a multiple of num_attention_heads 32": {"text_config": {"hidden_size": 100}},
    "num_attention_heads 32 is not a multiple of num_key_value_heads 5": {"text_config": {"num_key_value_heads": 5}},
}


@pytest.mark.parametrize("text", CONFIGS)
def test_configurations_that_are_not_supported_say_why(text):
    with pytest.raises(ValueError, match=text):
        model_config({**upstream_config(), **CONFIGS[text]})


@pytest.mark.parametrize(
    "preprocessor, text",
    [
        ({"means": [[0.5] * 3]}, "means has no three numbers for vision tower 2: None"),
        ({"stds": [[0.5] * 3, [0.5, 0.5]]}, "stds has no three numbers for vision tower 2"),
        ({"stds": [[0.0] * 3, [0.5] * 3]}, "expected > 0"),
    ],
)
def test_pixel_statistics_are_checked(preprocessor, text):
    with pytest.raises(ValueError, match=text):
        model_config(upstream_config(), preprocessor)


def test_text_config_is_llama_defaults_plus_what_it_says():
    decoder = model_config(
        {"model_type": "openvla", "timm_model_ids": [SIGLIP], "text_config": {"vocab_size": 32064}}
    ).decoder
    assert (decoder.width, decoder.mlp, decoder.layers, decoder.heads, decoder.kv_heads) == (4096, 11008, 32, 32, 32)
    assert (decoder.vocab, decoder.norm_eps, decoder.rope_theta) == (32064, 1e-6, 10000.0)


def test_a_section_of_ours_must_agree_with_the_tensors(folder):
    config = json.loads((folder / "config.json").read_text())
    for name, value in (("action_dims", 6), ("proprio_dims", 9)):
        (folder / "config.json").write_text(json.dumps({**config, "specprune": {name: value}}))
        with pytest.raises(CheckpointError, match=f"specprune.{name} is {value}, but the tensors of the .* file say"):
            open_checkpoint(folder)
