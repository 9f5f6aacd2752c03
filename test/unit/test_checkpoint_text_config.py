"""`text_config` is judged by meaning: other libraries' spellings of the same model pass, other models do not."""

import json

import pytest
import torch
from reference_oft import Reference
from tiny_checkpoints import TINY_TOWERS, upstream_config, write_upstream_checkpoint
from transformers import LlamaConfig

from specprune_ros.model.checkpoint import CheckpointError, load_checkpoint
from specprune_ros.model.config import model_config
from specprune_ros.model.llama import DecoderConfig

pytestmark = pytest.mark.usefixtures("tiny_towers")

PUBLISHED = {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064}
SEVEN_B = DecoderConfig(4096, 11008, 32, 32, 32, 32064, 1e-6, 10000.0, 2048)


def decoder_of(text):
    config = upstream_config()
    return model_config(config | {"text_config": text}).decoder


def test_text_config_is_llama_defaults_plus_what_it_says():
    assert decoder_of(PUBLISHED) == SEVEN_B
    assert decoder_of({}) == decoder_of(None) == SEVEN_B.__class__(**{**vars(SEVEN_B), "vocab": 32000})


SAME = {
    "rope_parameters of transformers 5": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "rope_parameters per kind of layer": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000}}
    },
    "theta in both places": {"rope_theta": 10000, "rope_parameters": {"rope_theta": 10000.0}},
    "rope_scaling null": {"rope_scaling": None, "rope_parameters": None},
    "rope_scaling empty": {"rope_scaling": {}},
    "rope_scaling default": {"rope_scaling": {"rope_type": "default"}},
    "rope_scaling default, old key": {"rope_scaling": {"type": "default", "factor": None}},
    "stretched by 1": {"rope_scaling": {"type": "linear", "factor": 1.0}},
    "all dimensions rotated": {"partial_rotary_factor": 1.0, "rope_parameters": {"partial_rotary_factor": 1.0}},
    "dtype": {"dtype": "bfloat16", "torch_dtype": None},
    "kinds of layers": {"layer_types": ["full_attention"] * 32},
    "no sliding window": {"sliding_window": None, "use_sliding_window": False},
    "a window that is off": {"sliding_window": 4096, "use_sliding_window": False},
    "biases off": {"attention_bias": False, "mlp_bias": None},
    "head_dim": {"head_dim": 128, "num_key_value_heads": None},
    "swish": {"hidden_act": "swish"},
    "whole numbers as floats": {"hidden_size": 4096.0},
    "what inference does not use": {
        "attention_dropout": 0.1,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "pretraining_tp": 4,
        "use_cache": True,
        "bos_token_id": 1,
        "architectures": ["LlamaForCausalLM"],
        "_name_or_path": "meta-llama/Llama-2-7b-hf",
        "a_key_of_the_future": {"x": 1},
    },
}


@pytest.mark.parametrize("name", SAME)
def test_other_spellings_of_the_same_decoder(name):
    assert decoder_of(PUBLISHED | SAME[name]) == SEVEN_B


OTHER = {
    "model_type is 'mistral'; this decoder computes only 'llama'": {"model_type": "mistral"},
    "hidden_act is 'gelu'": {"hidden_act": "gelu"},
    "attention_bias is True": {"attention_bias": True},
    "mlp_bias is True": {"mlp_bias": True},
    r"rope_scaling is \{'type': 'linear'\}": {"rope_scaling": {"type": "linear"}},
    r"rope_scaling is \{'rope_type': 'linear', 'factor': 2.0\}": {
        "rope_scaling": {"rope_type": "linear", "factor": 2.0}
    },
    r"rope_parameters is \{'rope_type': 'llama3'": {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
    r"rope_parameters is \{'rope_type': 'yarn'": {"rope_parameters": {"rope_type": "yarn", "factor": 1.0}},
    "rope_parameters.full_attention is .*dynamic": {
        "rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 4.0}}
    },
    "rope_parameters is .*partial_rotary_factor": {"rope_parameters": {"partial_rotary_factor": 0.5}},
    "rope_scaling is 'linear'; expected an object": {"rope_scaling": "linear"},
    "partial_rotary_factor is 0.25": {"partial_rotary_factor": 0.25},
    "rope_theta is 10000 and rope_parameters.rope_theta is 500000, which contradict": {
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    "rope_theta is 'high'; expected a number above 0": {"rope_theta": "high"},
    "layer_types has 'sliding_attention'": {"layer_types": ["full_attention", "sliding_attention"]},
    "sliding_window is 512": {"sliding_window": 512},
    "head_dim is 96; this decoder has .* = 128": {"head_dim": 96},
    "hidden_size 100 is not a multiple of num_attention_heads 32": {"hidden_size": 100},
    "num_attention_heads 32 is not a multiple of num_key_value_heads 5": {"num_key_value_heads": 5},
    "heads of 3 values cannot be rotated": {"hidden_size": 96},
    "hidden_size is '4096'; expected a whole number": {"hidden_size": "4096"},
    "num_hidden_layers is 0; expected a whole number": {"num_hidden_layers": 0},
    "vocab_size is 32064.5": {"vocab_size": 32064.5},
    "num_attention_heads is True": {"num_attention_heads": True},
    "rms_norm_eps is 0; expected a number above 0": {"rms_norm_eps": 0},
}


@pytest.mark.parametrize("text", OTHER)
def test_another_decoder_is_refused_by_name_and_value(text):
    with pytest.raises(ValueError, match=f"text_config.*{text}"):
        decoder_of(PUBLISHED | OTHER[text])


@pytest.mark.parametrize("text", ["llama", [1]])
def test_a_text_config_that_is_no_object(text):
    with pytest.raises(ValueError, match="text_config is .*; expected an object"):
        decoder_of(text)


@pytest.mark.parametrize("write", ["to_dict", "to_diff_dict"])
@pytest.mark.parametrize("changes", [{}, {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "num_key_value_heads": 8}])
def test_what_the_installed_transformers_writes_is_read(write, changes):
    """The same model, re-saved: as LlamaConfig of the installed version serialises what it was given."""
    resaved = json.loads(json.dumps(getattr(LlamaConfig(**PUBLISHED, **changes), write)(), default=str))
    expected = decoder_of(PUBLISHED | changes)
    assert decoder_of(resaved) == expected
    assert expected.rope_theta == changes.get("rope_theta", 10000.0)


def test_a_rope_theta_of_transformers_5_is_computed(tmp_path):
    """Not only accepted: the base it names is what turns queries and keys (against the reference's loops)."""
    text = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    folder = write_upstream_checkpoint(tmp_path, upstream_config(vocab_size=64, **text))
    config = json.loads((folder / "config.json").read_text())
    config["specprune"] = {"suffix_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    model = load_checkpoint(folder).model
    x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
    rope, ours = model.rope(9, x), x
    for layer in model.decoder.layers:
        ours, _ = layer(ours, rope)
    reference = Reference(folder, TINY_TOWERS)
    torch.testing.assert_close(ours[0].double(), reference.decode(x[0].double()), atol=1e-4, rtol=1e-4)
    reference.theta = 10000.0
    assert not torch.allclose(ours[0].double(), reference.decode(x[0].double()), atol=1e-2)


def test_the_file_is_named(tmp_path):
    folder = write_upstream_checkpoint(tmp_path, upstream_config(vocab_size=64))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["mlp_bias"] = True
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match="config.json: text_config.mlp_bias is True; this decoder computes only False"
    ):
        load_checkpoint(folder)
