"""The decoder's sizes, read from `text_config` by what it means and not by how it is spelt.

Versions of transformers write the same model differently: `rope_theta` or `rope_parameters.rope_theta`, nulls or
defaults or nothing at all. What would change the arithmetic of this decoder is refused by name and value; everything
else may say anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULTS: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
"""transformers' `LlamaConfig()` defaults: `text_config` may hold only the differences from them
(docs/reference/openvla_oft.md)."""
ROPE_THETA = 10000.0
"""LlamaConfig's default."""

COMPUTED = {
    "model_type": ("llama",),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1,),
}
"""Settings that change the arithmetic, and every spelling of the one thing that this decoder computes."""
ROPE_BLOCKS = ("rope_parameters", "rope_scaling")
"""Where transformers 5, and versions before it, keep what they know about rotary embeddings."""
STRETCHED = ("linear", "dynamic", "llama3")
"""Kinds of rotary embedding that are the plain one when their factor is 1."""


@dataclass(frozen=True)
class DecoderConfig:
    """A Llama decoder. positions: the longest sequence it was made for."""

    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    norm_eps: float
    rope_theta: float
    positions: int = 2048

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def read_decoder(config: Mapping[str, Any]) -> DecoderConfig:
    """The decoder of a parsed `config.json`; ValueError names what this decoder does not compute, or what cannot be."""
    text = config.get("text_config") or {}
    if not isinstance(text, Mapping):
        raise ValueError(f"text_config is {text!r}; expected an object with the sizes of the language model")
    given = {name: value for name, value in text.items() if value is not None}
    _check_arithmetic(given)
    width, heads = _count(given, "hidden_size"), _count(given, "num_attention_heads")
    kv_heads = _count(given, "num_key_value_heads", heads)
    _check_heads(given, width, heads, kv_heads)
    return DecoderConfig(
        width=width,
        mlp=_count(given, "intermediate_size"),
        layers=_count(given, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        vocab=_count(given, "vocab_size"),
        norm_eps=_positive(given, "rms_norm_eps", DEFAULTS["rms_norm_eps"]),
        rope_theta=_rope_theta(given),
        positions=_count(given, "max_position_embeddings"),
    )


def _check_arithmetic(given: Mapping[str, Any]) -> None:
    for name, values in COMPUTED.items():
        if name in given and given[name] not in values:
            raise ValueError(f"text_config.{name} is {given[name]!r}; this decoder computes only {values[0]!r}")
    for kind in given.get("layer_types", ()):
        if kind != "full_attention":
            raise ValueError(f"text_config.layer_types has {kind!r}; this decoder computes only 'full_attention'")
    if "sliding_window" in given and given.get("use_sliding_window", True):
        raise ValueError(
            f"text_config.sliding_window is {given['sliding_window']!r}; this decoder attends to all tokens, which "
            "is null"
        )
    for name in ROPE_BLOCKS:
        for where, block in _rope_blocks(given, name):
            _check_rope(where, block)


def _check_heads(given: Mapping[str, Any], width: int, heads: int, kv_heads: int) -> None:
    if width % heads:
        raise ValueError(f"text_config: hidden_size {width} is not a multiple of num_attention_heads {heads}")
    if heads % kv_heads:
        raise ValueError(
            f"text_config: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    if given.get("head_dim", width // heads) != width // heads:
        raise ValueError(
            f"text_config.head_dim is {given['head_dim']}; this decoder has hidden_size / num_attention_heads = "
            f"{width // heads}"
        )
    if width // heads % 2:
        raise ValueError(
            f"text_config: heads of {width // heads} values cannot be rotated in pairs; expected an even number"
        )


def _rope_blocks(given: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where it stands, what it says) of `rope_parameters` or `rope_scaling`, which may hold one block per kind of
    layer."""
    block = given.get(name) or {}
    if not isinstance(block, Mapping):
        raise ValueError(f"text_config.{name} is {block!r}; expected an object or null")
    if block and all(isinstance(value, Mapping) for value in block.values()):
        yield from ((f"{name}.{kind}", inner) for kind, inner in block.items())
    elif block:
        yield name, block


def _check_rope(where: str, block: Mapping[str, Any]) -> None:
    """Plain rotary embeddings, under whatever name."""
    kind = block.get("rope_type") or block.get("type") or "default"
    plain = kind == "default" or (kind in STRETCHED and block.get("factor") == 1)
    whole = block.get("partial_rotary_factor") in (None, 1)
    if not (plain and whole):
        raise ValueError(
            f"text_config.{where} is {dict(block)!r}; this decoder computes only plain rotary embeddings of all "
            "dimensions (rope_type 'default')"
        )


def _rope_theta(given: Mapping[str, Any]) -> float:
    """The base of the rotary embeddings, wherever it stands; two places that differ are an error."""
    said = {"rope_theta": given} if "rope_theta" in given else {}
    for name in ROPE_BLOCKS:
        said |= {f"{where}.rope_theta": block for where, block in _rope_blocks(given, name) if block.get("rope_theta")}
    thetas = {where: _positive(block, "rope_theta", ROPE_THETA) for where, block in said.items()}
    if len(set(thetas.values())) > 1:
        both = " and ".join(f"{where} is {theta:g}" for where, theta in thetas.items())
        raise ValueError(
            f"text_config.{both}, which contradict each other; remove the one that the model was not trained with"
        )
    return next(iter(thetas.values()), ROPE_THETA)


def _count(given: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = given.get(name, DEFAULTS.get(name, default))
    whole = type(value) is int or (type(value) is float and value.is_integer())
    if not whole or value < 1:
        raise ValueError(f"text_config.{name} is {value!r}; expected a whole number of at least 1")
    return int(value)


def _positive(block: Mapping[str, Any], name: str, default: float) -> float:
    value = block.get(name, default)
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise ValueError(f"text_config: {name} is {value!r}; expected a number above 0")
    return float(value)
