"""Tensors beside the socket: between two processes and two ports, and what is left when one of them dies."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import PeerUnreachable
from exo_lab.core.messages import Cancel, Step
from exo_lab.core.tensor import Tensor
from exo_lab.transport import shared_block, shared_memory
from exo_lab.transport.frames import Malformed, decode, encode
from exo_lab.transport.keys import new_token
from exo_lab.transport.ring_block import HEADER_BYTES, Ring
from exo_lab.transport.secure import SecureContext
from exo_lab.transport.shared_memory import SharedMemory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux'")

STEP = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)
WITHIN_S = 10.0
LARGE = Tensor("float32", (256, 576), os.urandom(256 * 576 * 4))
ECHO = """
import sys
from exo_lab.core.messages import Cancel
from exo_lab.transport.secure import SecureContext
context = SecureContext(sys.argv[1])
port = context.data()
print(port.address, flush=True)
while True:
    item = port.recv(30.0)
    if item is None or isinstance(item[0], Cancel) and item[0].request == "end":
        break
    port.send(sys.argv[2], *item)
    print(port.stats().shared_in, port.stats().shared_out, flush=True)
port.close()
context.close()
"""


def blocks_of(pid: int) -> int:
    """How many of our blocks a process maps or holds open."""
    mapped = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count(f"/memfd:{shared_block.NAME}")
    files = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]
    return mapped + sum(one.startswith(f"/memfd:{shared_block.NAME}") for one in files)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S:g} s: {what}"
        time.sleep(0.005)


def acquainted(a, b) -> None:
    """Frames until a's tensors for b go through shared memory."""

    def known() -> bool:
        a.send(b.address, STEP, LARGE)
        b.recv(WITHIN_S)
        return a.shares_memory(b.address)

    until(known, "the ring is in use")


@pytest.fixture
def quick_sweeps(monkeypatch):
    monkeypatch.setattr(shared_memory, "SWEEP_S", 0.0)


def test_large_tensors_go_through_shared_memory_and_arrive_bit_for_bit(sockets):
    a, b = sockets.data("a"), sockets.data("b")
    acquainted(a, b)
    before = a.stats().shared_out
    for size in (1, 100, 4096, 70_000, 1 << 20, 3 << 20):
        tensor = Tensor("int32", (size,), os.urandom(4 * size))
        a.send(b.address, STEP, tensor)
        message, got = b.recv(WITHIN_S)
        assert (message, got.dtype, got.shape) == (STEP, tensor.dtype, tensor.shape)
        assert bytes(got.data) == bytes(tensor.data)
    # The three small ones travelled with their frames: 4, 400 and 16,384 bytes, of which the last is large enough.
    assert a.stats().shared_out - before == 4
    assert b.stats().shared_in == a.stats().shared_out
    assert b.stats().refused == {}
    assert not b.shares_memory(a.address)  # each direction has a ring of its own, and b has sent nothing


def test_frames_keep_their_order_whichever_way_their_tensors_go(sockets):
    a, b = sockets.data("a"), sockets.data("b")
    a._side = SharedMemory(capacity_bytes=1 << 20)  # too small for some, and soon full
    acquainted(a, b)
    sizes = [1, 100_000, 300_000, 5, 200_000, 50_000, 100_000, 3, 8]
    for position, size in enumerate(sizes):
        a.send(b.address, msgspec.structs.replace(STEP, position=position), Tensor("int32", (size,), bytes(4 * size)))
    came = [b.recv(WITHIN_S) for _ in sizes]
    assert [(message.position, tensor.shape[0]) for message, tensor in came] == list(enumerate(sizes))
    assert 0 < a.stats().shared_out < len(sizes) + 10
    assert b.stats().refused == {}


def test_a_received_tensor_stays_as_it_was_while_the_ring_goes_on(sockets):
    a, b = sockets.data("a"), sockets.data("b")
    acquainted(a, b)
    a.send(b.address, STEP, Tensor("int32", (50_000,), b"\x01" * 200_000))
    first = b.recv(WITHIN_S)[1]
    for _ in range(5):
        a.send(b.address, STEP, Tensor("int32", (50_000,), b"\x02" * 200_000))
        b.recv(WITHIN_S)
    assert bytes(first.data) == b"\x01" * 200_000


@pytest.mark.parametrize("off", ["a", "b"])
def test_where_one_side_does_not_want_it_everything_goes_through_the_socket(sockets, off):
    a = sockets.data("a", side=SharedMemory(enabled=off != "a"))
    b = sockets.data("b", side=SharedMemory(enabled=off != "b"))
    for _ in range(5):
        a.send(b.address, STEP, LARGE)
        assert bytes(b.recv(WITHIN_S)[1].data) == bytes(LARGE.data)
    assert a.stats().shared_out == b.stats().shared_in == 0
    assert not a.shares_memory(b.address)
    assert a.stats().refused == b.stats().refused == {}


@pytest.mark.parametrize("missing", ["create", "open_of", "Process"])
def test_where_the_system_cannot_it_goes_through_the_socket(sockets, monkeypatch, missing):
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(shared_block, missing, refuse)
    a, b = sockets.data("a"), sockets.data("b")
    for _ in range(3):
        a.send(b.address, STEP, LARGE)
        assert b.recv(WITHIN_S)[1].nbytes == LARGE.nbytes
    assert not a.shares_memory(b.address)
    assert a.stats().refused == b.stats().refused == {}


def test_a_reader_that_cannot_be_watched_gets_everything_through_the_socket(monkeypatch):
    a, b, _ = met()
    a.forget("b")
    frame = encode(STEP, LARGE)
    offer = a.sent("b", frame)
    assert offer is not None
    b.unpack(offer)

    def refuse(_: int) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(shared_block, "Process", refuse)
    for _ in range(3):
        assert a.pack("b", frame) is frame
        assert a.sent("b", frame) is None
    a.close()
    b.close()


@pytest.mark.parametrize(("value", "expected"), [("off", False), ("0", False), ("", True), ("on", True)])
def test_the_user_can_switch_it_off(monkeypatch, value, expected):
    monkeypatch.setenv(shared_memory.SWITCH, value)
    assert shared_memory.wanted() is expected


def test_blocks_have_no_name_and_are_freed_with_the_ports(sockets, quick_sweeps):
    gc.collect()
    before = blocks_of(os.getpid())
    a, b = sockets.data("a"), sockets.data("b")
    acquainted(a, b)
    assert blocks_of(os.getpid()) > before
    assert not list(Path("/dev/shm").glob("*exo*"))
    a.forget(b.address)
    b.recv(0.0)
    b.recv(0.0)
    b.recv(0.0)
    until(lambda: blocks_of(os.getpid()) == before, "both let go of it")
    acquainted(a, b)  # and a new one is made when it is needed
    a.close()
    b.close()
    assert blocks_of(os.getpid()) == before


def test_a_reader_that_closed_is_noticed_and_the_next_one_gets_a_new_ring(sockets):
    a, b = sockets.data("a"), sockets.data("b")
    acquainted(a, b)
    address = b.address
    b.close()
    until(lambda: not _reaches(a, address), "b is gone")
    back = sockets.data("b", port=int(address.rpartition(":")[2]))
    until(lambda: _reaches(a, address), "it is back")
    acquainted(a, back)
    assert back.stats().refused == {}


def _reaches(port, address: str) -> bool:
    try:
        port.send(address, STEP, LARGE, timeout_s=0.1)
    except PeerUnreachable:
        return False
    return True


def started(token: str, address: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", ECHO, token, address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_two_processes_share_memory_and_a_killed_one_leaves_nothing(quick_sweeps):
    token = new_token()
    context = SecureContext(token)
    port = context.data()
    gc.collect()
    before = blocks_of(os.getpid())
    process, address = started(token, port.address)
    assert process.stdout is not None
    try:
        told = "0 0"
        for _ in range(20):
            port.send(address, STEP, LARGE)
            message, tensor = port.recv(WITHIN_S)
            assert message == STEP
            assert bytes(tensor.data) == bytes(LARGE.data)
            told = process.stdout.readline().strip()
        assert "0" not in told.split(), "both directions went through shared memory"
        assert port.stats().shared_in > 0
        assert blocks_of(process.pid) > 0
        process.send_signal(signal.SIGKILL)
        process.wait(WITHIN_S)

        # Its rings are let go of at the next looks, ours for it when the next tensor would go there.
        def noticed() -> bool:
            port.recv(0.0)
            _reaches(port, address)
            return blocks_of(os.getpid()) == before

        until(noticed, "nothing of the dead one's is mapped any more")
        assert not list(Path("/dev/shm").glob("*exo*"))
        assert port.stats().refused == {}
    finally:
        process.kill()
        process.wait(WITHIN_S)
        process.stdout.close()
        port.close()
        assert context.close()


# -- what a member could send ---------------------------------------------------------------------------------


def met() -> tuple[SharedMemory, SharedMemory, list]:
    """Two ends without sockets, and the packed frame of a large tensor."""
    a, b = SharedMemory(), SharedMemory()
    frame = encode(STEP, LARGE)
    offer = a.sent("b", frame)
    assert offer is not None
    assert b.unpack(offer) is None
    assert a.sent("b", offer) is None
    packed = a.pack("b", frame)
    assert packed is not frame
    return a, b, packed


def test_a_ticket_stands_for_the_tensor():
    a, b, packed = met()
    assert sum(map(len, packed)) < 1000
    message, tensor = decode(b.unpack(packed))
    assert (message, bytes(tensor.data)) == (STEP, bytes(LARGE.data))
    a.close()
    b.close()


def test_tickets_that_are_wrong_are_refused_and_change_nothing():
    a, b, packed = met()
    head, header, ticket = packed
    ring, rest = ticket[:16], ticket[16:]
    wrong = [
        [head, header],
        [head, header, b""],
        [head, header, ticket + b"\0"],
        [head, header, bytes(16) + rest],
        [head, header, ring + bytes(16)],
        [head, header, ring + b"\xff" * 16],
        [head, header, ticket, ticket],
        [head],
    ]
    for parts in wrong:
        with pytest.raises(Malformed):
            b.unpack(parts)
    assert bytes(decode(b.unpack(packed))[1].data) == bytes(LARGE.data)
    a.close()
    b.close()


def test_an_offer_opens_nothing_but_a_sealed_block_of_this_user(tmp_path):
    """Numbers of a process and a file come from a peer; whatever else they name stays untouched."""
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(8192))
    os.mkfifo(tmp_path / "fifo")
    unsealed = os.memfd_create(shared_block.NAME, os.MFD_CLOEXEC)
    os.ftruncate(unsealed, 8192)
    fds = [
        os.open(plain, os.O_RDWR),
        os.open(tmp_path / "fifo", os.O_RDWR),
        os.open("/dev/zero", os.O_RDWR),
        unsealed,
        1 << 20,
    ]
    for fd in fds:
        with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
            shared_block.open_of(os.getpid(), fd, 8192)
    block = shared_block.create(8192)
    with pytest.raises(OSError, match="sealed block of 4096 bytes"):
        shared_block.open_of(os.getpid(), block.fd, 4096)
    with pytest.raises(OSError):  # noqa: PT011
        os.ftruncate(block.fd, 0)  # or a reader would die of it
    shared_block.open_of(os.getpid(), block.fd, 8192).close()
    block.close()
    for fd in fds[:4]:
        os.close(fd)


def test_an_offer_is_believed_only_if_the_block_says_the_same():
    a, b = SharedMemory(), SharedMemory()
    offer = a.sent("b", encode(Cancel(request="x")))
    assert offer is not None
    fields = msgspec.msgpack.decode(offer[1])
    for changed in ([bytes(16), *fields[1:]], [*fields[:2], 1, *fields[3:]], [*fields[:4], fields[4] * 2]):
        assert b.unpack([offer[0], msgspec.msgpack.encode(changed)]) is None
    assert b._incoming == {}
    for rubbish in (
        b"",
        b"\xff" * 40,
        msgspec.msgpack.encode(fields[:4]),
        msgspec.msgpack.encode([*fields[:2], -1, 0, 0]),
    ):
        with pytest.raises(Malformed):
            b.unpack([offer[0], rubbish])
    a.close()
    b.close()


def test_the_same_offer_twice_leaves_the_ring_open():
    a, b = SharedMemory(), SharedMemory()
    frame = encode(STEP, LARGE)
    offer = a.sent("b", frame)
    for _ in range(2):
        assert b.unpack(offer) is None
    for _ in range(3):
        packed = a.pack("b", frame)
        assert packed is not frame
        a.sent("b", packed)
        assert bytes(decode(b.unpack(packed))[1].data) == bytes(LARGE.data)
    assert a.carries("b")
    a.close()
    b.close()


def test_an_offer_that_names_another_ring_than_the_blocks_own_leaves_that_one_open():
    a, b, packed = met()
    (lane,) = a._outgoing.values()
    other = shared_block.create(HEADER_BYTES + 64 * 1024)
    ring = Ring.made_in(memoryview(other.map))
    offer = [bytes(range(16)), bytes(16), os.getpid(), other.fd, HEADER_BYTES + 64 * 1024]
    assert b.unpack([b"O" + packed[0][1:], msgspec.msgpack.encode(offer)]) is None
    assert not ring.reader_left
    assert lane.open()
    ring.release()
    other.close()
    a.close()
    b.close()


def test_a_reader_that_says_it_is_a_process_that_cannot_be_gets_everything_through_the_socket():
    a, b = SharedMemory(), SharedMemory()
    frame = encode(STEP, LARGE)
    b.unpack(a.sent("b", frame))
    (lane,) = a._outgoing.values()
    lane.ring.answer(lane.answer, (1 << 64) - 1)
    assert a.pack("b", frame) is frame
    assert not a.carries("b")
    a.close()
    b.close()


@given(
    st.sampled_from([b"O\x01", b"T\x01", b"D\x01", b"", b"O"]),
    st.lists(st.binary(max_size=80), max_size=3),
    st.booleans(),
)
def test_any_wrong_frame_is_passed_on_or_ignored_or_refused(head, rest, of_a_known_ring):
    a, b, packed = met()
    if of_a_known_ring and rest:
        rest[-1] = packed[2][:16] + rest[-1]
    with contextlib.suppress(Malformed):
        assert b.unpack([head, *rest]) in (None, [head, *rest])
    a.close()
    b.close()


def test_tickets_lost_with_a_connection_do_not_fill_the_ring_for_ever():
    a, b = SharedMemory(capacity_bytes=1 << 20), SharedMemory()
    frame = encode(STEP, LARGE)
    offer = a.sent("b", frame)
    assert offer is not None
    b.unpack(offer)
    a.sent("b", offer)
    while (packed := a.pack("b", frame)) is not frame:  # none of them arrives
        a.sent("b", packed)
    skip = a.sent("b", frame)  # this one went through the socket
    assert skip is not None
    assert a.sent("b", skip) is None
    assert b.unpack(skip) is None
    packed = a.pack("b", frame)
    assert packed is not frame
    assert bytes(decode(b.unpack(packed))[1].data) == bytes(LARGE.data)
    a.close()
    b.close()
