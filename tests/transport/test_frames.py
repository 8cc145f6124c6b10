"""The codec gives back what it was given, and refuses everything else with a reason."""

from __future__ import annotations

import array
import random
from functools import cache
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as mi

from exo_lab.core.errors import FrameError
from exo_lab.core.messages import (
    PROTOCOL_VERSION,
    Cancel,
    ControlMessage,
    DataMessage,
    ModelRef,
    Ping,
    Plans,
    SessionSpec,
    Step,
)
from exo_lab.core.plan import MAX_EPOCH, Plan, plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.shard import Shard
from exo_lab.core.tensor import ITEM_BYTES, Tensor
from exo_lab.transport import frames
from exo_lab.transport.frames import Malformed, decode, decode_control, encode, encode_control


def plans() -> st.SearchStrategy[Plan]:
    names = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True)
    return names.flatmap(
        lambda devices: st.builds(
            lambda counts, epoch: msgspec.structs.replace(
                plan_from_counts("m", tuple(devices), tuple(counts)), epoch=epoch
            ),
            st.lists(st.integers(1, 9), min_size=len(devices), max_size=len(devices)),
            st.integers(0, MAX_EPOCH - 1),
        )
    )


VALIDATED = {
    Plan: plans(),
    Shard: st.builds(lambda a, n, more: Shard(model="m", start=a, end=a + n, n_layers=a + n + more),
                     st.integers(0, 50), st.integers(1, 50), st.integers(0, 50)),
    SamplingParams: st.builds(SamplingParams, temperature=st.floats(0, 5), top_p=st.floats(0.01, 1),
                              seed=st.integers(0, 2**63 - 1), max_tokens=st.integers(1, 10**6)),
}  # fmt: skip


@cache
def of(cls: type) -> st.SearchStrategy[Any]:
    if cls in VALIDATED:
        return VALIDATED[cls]
    info = mi.type_info(cls)
    assert isinstance(info, mi.StructType)
    return st.builds(cls, **{field.name: _of(field.type) for field in info.fields})


def _of(info: mi.Type) -> st.SearchStrategy[Any]:
    match info:
        case mi.IntType(ge=least, lt=above, le=most):
            top = 2**63 - 1 if most is None else most
            return st.integers(-(2**63) if least is None else least, top if above is None else above - 1)
        case mi.FloatType():
            return st.floats(allow_nan=False)
        case mi.StrType(pattern=str() as pattern):
            return st.from_regex(pattern)
        case mi.StrType():
            return st.text(max_size=12)
        case mi.BytesType():
            return st.binary(max_size=40)
        case mi.BoolType():
            return st.booleans()
        case mi.NoneType():
            return st.none()
        case mi.LiteralType(values=values):
            return st.sampled_from(values)
        case mi.VarTupleType(item_type=item, min_length=least):
            return st.lists(_of(item), min_size=least or 0, max_size=3).map(tuple)
        case mi.TupleType(item_types=items):
            return st.tuples(*map(_of, items))
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case mi.UnionType(types=types):
            return st.one_of(*map(_of, types))
        case mi.StructType(cls=cls):
            return of(cls)
        case _:
            raise NotImplementedError(f"no strategy for {info}")


# Made from the types themselves, so that a new message is covered at once.
control_messages = st.one_of(*map(of, get_args(ControlMessage)))
data_messages = st.one_of(*map(of, get_args(DataMessage)))


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    size = ITEM_BYTES[dtype]
    for side in shape:
        size *= side
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


STEP = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)
CANCEL = Cancel(request="r")


def pack(*values: object) -> bytes:
    return msgspec.msgpack.encode(values)


@given(data_messages, st.none() | tensors())
@settings(deadline=None)
def test_a_data_frame_comes_back_as_it_was(message, tensor):
    got, came = decode([memoryview(bytes(part)) for part in encode(message, tensor)])
    assert got == message
    if tensor is None:
        assert came is None
    else:
        assert (came.dtype, came.shape, bytes(came.data)) == (tensor.dtype, tensor.shape, bytes(tensor.data))


@given(control_messages)
@settings(deadline=None)
def test_a_control_message_comes_back_as_it_was(message):
    assert decode_control(encode_control(message)) == message


def test_tensor_bytes_are_not_copied_in_either_direction():
    raw = bytearray(16)
    part = encode(STEP, Tensor("float32", (4,), raw))[2]
    _, tensor = decode([*encode(STEP, Tensor("float32", (4,), raw))[:2], part])
    raw[5] = 77
    assert tensor.data[5] == 77


def test_a_buffer_of_floats_is_sent_as_its_bytes():
    floats = array.array("f", [1.0, 2.0, 3.0])
    part = encode(STEP, Tensor("float32", (3,), memoryview(floats)))[2]
    assert bytes(part) == floats.tobytes()
    assert len(part) == 12


@pytest.mark.parametrize(
    ("parts", "reason", "says"),
    [
        ([], "number of parts", "has 0"),
        ([b"D\x01"], "number of parts", "has 1"),
        ([*encode(STEP, Tensor("int32", (1,), bytes(4))), b""], "number of parts", "has 4"),
        ([b"", pack(CANCEL)], "kind", "2 bytes"),
        ([b"D\x01\x00", pack(CANCEL)], "kind", "2 bytes"),
        ([b"Z\x01", pack(CANCEL)], "kind", "unknown kind of frame 0x5a"),
        ([b"C\x01", pack(CANCEL)], "kind", "a control frame came to a socket that takes data frames"),
        ([b"D\x02", pack(CANCEL)], "protocol version",
         "speaks protocol 2, this node speaks 1; update exo_lab on the older one"),
        ([b"D\x01", b""], "header", "not a data message"),
        ([b"D\x01", bytes(frames.MAX_HEADER_BYTES + 1)], "header too large", "at most 1048576"),
        ([b"D\x01", pack(Ping(sequence=1))], "header", "not a data message"),
        ([b"D\x01", pack(CANCEL, "", [], "more")], "header", "not a data message"),
        ([b"D\x01", pack(CANCEL, "float32", [1])], "tensor missing", "no tensor came"),
        ([b"D\x01", pack(CANCEL), b"1234"], "dtype", "''"),
        ([b"D\x01", pack(CANCEL, "float64", [1]), bytes(8)], "dtype", "'float64'"),
        ([b"D\x01", pack(CANCEL, "float32", [2]), bytes(4)], "tensor size", "needs 8 bytes, got 4"),
        ([b"D\x01", pack(CANCEL, "float32", [-1]), bytes(4)], "header", ">= 0"),
        ([b"D\x01", pack(CANCEL, "float32", [1, 1, 1, 1, 1]), bytes(4)], "header", "length <= 4"),
        ([b"D\x01", pack(CANCEL, "float32", [2**40] * 4), bytes(4)], "tensor size", "got 4"),
        ([b"D\x01", pack(CANCEL, "float32", [2**63]), bytes(4)], "header", "<= 1099511627776"),
        ([b"D\x01", pack(CANCEL, "float32", [64]), bytes(256)], "tensor too large", "at most 100"),
    ],
)  # fmt: skip
def test_a_wrong_frame_is_refused_with_a_reason(parts, reason, says):
    with pytest.raises(FrameError) as refused:
        decode(parts, max_tensor_bytes=100)
    assert refused.value.reason == reason
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "kind"),
        (b"C", "kind"),
        (b"D\x01" + msgspec.msgpack.encode(CANCEL), "kind"),
        (b"C\x07" + msgspec.msgpack.encode(Ping(sequence=1)), "protocol version"),
        (b"C\x01", "contents"),
        (b"C\x01" + msgspec.msgpack.encode({"type": "Exec", "code": "1"}), "contents"),
        (b"C\x01" + bytes(frames.MAX_CONTROL_BYTES + 1), "message too large"),
    ],
)
def test_a_wrong_control_frame_is_refused_with_a_reason(frame, reason):
    with pytest.raises(FrameError) as refused:
        decode_control(frame)
    assert refused.value.reason == reason


def test_values_that_core_forbids_are_refused_as_frames():
    plan = {"model": "m", "n_layers": 3, "devices": ["a"], "shards": [], "epoch": 1}
    with pytest.raises(FrameError, match="BadPlan"):
        decode_control(b"C\x01" + msgspec.msgpack.encode({"type": "Plans", "plans": [plan], "models": []}))
    spec = {"requester": "a", "reply_to": "b", "sampling": {"top_p": 7.0}, "eos": [], "prompt_tokens": 1,
            "total_tokens": 2}  # fmt: skip
    step = {**msgspec.to_builtins(STEP, builtin_types=(bytes,)), "spec": spec}
    with pytest.raises(FrameError, match="top_p"):
        decode([b"D\x01", pack(step)])


def test_nesting_without_end_is_refused():
    with pytest.raises(FrameError):
        decode([b"D\x01", b"\x91" * 500_000])
    with pytest.raises(FrameError):
        decode_control(b"C\x01" + b"\x91" * 500_000)


def test_what_is_too_large_is_not_sent(monkeypatch):
    spec = SessionSpec(requester="a", reply_to="b", sampling=SamplingParams(), eos=(), prompt_tokens=1,
                       total_tokens=2, history=(100_000,) * 300_000)  # fmt: skip
    with pytest.raises(FrameError, match="header"):
        encode(msgspec.structs.replace(STEP, spec=spec))
    with pytest.raises(FrameError, match="dimensions"):
        encode(STEP, Tensor("int32", (1, 1, 1, 1, 1), bytes(4)))
    with pytest.raises(FrameError, match="contiguous"):
        encode(STEP, Tensor("int32", (1,), memoryview(bytes(8))[::2]))
    monkeypatch.setattr(frames, "MAX_TENSOR_BYTES", 8)
    with pytest.raises(FrameError, match="at most 8"):
        encode(STEP, Tensor("int32", (3,), bytes(12)))
    monkeypatch.setattr(frames, "MAX_CONTROL_BYTES", 100)
    with pytest.raises(FrameError, match="Plans"):
        encode_control(Plans(plans=(), models=(ModelRef(name="x" * 200, digest=""),)))


@given(st.lists(st.binary(max_size=64), max_size=5), st.booleans())
@settings(deadline=None)
def test_random_parts_are_frames_or_refused(parts, good_head):
    if good_head:
        parts = [bytes((frames.KIND_DATA, PROTOCOL_VERSION)), *parts]
    for decoder, given_parts in ((decode, parts), (decode_control, b"".join(parts))):
        try:
            decoder(given_parts)
        except Malformed as refused:
            assert refused.reason  # noqa: PT017 - not being refused is fine too


def test_a_good_frame_with_any_bytes_changed_is_a_frame_or_refused():
    rng = random.Random(1)
    spec = SessionSpec(requester="a", reply_to="b", sampling=SamplingParams(), eos=(2,), prompt_tokens=1,
                       total_tokens=2, history=(1, 2, 3))  # fmt: skip
    good = [bytes(part) for part in encode(msgspec.structs.replace(STEP, spec=spec), Tensor("int32", (2,), bytes(8)))]
    refused = 0
    for _ in range(5000):
        parts = [bytearray(part) for part in good]
        for _ in range(rng.randint(1, 4)):
            part = rng.choice(parts)
            match rng.randrange(3):
                case 0 if part:
                    part[rng.randrange(len(part))] = rng.randrange(256)
                case 1 if part:
                    del part[rng.randrange(len(part)) :]
                case _:
                    part.insert(rng.randrange(len(part) + 1), rng.randrange(256))
        try:
            decode(parts)
        except Malformed:
            refused += 1
    assert refused > 3000
