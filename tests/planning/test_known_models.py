"""Shapes of known models, by the number of parameters that their publishers state."""

from __future__ import annotations

import pytest

from exo_lab.core.errors import ConfigError, ModelNotFound
from exo_lab.planning.known_models import NAMES, QUANTISATIONS, config_of, known, parameters

# As the published checkpoints have them (Hugging Face, "safetensors: parameters").
PARAMETERS = {
    "Llama 3.1 8B": 8_030_261_248,
    "Llama 3.1 70B": 70_553_706_496,
    "Llama 3.2 1B": 1_235_814_400,
    "Llama 3.2 3B": 3_212_749_824,
    "Llama 2 7B": 6_738_415_616,
    "Llama 2 13B": 13_015_864_320,
    "Mistral 7B": 7_248_023_552,
    "Qwen2.5 0.5B": 494_032_768,
    "Qwen2.5 7B": 7_615_616_512,
    "Qwen3 0.6B": 596_049_920,
    "Qwen3 8B": 8_190_735_360,
    "SmolLM2 135M": 134_515_008,
    "TinyLlama 1.1B": 1_100_048_384,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_has_the_parameters_that_are_published(name):
    assert parameters(config_of(name)) == PARAMETERS[name]


def test_sizes_follow_from_the_quantisation():
    sizes = {bits: config_of("Llama 3.1 8B", bits).total_bytes for bits in QUANTISATIONS}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert sizes["BF16"] == pytest.approx(2 * PARAMETERS["Llama 3.1 8B"], rel=1e-3)
    assert sizes["Q4_0"] == pytest.approx(4.5 / 8 * PARAMETERS["Llama 3.1 8B"], rel=1e-3)


@pytest.mark.parametrize("spelling", ["llama-3.1-8b", "Llama-3.1-8B-Instruct", "LLAMA 3.1 8B"])
def test_spellings_of_one_model(spelling):
    shape = known(spelling)
    assert shape is not None
    assert shape.name == "Llama 3.1 8B"


def test_what_is_not_known_is_refused_with_what_is():
    with pytest.raises(ModelNotFound, match="Mistral 7B"):
        config_of("gpt-7")
    with pytest.raises(ConfigError, match="Q4_0"):
        config_of("Mistral 7B", "Q1")
