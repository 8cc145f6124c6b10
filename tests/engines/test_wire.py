"""Hidden states on the wire: the bound of each rounding's error, and that rows never depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exo_lab.core.errors import FrameError, NodeError
from exo_lab.core.shard import Shard
from exo_lab.core.tensor import Tensor
from exo_lab.core.wire import INT8_BLOCK, WIRES, Rounding, row_bytes
from exo_lab.engines import convert, wire
from exo_lab.engines.base import Part
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.engines.rounded import RoundedEngine
from tests.tiny import tiny_source

FINITE = st.floats(-(2.0**126), 2.0**126, width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
ROWS = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.sampled_from([1, 16, 64, 65, 200])), elements=FINITE)


def there_and_back(rows, precision):
    packed = wire.pack(convert.from_numpy(rows), precision)
    return convert.to_numpy(wire.unpack(packed, precision, rows.shape[1])), packed


@given(ROWS)
@settings(max_examples=60)
def test_int8_is_off_by_at_most_half_a_step_of_the_largest_value_in_the_block(rows):
    back, _ = there_and_back(rows, "int8")
    for start in range(0, rows.shape[1], INT8_BLOCK):
        block = rows[:, start : start + INT8_BLOCK].astype(np.float64)
        largest = np.abs(block).max(1, keepdims=True)
        # A scale below the normal numbers is as good as none: the whole block is zero then.
        bound = np.maximum(largest / 127 / 2 * (1 + 1e-5), 127 * np.finfo(np.float32).tiny * (largest < 1e-35))
        assert (np.abs(back[:, start : start + INT8_BLOCK] - block) <= bound).all()


@given(st.integers(1, 5), st.sampled_from([1, 64, 100]))
def test_int8_keeps_zeros_and_the_largest_values_as_they_are(count, hidden):
    rows = np.zeros((count, hidden), dtype=np.float32)
    assert (there_and_back(rows, "int8")[0] == 0).all()
    rows[:, -1] = -254.0
    assert (there_and_back(rows, "int8")[0] == rows).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_int8_has_no_place_for_is_refused_where_it_is_made(bad):
    rows = np.ones((2, 70), dtype=np.float32)
    rows[1, 69] = bad
    with pytest.raises(NodeError, match="int8 cannot carry"):
        wire.pack(convert.from_numpy(rows), "int8")


@pytest.mark.parametrize("bad", [np.inf, np.nan, -1.0])
def test_a_scale_that_cannot_be_is_refused_where_it_comes_in(bad):
    packed = wire.pack(convert.from_numpy(np.ones((2, 64), dtype=np.float32)), "int8")
    forged = bytearray(packed.data)
    forged[:4] = np.float32(bad).tobytes()
    with pytest.raises(FrameError, match="scale"):
        wire.unpack(Tensor("int8", packed.shape, forged), "int8", 64)


@given(arrays.arrays(np.uint32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.integers(0, 2**32 - 1)))
def test_bfloat16_rounds_to_nearest_even_bit_for_bit_as_torch_does(bits):
    rows = bits.view(np.float32)
    rows = np.where(np.isnan(rows), np.float32(1), rows)  # there are many of these, and all mean the same
    packed = wire.pack(convert.from_numpy(rows), "bfloat16")
    theirs = torch.from_numpy(rows.copy()).to(torch.bfloat16).view(torch.int16).numpy()
    assert (np.frombuffer(packed.data, dtype=np.int16) == theirs.reshape(-1)).all()


@given(ROWS, st.sampled_from(WIRES))
def test_a_row_is_packed_the_same_alone_and_among_others_and_has_the_bytes_that_are_said(rows, precision):
    _, packed = there_and_back(rows, precision)
    assert packed.nbytes == len(rows) * row_bytes(rows.shape[1], precision)
    for number in range(len(rows)):
        _, alone = there_and_back(rows[number : number + 1], precision)
        assert bytes(alone.data) == bytes(packed.rows(number, number + 1).data)


@given(ROWS)
def test_float32_is_not_touched(rows):
    back, _ = there_and_back(rows, "float32")
    assert back.tobytes() == rows.tobytes()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_shard_that_rounds_within_says_bit_for_bit_what_two_shards_say_with_a_wire_between_them(precision):
    source = tiny_source()
    whole = RoundedEngine(NumpyEngine, [Rounding(1, precision), Rounding(3, precision)])
    whole.load(source, shard(0, 4))
    parts = [NumpyEngine() for _ in range(3)]
    for engine, span in zip(parts, [(0, 1), (1, 3), (3, 4)], strict=True):
        engine.load(source, shard(*span))
    for position, ids in ((0, [5, 6, 7, 8]), (4, [9]), (5, [10])):
        x = convert.tokens(ids)
        for engine in parts[:2]:
            x = wire.rounded(engine.forward("s", x, position), precision)
        expected = parts[2].forward("s", x, position)
        assert bytes(whole.forward("s", convert.tokens(ids), position).data) == bytes(expected.data)
    batch = whole.forward_batch([Part("s", convert.tokens([11]), 6)])
    whole.forward("s", convert.tokens([10]), 5)  # back by one
    assert bytes(batch[0].data) == bytes(whole.forward("s", convert.tokens([11]), 6).data)
    moved = RoundedEngine(NumpyEngine, [Rounding(1, precision), Rounding(3, precision)])
    moved.load(source, shard(0, 4))
    moved.import_kv("s", whole.export_kv("s"))
    assert bytes(moved.forward("s", convert.tokens([3]), 7).data) == bytes(
        whole.forward("s", convert.tokens([3]), 7).data
    )


def shard(start, end):
    return Shard(model="tiny", start=start, end=end, n_layers=4)
