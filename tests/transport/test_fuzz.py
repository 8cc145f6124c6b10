"""Bent and broken frames at the codec: every one is a message or a `Malformed` with a fixed reason, nothing else."""

from __future__ import annotations

import random

import msgspec

from exo_lab.core import messages as msg
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.transport import frames
from tests.fuzzing import FRAMES, ODD_VALUES, wrong

SPEC = msg.SessionSpec(
    requester="a", reply_to="tcp://127.0.0.1:1", sampling=SamplingParams(), eos=(2,), prompt_tokens=3, total_tokens=6
)
PLAN = plan_from_counts("m", ("a", "b"), (2, 3))
DATA = [
    msg.Step(request="r", model="m", epoch=1, proposer="a", stage=0, position=0, spec=SPEC),
    msg.Token(request="r", position=3, token=5, logprob=-0.5, alternatives=((1, -0.1),)),
    msg.Cancel(request="r"),
    msg.Failed(request="r", error="NodeLost", message="x", node="y"),
]
CONTROL = [
    msg.Ping(sequence=1, payload=b"x"),
    msg.Collect(visited=("a",)),
    msg.LoadShard(plan=PLAN, stage=1, model=msg.ModelRef(name="m", digest="d")),
    msg.Plans(plans=(PLAN,), models=(msg.ModelRef(name="m", digest="d"),)),
    msg.Stats(counters={"a": 1}),
]
REASONS = {
    "number of parts", "kind", "protocol version", "header too large", "header", "tensor missing", "tensor too large",
    "dtype", "tensor size", "contents", "message too large",
}  # fmt: skip


def test_any_wrong_data_frame_is_a_message_or_malformed():
    rng = random.Random(11)
    refused: dict[str, int] = {}
    for _ in range(FRAMES):
        head, packed = (bytes(part) for part in frames.encode(rng.choice(DATA)))
        header = msgspec.msgpack.decode(packed)
        if rng.random() < 0.5:
            header = [
                header[0],
                rng.choice(("float32", "int32", "float128", *ODD_VALUES)),
                rng.choice(([2, 2], [4], *ODD_VALUES)),
            ]
        parts = [head, wrong(rng, msgspec.msgpack.encode(header)), rng.randbytes(16)][: rng.choice((2, 3, 3))]
        if rng.random() < 0.1:
            parts[0] = wrong(rng, msgspec.msgpack.encode([1, 2]))[: rng.randrange(4)]
        try:
            message, tensor = frames.decode(parts)
        except frames.Malformed as exc:
            refused[exc.reason] = max(refused.get(exc.reason, 0), len(str(exc)))
            continue
        assert isinstance(message, msg.Step | msg.Token | msg.Cancel | msg.Failed)
        assert tensor is None or tensor.nbytes == 16
    assert {"header", "kind"} <= refused.keys() <= REASONS
    assert max(refused.values()) < 1000  # a text does not repeat what a peer sent without end


def test_any_wrong_control_frame_is_a_message_or_malformed():
    rng = random.Random(12)
    refused: dict[str, int] = {}
    for _ in range(FRAMES):
        frame = frames.encode_control(rng.choice(CONTROL))
        try:
            message = frames.decode_control(frame[:2] + wrong(rng, frame[2:]))
        except frames.Malformed as exc:
            refused[exc.reason] = max(refused.get(exc.reason, 0), len(str(exc)))
            continue
        assert type(message).__name__ in msg.__dict__
    assert refused.keys() == {"contents"}
    assert refused["contents"] < 1000
