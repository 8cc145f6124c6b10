"""Bent and broken frames at the codec and at the door: a message, or refused with a fixed reason, nothing else."""

from __future__ import annotations

import random

import msgspec
import zmq
from zmq.utils import z85

from exo_lab.core import messages as msg
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.transport import frames
from exo_lab.transport.keys import ZAP_DOMAIN, ClusterKeys, new_token
from exo_lab.transport.zap import MAX_ADDRESSES, ZAP_ENDPOINT, Doorkeeper
from tests.fuzzing import FRAMES, ODD_VALUES, Steady, break_bytes, wrong

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
    rng, steady = random.Random(11), Steady()
    refused: dict[str, int] = {}
    for number in range(FRAMES):
        steady.frame(number)
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
    steady.check()
    assert {"header", "kind"} <= refused.keys() <= REASONS
    assert max(refused.values()) < 1000  # a text does not repeat what a peer sent without end


def test_any_wrong_control_frame_is_a_message_or_malformed():
    rng, steady = random.Random(12), Steady()
    refused: dict[str, int] = {}
    for number in range(FRAMES):
        steady.frame(number)
        frame = frames.encode_control(rng.choice(CONTROL))
        try:
            message = frames.decode_control(frame[:2] + wrong(rng, frame[2:]))
        except frames.Malformed as exc:
            refused[exc.reason] = max(refused.get(exc.reason, 0), len(str(exc)))
            continue
        assert type(message).__name__ in msg.__dict__
    steady.check()
    assert refused.keys() == {"contents"}
    assert refused["contents"] < 1000


def test_wrong_requests_to_the_doorkeeper_admit_nobody_and_do_not_end_it():
    keys, context = ClusterKeys.from_token(new_token()), zmq.Context()
    door = Doorkeeper(context, keys)
    asker = context.socket(zmq.DEALER)
    asker.setsockopt(zmq.LINGER, 0)
    asker.setsockopt(zmq.RCVTIMEO, 10_000)
    asker.connect(ZAP_ENDPOINT)
    good = [b"1.0", b"1", ZAP_DOMAIN, b"10.0.0.9", b"", b"CURVE", z85.decode(keys.client_public)]
    rng, steady = random.Random(13), Steady()
    try:
        for number in range(FRAMES):
            steady.frame(number)
            request = [*good[:3], b"10.0.%d.%d" % divmod(rng.randrange(2**16), 256), *good[4:]]
            victim = rng.choice((0, 2, 5, 6))
            request[victim] = rng.randbytes(rng.randrange(40)) if rng.random() < 0.5 else b"x" + request[victim][1:]
            if rng.random() < 0.2:
                request = [break_bytes(rng, part) for part in request[: rng.randrange(1, 7)]]
            asker.send_multipart([b"", *request, *[b"more"] * rng.choice((0, 0, 0, 9))])
            _, _version, _sequence, status, *_ = asker.recv_multipart()
            assert status == b"400"
        steady.check()
        asker.send_multipart([b"", *good])
        assert asker.recv_multipart()[3] == b"200"
        stats = door.stats()
        assert (stats.admitted, stats.rejected) == (1, FRAMES)
        assert len(stats.rejected_by_address) <= MAX_ADDRESSES + 1
    finally:
        asker.close()
        assert door.stop()
        context.term()
