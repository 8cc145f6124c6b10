"""What a data port promises, on sockets and on their in-process twin alike."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from exo_lab.core.errors import FrameError, PeerUnreachable, TransportError
from exo_lab.core.messages import Cancel, Step, Token
from exo_lab.core.tensor import Tensor

STEP = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)
WITHIN_S = 10.0


def free_address(network) -> str:
    """Where nobody listens."""
    if network.kind == "memory":
        return "memory://nobody"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_a_frame_arrives_as_it_was_sent(network):
    a, b = network.data("a"), network.data("b")
    raw = bytes(range(24))
    a.send(b.address, STEP, Tensor("float32", (2, 3), raw))
    message, tensor = b.recv(WITHIN_S)
    assert message == STEP
    assert (tensor.dtype, tensor.shape, bytes(tensor.data)) == ("float32", (2, 3), raw)
    b.send(a.address, Token(request="r", position=7, token=9, logprob=-0.5))
    assert a.recv(WITHIN_S) == (Token(request="r", position=7, token=9, logprob=-0.5), None)
    a.close()
    b.close()
    assert (a.stats().frames_out, a.stats().frames_in) == (1, 1)
    assert b.stats().bytes_in == a.stats().bytes_out > 24


def test_frames_of_every_size_keep_their_order(network):
    a, b = network.data("a"), network.data("b")
    sizes = [0, 1, 100, 8_191, 8_192, 70_000, 1 << 20, 3 << 20]
    for size in sizes:
        a.send(b.address, STEP, Tensor("int32", (size,), bytes(4 * size)))
    assert [b.recv(WITHIN_S)[1].nbytes for _ in sizes] == [4 * size for size in sizes]
    a.close()
    b.close()


def test_a_sent_buffer_is_the_senders_again(network):
    a, b = network.data("a"), network.data("b")
    raw = bytearray(4 << 20)
    a.send(b.address, STEP, Tensor("int32", (1 << 20,), raw))
    raw[:] = b"\xff" * len(raw)
    assert bytes(b.recv(WITHIN_S)[1].data) == bytes(len(raw))
    a.close()
    b.close()


def test_received_bytes_outlive_the_port(network):
    a, b = network.data("a"), network.data("b")
    a.send(b.address, STEP, Tensor("int32", (25_000,), b"\x07" * 100_000))
    _, tensor = b.recv(WITHIN_S)
    a.close()
    b.close()
    assert bytes(tensor.data) == b"\x07" * 100_000


def test_nothing_to_receive_is_none_in_time(network):
    port = network.data("a")
    began = time.monotonic()
    assert port.recv(0.0) is None
    assert port.recv(0.05) is None
    assert 0.04 < time.monotonic() - began < 2
    port.close()


def test_a_post_wakes_the_thread_that_waits(network):
    port = network.data("a")
    turns = 200
    answered = threading.Semaphore(0)
    got: list[object] = []

    def work() -> None:
        while len(got) < turns:
            got.append(port.recv(30.0))
            answered.release()

    thread = threading.Thread(target=work)
    thread.start()
    began = time.monotonic()
    for turn in range(turns):
        port.post(("order", turn))
        assert answered.acquire(timeout=WITHIN_S)
    assert time.monotonic() - began < WITHIN_S  # one missed wake-up would cost 30 s
    thread.join(WITHIN_S)
    assert got == [("order", turn) for turn in range(turns)]
    port.close()


def test_posts_from_many_threads_all_arrive_in_each_threads_order(network):
    port = network.data("a")
    threads = [threading.Thread(target=lambda who=who: [port.post((who, n)) for n in range(500)]) for who in range(4)]
    for thread in threads:
        thread.start()
    got = [port.recv(WITHIN_S) for _ in range(2000)]
    for thread in threads:
        thread.join(WITHIN_S)
    for who in range(4):
        assert [n for sender, n in got if sender == who] == list(range(500))
    assert port.recv(0.0) is None
    port.close()


def test_orders_come_before_frames(network):
    a, b = network.data("a"), network.data("b")
    a.send(b.address, Cancel(request="1"))
    a.send(b.address, Cancel(request="2"))
    assert b.recv(WITHIN_S) == (Cancel(request="1"), None)
    b.post("order")
    assert b.recv(WITHIN_S) == "order"
    assert b.recv(WITHIN_S) == (Cancel(request="2"), None)
    a.close()
    b.close()


def test_an_order_that_was_posted_before_a_frame_was_sent_is_taken_first_by_a_thread_that_waits(network):
    """As when a shard is handed over and its first step follows at once."""
    if network.kind == "memory":
        pytest.skip("the twin has no poll: it looks for orders whenever it looks for frames")
    a, b = network.data("a"), network.data("b")
    poller = b._poller

    class Late:
        """While `b` waits, an order is posted and then a frame comes, and both are there when it wakes."""

        def poll(self, wait_ms):
            b._poller = poller
            b.post("order")
            a.send(b.address, Cancel(request="1"))
            assert b._pull.poll(WITHIN_S * 1000)
            return poller.poll(wait_ms)

    b._poller = Late()
    assert b.recv(WITHIN_S) == "order"
    assert b.recv(WITHIN_S) == (Cancel(request="1"), None)
    a.close()
    b.close()


def test_sending_where_nobody_listens_is_unreachable_in_time(network):
    port = network.data("a")
    began = time.monotonic()
    with pytest.raises(PeerUnreachable, match="took no frame"):
        port.send(free_address(network), STEP, timeout_s=0.2)
    assert time.monotonic() - began < 2
    assert port.stats().frames_out == 0
    port.close()


@pytest.mark.parametrize("address", ["", "nonsense", "tcp://*:1", "tcp://127.0.0.1:0", "ipc:///tmp/x", "inproc://zap",
                                     "tcp://127.0.0.1:99999", "tcp://a b:1"])  # fmt: skip
def test_an_address_that_is_none_is_unreachable(network, address):
    port = network.data("a")
    with pytest.raises(PeerUnreachable):
        port.send(address, STEP, timeout_s=0.1)
    port.close()


def test_a_peer_that_takes_nothing_is_unreachable_and_not_waited_for(network):
    a, b = network.data("a", high_water_mark=1), network.data("b", high_water_mark=1)
    tensor = Tensor("float32", (1 << 18,), bytes(1 << 20))
    sent = 0
    with pytest.raises(PeerUnreachable):
        while sent < 200:
            a.send(b.address, STEP, tensor, timeout_s=0.2)
            sent += 1
    assert 0 < sent < 200
    # Once it reads again everything that was accepted arrives, whole, and there is room for more.
    for _ in range(sent):
        assert b.recv(WITHIN_S)[1].nbytes == 1 << 20
    a.send(b.address, Cancel(request="on"))
    assert b.recv(WITHIN_S) == (Cancel(request="on"), None)
    a.close()
    b.close()


def test_a_peer_that_died_becomes_unreachable_and_one_that_returns_is_found(network):
    a, b = network.data("a"), network.data("b")
    a.send(b.address, Cancel(request="1"))
    assert b.recv(WITHIN_S) is not None
    address = b.address
    b.close()
    deadline = time.monotonic() + WITHIN_S
    with pytest.raises(PeerUnreachable):
        while time.monotonic() < deadline:
            a.send(address, Cancel(request="lost"), timeout_s=0.2)
    back = network.data("b") if network.kind == "memory" else network.data("b", port=int(address.rpartition(":")[2]))
    a.send(back.address, Cancel(request="2"), timeout_s=WITHIN_S)
    assert back.recv(WITHIN_S) == (Cancel(request="2"), None)
    a.close()
    back.close()


def test_a_forgotten_address_is_connected_anew(network):
    a, b = network.data("a"), network.data("b")
    a.forget(b.address)
    for turn in range(3):
        a.send(b.address, Cancel(request=str(turn)))
        assert b.recv(WITHIN_S) == (Cancel(request=str(turn)), None)
        a.forget(b.address)
    a.close()
    b.close()


def test_a_frame_beyond_the_limits_is_not_sent_and_one_beyond_the_receivers_is_refused(network):
    a, b = network.data("a"), network.data("b", max_tensor_bytes=1000)
    with pytest.raises(FrameError):
        a.send(b.address, STEP, Tensor("int32", (1,) * 5, bytes(4)))
    a.send(b.address, STEP, Tensor("int32", (300,), bytes(1200)))
    a.send(b.address, STEP, Tensor("int32", (250,), bytes(1000)))
    assert b.recv(WITHIN_S)[1].nbytes == 1000
    assert b.stats().refused == {"tensor too large": 1}
    a.close()
    b.close()


def test_a_closed_port_says_so(network):
    port = network.data("a")
    port.close()
    port.close()
    port.post("nobody reads this")
    with pytest.raises(TransportError, match="closed"):
        port.send("tcp://127.0.0.1:9", STEP)
    assert port.recv(0.0) == "nobody reads this"
    with pytest.raises(TransportError, match="closed"):
        port.recv(0.0)
