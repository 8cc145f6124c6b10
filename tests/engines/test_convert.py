"""Tensors between engines and the wire: dtypes, alignment, ownership."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import FrameError
from exo_lab.core.tensor import Tensor
from exo_lab.engines import convert
from exo_lab.engines.torch_convert import from_torch, to_torch

CPU = torch.device("cpu")
FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
any_floats = st.lists(st.floats(width=32), min_size=1, max_size=40)


@pytest.mark.parametrize("dtype", FLOATS)
@given(values=any_floats)
@settings(max_examples=60, deadline=None)
def test_both_converters_make_the_same_bytes_and_read_them_alike(dtype, values):
    with np.errstate(over="ignore"):  # float16 overflows to infinity in both
        ours = convert.from_numpy(np.array(values, np.float32), dtype)
    theirs = from_torch(torch.tensor(values, dtype=torch.float32).to(FLOATS[dtype]))
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    numbers = convert.to_numpy(theirs)
    np.testing.assert_array_equal(convert.to_numpy(ours), numbers)  # NaN equals NaN here
    np.testing.assert_array_equal(to_torch(ours, CPU).float().numpy(), numbers)
    finite = ~np.isnan(numbers)
    item = ours.nbytes // len(values)
    as_items = [np.frombuffer(t.data, np.uint8).reshape(-1, item)[finite] for t in (ours, theirs)]
    np.testing.assert_array_equal(*as_items)


@pytest.mark.parametrize("dtype", [*FLOATS, "int32"])
def test_buffers_that_are_unaligned_or_read_only_are_copied_into_memory_of_our_own(dtype):
    tensor = convert.from_numpy(np.arange(12).reshape(3, 4), dtype)
    wire = bytearray(b"-" + bytes(tensor.data))
    received = Tensor(dtype, (3, 4), memoryview(bytes(wire))[1:])
    array, value = convert.to_numpy(received), to_torch(received, CPU)
    np.testing.assert_array_equal(array, np.arange(12).reshape(3, 4))
    assert value.float().tolist() == array.tolist()
    assert array.flags.writeable
    assert array.flags.aligned
    assert value.data_ptr() % 64 == 0
    shared = Tensor(dtype, (3, 4), memoryview(wire)[1:])
    array, value = convert.to_numpy(shared), to_torch(shared, CPU)
    wire[1:] = bytes(len(wire) - 1)
    assert array.sum() == value.float().sum() == 66, "changed with the network's buffer"


@pytest.mark.parametrize("dtype", [*FLOATS, "int32"])
@pytest.mark.parametrize("shape", [(0, 4), (0,)])
def test_empty_tensors_cross(dtype, shape):
    tensor = convert.from_numpy(np.empty(shape), dtype)
    assert convert.to_numpy(tensor).shape == shape
    assert tuple(to_torch(tensor, CPU).shape) == shape
    assert from_torch(to_torch(tensor, CPU)).shape == shape


def test_what_is_not_contiguous_becomes_so():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(convert.to_numpy(convert.from_numpy(array)), array)
    np.testing.assert_array_equal(convert.to_numpy(from_torch(torch.from_numpy(array.copy()).t())), array.T)


def test_a_dtype_that_cannot_be_sent_is_named():
    with pytest.raises(FrameError, match="complex64"):
        convert.from_numpy(np.zeros(2), "complex64")


def test_token_ids_become_int32():
    tensor = convert.tokens([1, 2, 49151])
    assert (tensor.dtype, tensor.shape) == ("int32", (3,))
    assert convert.to_numpy(tensor).tolist() == [1, 2, 49151]
