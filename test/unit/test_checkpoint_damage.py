"""Checkpoints in upstream's layout that cannot be used: the error names the file, the key and what to do."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import TINY_TOWERS, upstream_config, write_upstream_checkpoint

from specprune_ros.config import PolicySettings
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
        open_checkpoint(folder, PolicySettings(proprio="on"))


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
    "specprune.action_units is 'inches'; expected normalised or metres": {"specprune": {"action_units": "inches"}},
    "specprune.center_crop is 'yes'": {"specprune": {"center_crop": "yes"}},
    "specprune.proprio_dims is -1": {"specprune": {"proprio_dims": -1}},
    "specprune.suffix_token_id is 'a'": {"specprune": {"suffix_token_id": "a"}},
    r"specprune is \[\]|specprune is \[1\]": {"specprune": [1]},
    "image_sizes is 224; expected one side length": {"image_sizes": 224},
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


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_training_puts_in_front_of_names_is_dropped(folder, prefix):
    bare = {}
    edit_head(folder, lambda s: bare.update({k.removeprefix("module."): v for k, v in s.items()}) or s)
    edit_head(folder, lambda _: {"model_state_dict": {prefix + k: v for k, v in bare.items()}})
    open_checkpoint(folder)
    edit_head(folder, lambda _: {**bare, **{prefix + k: v for k, v in bare.items()}})
    with pytest.raises(CheckpointError, match="are both action_head.model"):
        open_checkpoint(folder)


def test_a_part_may_be_safetensors(folder):
    path = folder / "action_head--latest_checkpoint.pt"
    save_file(torch.load(path, weights_only=True), path.with_suffix(".safetensors"))
    with pytest.raises(CheckpointError, match="expected exactly one action_head.*found .*pt, .*safetensors"):
        open_checkpoint(folder)
    path.unlink()
    plan = open_checkpoint(folder).stored.entries["action_head.model.fc1.weight"]
    assert plan.file.suffix == ".safetensors"


def test_names_in_shards_may_be_those_of_a_compiled_model(folder):
    for path in folder.glob("model-*.safetensors"):
        save_file({f"_orig_mod.{k}": v for k, v in load_file(path).items()}, path)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {f"_orig_mod.{k}": v for k, v in index["weight_map"].items()}
    index["metadata"] |= {"total_parameters": 7, "format": "pt"}
    (folder / INDEX).write_text(json.dumps(index | {"version": 2}))
    open_checkpoint(folder)


@pytest.mark.parametrize("weight_map", [[], "model.safetensors", {"a": 3}])
def test_an_index_of_another_form_is_named(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=f"{INDEX}: weight_map does not map names to files"):
        open_checkpoint(folder)


def test_pixel_statistics_are_also_found_where_transformers_5_keeps_them(folder):
    pixels = {"means": [[0.48, 0.45, 0.4], [0.5, 0.45, 0.55]], "stds": [[0.22, 0.2, 0.25], [0.5, 0.4, 0.6]]}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": pixels, "processor_class": "P"}))
    towers = open_checkpoint(folder).config.towers
    assert [tower.mean for tower in towers] == [tuple(row) for row in pixels["means"]]
    (folder / "preprocessor_config.json").write_text(json.dumps({"means": None, "stds": pixels["stds"][::-1]}))
    towers = open_checkpoint(folder).config.towers
    assert towers[0].std == (0.5, 0.4, 0.6) and towers[1].mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "name", [DINO, f"{DINO}.lvd142m", f"hf_hub:timm/{DINO}.lvd142m", f"timm/{DINO}", f"hf-hub:timm/{DINO}.other_tag"]
)
def test_a_tower_is_known_by_its_architecture(name):
    config = {**upstream_config(), "timm_model_ids": [name, SIGLIP], "timm_override_act_layers": ["gelu", None]}
    assert model_config(config).towers[0].width == TINY_TOWERS[DINO]["width"]
    del config["use_fused_vision_backbone"]
    assert model_config(config).fused
    assert not model_config({**config, "timm_model_ids": [name], "use_fused_vision_backbone": None}).fused


def test_a_section_of_ours_must_agree_with_the_tensors(folder):
    config = json.loads((folder / "config.json").read_text())
    for name, value in (("action_dims", 6), ("proprio_dims", 9)):
        (folder / "config.json").write_text(json.dumps({**config, "specprune": {name: value}}))
        with pytest.raises(CheckpointError, match=f"specprune.{name} is {value}, but the tensors of the .* file say"):
            open_checkpoint(folder)
