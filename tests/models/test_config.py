"""config.json: what Transformers writes is what is read, and what would change the arithmetic is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import CorruptModel, ModelError, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES, ModelConfig, RopeScaling
from exo_lab.models.config import config_from_json
from tests.tiny import LLAMA3, hub_config, tiny_config


@pytest.mark.parametrize("scaling", [None, RopeScaling(kind="linear", factor=4.0), LLAMA3])
@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_a_config_comes_back_as_it_was(architecture, scaling):
    config = tiny_config(architecture, rope_scaling=scaling)
    assert config_from_json(hub_config(config), config.name) == config


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_the_defaults_of_transformers_are_ours(architecture):
    """A config that leaves out everything that may be left out means what Transformers makes of it."""
    from transformers import AutoConfig

    short = {"model_type": architecture, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 288}
    short |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    theirs = AutoConfig.for_model(**short)
    # Written out, with what Transformers filled in, it is another spelling of the same.
    full = config_from_json({**theirs.to_dict(), "model_type": architecture}, "m")
    assert full.rms_norm_eps == theirs.rms_norm_eps
    assert full.context_length == theirs.max_position_embeddings
    assert full.tied_embeddings == theirs.tie_word_embeddings
    assert full.sliding_window == (theirs.sliding_window if architecture == "mistral" else None)
    assert full.rope_theta == theirs.rope_parameters["rope_theta"]


def test_both_spellings_of_rotary_parameters_are_read():
    config = tiny_config(rope_theta=500_000.0, rope_scaling=LLAMA3)
    old = hub_config(config)
    new = {key: value for key, value in old.items() if key not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {**old["rope_scaling"], "rope_theta": 500_000.0}
    older = {**old, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert config_from_json(old, config.name) == config_from_json(new, config.name) == config
    assert config_from_json(older, config.name).rope_scaling == RopeScaling(kind="linear", factor=2.0)


def changed(architecture: str = "llama", **changes: object) -> ModelConfig:
    return config_from_json({**hub_config(tiny_config(architecture)), **changes}, "m")


@pytest.mark.parametrize(
    ("architecture", "changes", "window"),
    [
        ("mistral", {"sliding_window": 16}, 16),
        ("mistral", {"sliding_window": None}, None),
        ("llama", {"sliding_window": 16}, None),
        ("qwen2", {"sliding_window": 16}, None),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 0}, 16),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 4}, None),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True}, None),
        ("qwen3", {"sliding_window": 16, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 4}, 16),
    ],
)
def test_a_sliding_window_is_that_of_every_layer(architecture, changes, window):
    assert changed(architecture, **changes).sliding_window == window


@pytest.mark.parametrize(
    ("architecture", "changes", "words"),
    [
        ("llama", {"model_type": "gemma2"}, r"'gemma2' is not supported; supported are llama, mistral, qwen2, qwen3"),
        ("llama", {"model_type": None}, "architecture None"),
        ("llama", {"hidden_act": "gelu"}, "activation 'gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("llama", {"mlp_bias": True}, "feed-forward"),
        ("llama", {"partial_rotary_factor": 0.5}, "a part of each head"),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, "'awq' are not read"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn' is not supported; supported are"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ("qwen2", {"rope_scaling": {"rope_type": "mrope"}}, "'mrope'"),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}, "in some layers only"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused_by_name(architecture, changes, words):
    with pytest.raises(UnsupportedModel, match=words):
        changed(architecture, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": 64.5}, "hidden_size is 64.5; a whole number above 0 is needed"),
        ({"vocab_size": 2**40}, "vocab_size"),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps is 'tiny'"),
        ({"rope_theta": math.nan}, "rope_theta"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
        ({"rope_scaling": {**hub_config(tiny_config(rope_scaling=LLAMA3))["rope_scaling"], "high_freq_factor": 1.0}},
         "not below"),
        ({"rope_scaling": ["linear"]}, "a table is needed"),
    ],
)  # fmt: skip
def test_a_field_that_is_missing_or_impossible_is_named(changes, words):
    with pytest.raises(CorruptModel, match=words):
        changed(**changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    *hub_config(tiny_config(rope_scaling=LLAMA3)), "rope_parameters", "layer_types", "use_sliding_window",
    "max_window_layers", "quantization_config", "partial_rotary_factor", "attention_bias", "mlp_bias",
)  # fmt: skip


@given(
    architecture=st.sampled_from(SUPPORTED_ARCHITECTURES),
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=4),
)
def test_any_value_in_any_field_gives_a_config_or_one_of_our_own_errors(architecture, changes):
    data = {**hub_config(tiny_config(architecture)), **changes}
    try:
        config = config_from_json(data, "m")
    except ModelError:
        return
    assert config.architecture in SUPPORTED_ARCHITECTURES
    assert config.n_layers > 0
