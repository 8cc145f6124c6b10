"""Throwing things at live nodes, and what is demanded of them afterwards."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Callable, Sequence

import msgspec
import zmq

from exo_lab.core import messages as msg
from exo_lab.node.node import Node
from exo_lab.node.peers import MAX_MEMBERS
from exo_lab.node.plan_book import MAX_LOADS, MAX_MODELS
from exo_lab.node.problems import MAX_PROBLEMS
from exo_lab.node.shelf import FORGOTTEN_KEPT, MAX_SESSIONS
from exo_lab.transport import exchange, frames
from exo_lab.transport.keys import ClusterKeys
from tests.fuzzing import break_bytes, wrong
from tests.node.clusters import FAST, Cluster, until

# Sessions that fuzzing begins are given up soon, or the next request would find the node full of them.
TIMING = msgspec.structs.replace(FAST, idle_session_s=0.5, send_timeout_s=0.2)
PATIENCE_S = 10.0
LAST = 2**60  # number of the question that comes behind all others
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + bytes(15) + b"\0" + bytes(31)  # ZMTP 3.0, RFC 23

Numbered = Callable[[int], object]


async def still_well(made: Cluster, expected: list[int]) -> None:
    """The demands on every node after whatever it was thrown at."""
    for node in made.nodes:
        pong = await made[0].parts.control.request(node.card.control, msg.Ping(sequence=77), timeout_s=10)
        assert isinstance(pong, msg.Pong)
        assert pong.sequence == 77
        assert len(node.members.peers) <= MAX_MEMBERS
        assert len(node.plans) <= MAX_MODELS
        assert len(node.problems.values()) <= MAX_PROBLEMS
        assert node.stages.session_count <= MAX_SESSIONS
        assert len(node.stages.shelf._ended) <= FORGOTTEN_KEPT
        assert len(node.book._loaded) <= MAX_LOADS
        assert len(node.stats().counters) < 200
        assert node.stats().counters.get("broken", 0) == 0, "a frame was handled by the last resort"
    await until(lambda: len(made[0].members.alive()) >= len(made.nodes) - 1, "they are all there")
    await made.load((2, 2))
    assert await made.answer() == expected
    await made.free_of_sessions()


def strangers_bytes(rng: random.Random) -> bytes:
    """What somebody without the secret may send: noise, half a ZMTP greeting, a whole one with noise behind."""
    match rng.randrange(5):
        case 0:
            return rng.randbytes(rng.randrange(1, 300))
        case 1:
            return GREETING[: rng.randrange(1, len(GREETING))]
        case 2:
            return GREETING.replace(b"CURVE", b"NULL\0") + rng.randbytes(rng.randrange(200))
        case 3:
            return break_bytes(rng, GREETING) + rng.randbytes(rng.randrange(300))
        case _:
            return GREETING + b"\4\xc8\5HELLO" + rng.randbytes(rng.randrange(250))


def knock(addresses: Sequence[str], count: int, seed: int, before: Numbered) -> None:
    """So many connections, each with something else, of which half wait to be thrown out. Blocks."""
    rng = random.Random(seed)
    for number in range(count):
        before(number)
        host, _, port = rng.choice(addresses).removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as made, contextlib.suppress(OSError):
            made.sendall(strangers_bytes(rng))
            if number % 2:
                made.shutdown(socket.SHUT_WR)
                while made.recv(4096):
                    pass


def push_wrong_frames(
    node: Node,
    keys: ClusterKeys,
    seeds: Sequence[tuple[msg.DataMessage, object]],
    count: int,
    seed: int,
    before: Numbered,
) -> None:
    """Wrong data frames through an encrypted socket that is let in, and a Cancel of "last" behind them. Blocks."""
    rng, good = random.Random(seed), [[bytes(part) for part in frames.encode(*one)] for one in seeds]
    with _let_in(zmq.PUSH, node.card.data, keys) as push:
        for number in range(count):
            before(number)
            head, header, *tensor = rng.choice(good)
            if rng.random() < 0.1 and tensor:
                tensor = [rng.randbytes(rng.randrange(len(tensor[0]) + 9))]
            if rng.random() < 0.05:
                head = break_bytes(rng, head)
            if rng.random() < 0.02:
                tensor.append(b"more")
            push.send_multipart([head, wrong(rng, header), *tensor])
        push.send_multipart([bytes(part) for part in frames.encode(msg.Cancel(request="last"))])


def ask_wrong_questions(
    node: Node, keys: ClusterKeys, seeds: Sequence[msg.ControlMessage], count: int, seed: int, before: Numbered
) -> None:
    """Wrong questions likewise; over once a good one behind them was answered. Blocks."""
    rng, good = random.Random(seed), [frames.encode_control(one) for one in seeds]
    with _let_in(zmq.DEALER, node.card.control, keys) as dealer:
        for number in range(count):
            before(number)
            frame = rng.choice(good)
            kind = rng.choice((exchange.ASK_ONE, exchange.ASK_ALL, exchange.STOP))
            head = kind + struct.pack("<Q", number if rng.random() < 0.9 else rng.randrange(LAST))
            parts = [break_bytes(rng, head) if rng.random() < 0.05 else head, frame[:2] + wrong(rng, frame[2:])]
            dealer.send_multipart(parts)
            while dealer.poll(0):
                dealer.recv_multipart()
        last = struct.pack("<Q", LAST)
        dealer.send_multipart([exchange.ASK_ONE + last, frames.encode_control(msg.Ping(sequence=1))])
        while dealer.recv_multipart()[0][1:] != last:
            pass


@contextlib.contextmanager
def _let_in(kind: int, address: str, keys: ClusterKeys):
    context = zmq.Context()
    made = context.socket(kind)
    made.setsockopt(zmq.LINGER, int(PATIENCE_S * 1000))
    for patience in (zmq.SNDTIMEO, zmq.RCVTIMEO):
        made.setsockopt(patience, int(PATIENCE_S * 1000))
    keys.apply_client(made)
    made.connect(address)
    try:
        yield made
    finally:
        made.close()
        context.term()
