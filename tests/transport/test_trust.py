"""Who holds the token is in; everybody else learns nothing, changes nothing, and is counted (law 5)."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time

import msgspec
import pytest
import zmq

from exo_lab.core.errors import ConfigError, PeerUnreachable, TransportError
from exo_lab.core.messages import Cancel, Ping, Pong, Step
from exo_lab.core.tensor import Tensor
from exo_lab.transport.exchange import ASK_ONE, HEAD_BYTES
from exo_lab.transport.frames import encode, encode_control
from exo_lab.transport.keys import ClusterKeys, new_token
from exo_lab.transport.secure import SecureContext
from exo_lab.transport.sockets import bind
from exo_lab.transport.zap import HANDSHAKE, WRONG_KEY
from tests.waiting import eventually

WITHIN_S = 10.0
STEP = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)


async def echo(message):
    yield Pong(sequence=message.sequence)


class Stranger:
    """Knocks from a ZeroMQ context of its own, with whatever keys."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.sockets: list[zmq.Socket] = []

    def socket(self, kind):
        self.sockets.append(self.context.socket(kind))
        self.sockets[-1].setsockopt(zmq.LINGER, 0)
        return self.sockets[-1]

    def knock(self, address, kind, keys=None):
        """A socket that connects with these keys, or with none."""
        made = self.socket(kind)
        made.setsockopt(zmq.IMMEDIATE, 1)
        made.setsockopt(zmq.RCVHWM, 0)
        if keys is not None:
            keys.apply_client(made)
        made.connect(address)
        return made

    def close(self) -> None:
        for made in self.sockets:
            made.close()
        self.context.term()


@pytest.fixture
def stranger():
    made = Stranger()
    yield made
    made.close()


def impostor(token: str) -> ClusterKeys:
    """Knows the cluster's public server key, but has a client key of its own."""
    other = ClusterKeys.from_token(new_token())
    return msgspec.structs.replace(
        ClusterKeys.from_token(token), client_public=other.client_public, client_secret=other.client_secret
    )


@pytest.mark.parametrize("who", ["another token", "no key", "another client key"])
def test_a_stranger_gets_no_answer_and_is_counted(sockets, stranger, who):
    keys, reason = {
        "another token": (ClusterKeys.from_token(new_token()), HANDSHAKE),
        "no key": (None, HANDSHAKE),
        "another client key": (impostor(sockets.token), WRONG_KEY),
    }[who]
    node = sockets.context()
    data, control = node.data(), node.control()
    push = stranger.knock(data.address, zmq.PUSH, keys)
    dealer = stranger.knock(control.address, zmq.DEALER, keys)
    assert eventually(lambda: node.stats().door.by_reason.get(reason, 0) >= 2)
    assert push.poll(0, zmq.POLLOUT) == 0  # never connected, so nothing can even be sent
    assert dealer.poll(0, zmq.POLLOUT | zmq.POLLIN) == 0
    door = node.stats().door
    assert door.admitted == 0
    assert set(door.by_reason) == {reason}
    assert door.rejected_by_address == ({"127.0.0.1": door.rejected} if reason == WRONG_KEY else {})
    assert node.refused()[reason] == door.rejected >= 2
    assert data.recv(0.0) is None
    data.close()
    assert node.close()  # the control port, which nobody runs, is closed on the way


def test_the_ports_of_another_cluster_are_out_of_reach(sockets):
    ours = sockets.context()
    theirs = sockets.context(new_token())
    data = ours.data()
    foreign = theirs.data()

    async def scenario() -> None:
        answering, asking = ours.control(), theirs.control()
        await answering.start(echo)
        with pytest.raises(PeerUnreachable, match="same token"):
            await asking.request(answering.address, Ping(sequence=1), timeout_s=0.3)
        assert answering.stats().answered == 0
        await asking.close()
        await answering.close()

    asyncio.run(scenario())
    with pytest.raises(PeerUnreachable, match="same token"):
        foreign.send(data.address, STEP, timeout_s=0.3)
    assert data.recv(0.0) is None
    assert ours.stats().door.rejected > 0
    data.close()
    foreign.close()


def test_who_has_the_token_is_admitted_and_counted(sockets):
    node = sockets.context()
    data, friend = node.data(), sockets.data("friend")
    friend.send(data.address, Cancel(request="1"))
    assert data.recv(WITHIN_S) == (Cancel(request="1"), None)
    assert (node.stats().door.admitted, node.stats().door.rejected) == (1, 0)
    data.close()


def test_without_a_doorkeeper_nobody_is_admitted(stranger):
    keys = ClusterKeys.from_token(new_token())
    pull = stranger.socket(zmq.PULL)
    keys.apply_server(pull)
    push = stranger.knock(bind(pull, "127.0.0.1"), zmq.PUSH, keys)
    assert push.poll(300, zmq.POLLOUT) == 0


def test_random_bytes_on_the_ports_crash_nothing(sockets):
    rng = random.Random(2)
    node = sockets.context()
    data, friend = node.data(), sockets.data("friend")

    async def scenario() -> None:
        control = node.control()
        await control.start(echo)
        for address in (data.address, control.address) * 15:
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5) as raw:
                greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" if rng.random() < 0.5 else b""
                raw.sendall(greeting + rng.randbytes(rng.randint(0, 5000)))
        asker = sockets.control("asker")
        assert await asker.request(control.address, Ping(sequence=5), timeout_s=WITHIN_S) == Pong(sequence=5)
        await asker.close()
        await control.close()

    asyncio.run(scenario())
    friend.send(data.address, STEP, Tensor("int32", (1,), bytes(4)), timeout_s=WITHIN_S)
    assert data.recv(WITHIN_S)[0] == STEP
    assert data.stats().frames_in == 1
    data.close()


def hostile_frames(count: int) -> list[list[bytes]]:
    """Frames for a data port of which each one is wrong."""
    rng = random.Random(3)
    good = [bytes(part) for part in encode(STEP, Tensor("int32", (2,), bytes(8)))]
    makers = (
        lambda: [rng.randbytes(rng.randint(0, 40)) for _ in range(rng.randint(1, 6))],
        lambda: good[:1],
        lambda: good[:2],
        lambda: [*good, b"more"],
        lambda: [*good[:2], rng.randbytes(rng.randint(9, 5000))],
        lambda: [b"D\x02", *good[1:]],
        lambda: [b"C\x01", *good[1:]],
        lambda: [good[0], good[1][: rng.randrange(len(good[1]))], good[2]],
        lambda: [good[0], b"\x91" * rng.randint(1, 5000)],
        lambda: [good[0], bytes((1 << 20) + 1)] if rng.random() < 0.05 else [b""],
    )
    return [makers[n % len(makers)]() for n in range(count)]


def test_two_thousand_wrong_frames_with_the_right_secret_are_refused_and_counted(sockets, stranger):
    node = sockets.context()
    data = node.data()
    push = stranger.knock(data.address, zmq.PUSH, ClusterKeys.from_token(sockets.token))
    frames = hostile_frames(2000)

    def send() -> None:
        for parts in frames:
            push.send_multipart(parts)
        push.send_multipart(encode(Cancel(request="good")))

    sender = threading.Thread(target=send)
    sender.start()
    assert data.recv(WITHIN_S) == (Cancel(request="good"), None)
    sender.join(WITHIN_S)
    stats = data.stats()
    assert stats.frames_in == 1
    assert sum(stats.refused.values()) == 2000
    assert set(stats.refused) == {
        "number of parts", "kind", "protocol version", "header", "header too large", "tensor size", "tensor missing",
    }  # fmt: skip
    assert node.refused() == stats.refused
    data.close()


def test_two_thousand_wrong_packets_with_the_right_secret_leave_the_control_port_working(sockets, stranger):
    rng = random.Random(4)
    head = ASK_ONE + bytes(HEAD_BYTES - 1)
    good = encode_control(Ping(sequence=1))
    makers = (
        lambda n: [rng.randbytes(rng.randint(0, 40)) for _ in range(rng.choice((1, 3, 4, 9)))],
        lambda n: [rng.randbytes(rng.choice((0, 1, 8, 10, 300))), good],
        lambda n: [b"?" + n.to_bytes(8, "little"), good],
        lambda n: [ASK_ONE + n.to_bytes(8, "little"), rng.randbytes(rng.randint(0, 300))],
        lambda n: [ASK_ONE + n.to_bytes(8, "little"), good[:-1]],
        lambda n: [ASK_ONE + n.to_bytes(8, "little"), b"C\x09" + good[2:]],
        lambda n: [ASK_ONE + n.to_bytes(8, "little"), b"C\x01" + b"\x91" * rng.randint(1, 2000)],
    )
    node = sockets.context()

    async def scenario() -> None:
        control, asker = node.control(), sockets.control("asker")
        await control.start(echo)
        dealer = stranger.knock(control.address, zmq.DEALER, ClusterKeys.from_token(sockets.token))

        def send() -> None:
            for n in range(2000):
                dealer.send_multipart(makers[n % len(makers)](n))
            dealer.send_multipart([head, good])

        await asyncio.to_thread(send)
        assert await asker.request(control.address, Ping(sequence=5), timeout_s=WITHIN_S) == Pong(sequence=5)
        async with asyncio.timeout(WITHIN_S):
            while sum(control.stats().refused.values()) < 2000:
                await asker.request(control.address, Ping(sequence=6), timeout_s=WITHIN_S)
        assert sum(control.stats().refused.values()) == 2000
        assert {"packet", "kind", "protocol version", "contents"} <= set(control.stats().refused)
        await asker.close()
        await control.close()

    asyncio.run(scenario())


def test_a_version_mismatch_is_told_to_who_asked(sockets, stranger):
    async def scenario() -> None:
        control = sockets.control("new")
        await control.start(echo)
        dealer = stranger.knock(control.address, zmq.DEALER, ClusterKeys.from_token(sockets.token))
        dealer.send_multipart([ASK_ONE + bytes(8), b"C\x02" + encode_control(Ping(sequence=1))[2:]])
        assert await asyncio.to_thread(dealer.poll, WITHIN_S * 1000)
        assert b"speaks protocol 2, this node speaks 1; update exo_lab on the older one" in dealer.recv_multipart()[1]
        await control.close()

    asyncio.run(scenario())


def test_closing_frees_threads_and_ports_and_may_be_repeated(sockets):
    before = set(threading.enumerate())
    node = sockets.context()
    data, control = node.data(), node.control()
    began = time.monotonic()
    assert node.close()
    assert node.close()
    assert time.monotonic() - began < 2
    assert set(threading.enumerate()) <= before
    assert data.closed
    assert control.closed
    for address in (data.address, control.address):
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", int(address.rpartition(":")[2])))
    with pytest.raises(TransportError, match="closed"):
        node.data()


def test_closing_under_a_thread_that_still_works_neither_hangs_nor_crashes(sockets):
    node = sockets.context()
    data = node.data()
    ended: list[Exception] = []

    def work() -> None:
        try:
            while True:
                data.recv(30.0)
        except TransportError as exc:
            ended.append(exc)
        finally:
            data.close()

    worker = threading.Thread(target=work)
    worker.start()
    data.post("hello")
    assert node.close()
    worker.join(WITHIN_S)
    assert not worker.is_alive()
    assert "closed" in str(ended[0])


def test_a_weak_token_makes_no_context():
    with pytest.raises(ConfigError, match="at least 32"):
        SecureContext("hunter2")


def test_a_port_or_host_that_cannot_be_had_is_named(sockets):
    node = sockets.context()
    taken = node.data()
    port = int(taken.address.rpartition(":")[2])
    with pytest.raises(TransportError, match=f"port {port}"):
        node.control(port=port)
    with pytest.raises(TransportError, match=r"192\.0\.2\.7"):
        node.data("192.0.2.7")
    taken.close()


def test_ports_listen_on_loopback_unless_told_otherwise(sockets):
    node = sockets.context()
    default, everywhere = node.data(), node.data("0.0.0.0")
    assert default.address.startswith("tcp://127.0.0.1:")
    assert "0.0.0.0" not in everywhere.address  # an address that others can use
    default.send(everywhere.address, Cancel(request="1"), timeout_s=WITHIN_S)
    assert everywhere.recv(WITHIN_S) == (Cancel(request="1"), None)
    default.close()
    everywhere.close()


def test_ipv6_works_where_the_machine_has_it(sockets):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    node = sockets.context()
    a, b = node.data("::1"), node.data("[::1]")
    assert a.address.startswith("tcp://[::1]:")
    a.send(b.address, Cancel(request="6"), timeout_s=WITHIN_S)
    assert b.recv(WITHIN_S) == (Cancel(request="6"), None)
    a.close()
    b.close()
