"""Small values that check themselves: tensors, sampling parameters, errors that crossed the wire."""

from __future__ import annotations

import inspect
import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core import errors
from exo_lab.core.errors import ConfigError, ExoError, FrameError, UnsupportedModel
from exo_lab.core.model import ModelConfig
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.tensor import ITEM_BYTES, Tensor
from tests.tiny import tiny_source

shapes = st.lists(st.integers(0, 6), max_size=4).map(tuple)


@given(st.sampled_from(sorted(ITEM_BYTES)), shapes, st.integers(-8, 8))
def test_a_tensor_has_exactly_the_bytes_of_its_shape(dtype, shape, off):
    needed = ITEM_BYTES[dtype] * math.prod(shape)
    size = max(0, needed + off)
    if size == needed:
        assert Tensor(dtype, shape, bytes(size)).nbytes == needed
    else:
        with pytest.raises(FrameError, match=f"needs {needed} bytes, got {size}"):
            Tensor(dtype, shape, bytes(size))


@pytest.mark.parametrize("dtype", ["", "float64", "int16", "object", "Float32"])
def test_a_tensor_of_another_dtype_is_refused(dtype):
    with pytest.raises(FrameError, match="is not one of float32"):
        Tensor(dtype, (1,), bytes(8))


def test_a_negative_side_is_refused_also_where_the_product_fits():
    with pytest.raises(FrameError, match="negative side"):
        Tensor("float32", (-1, -2), bytes(8))


GOOD = {
    "temperature": (0, 0.0, 0.7, 100.0), "top_k": (0, 1, 10**6), "top_p": (1.0, 1e-9), "min_p": (0.0, 1.0),
    "repetition_penalty": (1.0, 0.5, 1000.0), "seed": (0, 2**63 - 1), "max_tokens": (1, 10**9),
    "stop": ((), ("a", "bc")), "logprobs": (0, 20), "speculate": (None, 0, 15),
    "prefix_cache": (True, False),
}  # fmt: skip
BAD = {
    "temperature": (-0.1, math.nan, math.inf), "top_k": (-1,), "top_p": (0.0, 1.01, math.nan), "min_p": (-0.1, 1.1),
    "repetition_penalty": (0.0, -1.0, math.nan, math.inf), "seed": (-1, 2**63), "max_tokens": (0, -5),
    "stop": (("a", ""),), "logprobs": (-1, 21), "speculate": (-1, 16),
    "prefix_cache": (),
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in GOOD.items() for value in values])
def test_sampling_that_makes_sense_is_taken(field, value):
    assert getattr(SamplingParams(**{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_sampling_that_makes_no_sense_is_named(field, value):
    with pytest.raises(ConfigError, match=f"^{field} must be "):
        SamplingParams(**{field: value})


def test_every_sampling_parameter_is_checked():
    assert set(GOOD) == set(BAD) == set(SamplingParams.__struct_fields__)


def test_an_error_crosses_the_wire_as_itself_with_the_name_of_its_node():
    for name, cls in errors.BY_NAME.items():
        error = errors.from_wire(name, "what happened", "n7")
        assert type(error) is cls
        assert str(error) == "what happened [reported by node n7]"


@pytest.mark.parametrize("kind", ["", "KeyboardInterrupt", "SystemExit", "__class__", "ValueError", "os.system"])
def test_an_unknown_error_is_an_exo_error_and_nothing_else(kind):
    assert type(errors.from_wire(kind, "x", "n")) is ExoError


def test_every_error_class_can_cross_the_wire_and_stands_in_the_tree_of_the_docstring():
    classes = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, ExoError)}
    assert classes == errors.BY_NAME
    lines = [line for line in inspect.getdoc(errors).splitlines() if line.lstrip().startswith("* ")]
    tree = {line.split()[1]: len(line) - len(line.lstrip()) for line in lines}
    assert tree == {name: 2 * (len(cls.__mro__) - len(ExoError.__mro__)) for name, cls in classes.items()}


def test_a_model_of_an_architecture_that_is_not_run_says_which_are():
    with pytest.raises(UnsupportedModel, match="'gpt2' is not supported; supported are llama, mistral"):
        msgspec.structs.replace(tiny_source().config, architecture="gpt2")


@given(st.data())
def test_the_shards_of_a_model_add_up_to_the_model_but_for_a_matrix_at_both_ends(data):
    config: ModelConfig = tiny_source().config
    cuts = sorted(data.draw(st.sets(st.integers(1, config.n_layers - 1))))
    ends = [0, *cuts, config.n_layers]
    total = sum(config.shard_bytes(start, end) for start, end in itertools.pairwise(ends))
    twice = config.embedding_bytes if config.tied_embeddings and cuts else 0
    assert total == config.total_bytes + twice
