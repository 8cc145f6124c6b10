"""The laws of a ring in shared memory: what was put is taken, whole and in order, or refused; never anything else."""

from __future__ import annotations

import random
import threading
import time
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.transport.frames import Malformed
from exo_lab.transport.ring_block import ALIGNMENT, HEADER_BYTES, Reader, Ring, Span, Writer, record_bytes

CAPACITY = 16 * ALIGNMENT


def made(capacity: int = CAPACITY) -> tuple[Ring, Writer, Reader]:
    memory = bytearray(HEADER_BYTES + capacity)
    ring = Ring.made_in(memoryview(memory))
    return ring, Writer(ring), Reader(Ring(memoryview(memory)))


def put(writer: Writer, payload: bytes) -> Span:
    span = writer.put(payload)
    assert span is not None
    writer.commit()
    return span


@given(st.lists(st.one_of(st.none(), st.integers(1, CAPACITY)), max_size=60), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_whatever_is_put_and_taken_in_turn_arrives_whole_and_in_order(steps, rng):
    """A number puts so many bytes, None takes what waits longest."""
    _, writer, reader = made()
    waiting: deque[tuple[Span, bytes]] = deque()
    for size in steps:
        if size is None:
            if waiting:
                span, payload = waiting.popleft()
                assert reader.take(span) == payload
            continue
        payload = rng.randbytes(size)
        span = writer.put(payload)
        if span is None:
            # Refused only for want of room: with what waits (and the gap before a record that must not wrap).
            assert waiting or record_bytes(size) > CAPACITY
            continue
        if rng.random() < 0.8:  # else the frame could not be sent, and the next one takes its place
            writer.commit()
            waiting.append((span, payload))
    for span, payload in waiting:
        assert reader.take(span) == payload


def test_an_empty_ring_takes_whatever_it_could_hold_wherever_it_stands():
    _, writer, reader = made()
    largest = CAPACITY - 24
    for size in (1, largest, 100, largest, largest):
        assert reader.take(put(writer, bytes(size))) == bytes(size)
    assert writer.put(bytes(largest + 1)) is None


def test_a_quiet_ring_uses_the_same_memory_again_and_again():
    _, writer, reader = made()
    offsets = set()
    for _ in range(50):
        span = put(writer, b"x" * 200)
        offsets.add(span.position % CAPACITY)
        reader.take(span)
    assert offsets == {0}


def test_a_full_ring_refuses_and_takes_again_once_something_was_read():
    _, writer, reader = made()
    spans = []
    while (span := writer.put(b"y" * 100)) is not None:
        writer.commit()
        spans.append(span)
    assert len(spans) == CAPACITY // record_bytes(100)
    reader.take(spans[0])
    assert writer.put(b"z" * 100) is not None


def test_what_was_lost_on_the_way_is_free_again_with_the_next_one():
    _, writer, reader = made()
    lost = put(writer, b"lost")
    span = put(writer, b"came")
    assert reader.take(span) == b"came"
    with pytest.raises(Malformed, match="passed over"):
        reader.take(lost)
    while (one := writer.put(b"w" * 100)) is not None:
        writer.commit()
        span = one
    reader.skip_to(writer.written)
    assert reader.take(put(writer, bytes(CAPACITY - 24))) == bytes(CAPACITY - 24)


@pytest.mark.parametrize("taken_first", [False, True])
def test_a_record_is_taken_once(taken_first):
    _, writer, reader = made()
    if taken_first:
        reader.take(put(writer, b"before"))
    span = put(writer, b"once")
    assert reader.take(span) == b"once"
    with pytest.raises(Malformed):
        reader.take(span)


@given(st.integers(0, record_bytes(300) - 1))
def test_a_writer_that_dies_in_the_middle_leaves_nothing_that_could_be_taken(written):
    """Whatever part of a record was written, a ticket for it is refused: its end mark is missing, or its beginning."""
    ring, writer, reader = made()
    reader.take(put(writer, b"\xff" * 300))  # marks of an older record lie around
    before = bytes(ring.memory)
    span = writer.put(b"\xee" * 300)
    assert span is not None
    whole, start = bytes(ring.memory), HEADER_BYTES + span.position % CAPACITY
    end = start + record_bytes(300)
    ring.memory[start:end] = whole[start : start + written] + before[start + written : end]
    if bytes(ring.memory[start:end]) == whole[start:end]:  # the missing bytes were the same before
        return
    with pytest.raises(Malformed, match="whole"):
        reader.take(span)


@given(st.integers(-(1 << 70), 1 << 70), st.integers(-(1 << 70), 1 << 70))
def test_a_ticket_that_nobody_wrote_is_refused(position, size):
    _, writer, reader = made()
    put(writer, b"there")
    if (position, size) == (0, 5):
        return
    with pytest.raises(Malformed):
        reader.take(Span(position, size))


@given(st.integers(0, 1 << 32), st.integers(0, 15), st.integers(1))
@settings(max_examples=50)
def test_memory_full_of_rubbish_is_refused_by_both_sides(seed, line, size):
    memory = bytearray(random.Random(seed).randbytes(HEADER_BYTES + CAPACITY))
    ring = Ring(memoryview(memory))
    assert not ring.valid
    with pytest.raises(Malformed):
        Reader(ring).take(Span(line * ALIGNMENT, size))
    ring.words[64] = ring.words[64] | 1  # what the reader says that it has read
    with pytest.raises(Malformed, match="reader"):
        Writer(ring).put(b"anything")


def test_a_reader_that_claims_too_much_or_goes_back_is_not_believed():
    ring, writer, reader = made()
    span = put(writer, b"a")
    ring.words[64] = writer.written + ALIGNMENT
    with pytest.raises(Malformed, match="reader"):
        writer.put(b"b")
    ring.words[64] = 0
    reader.take(span)
    put(writer, b"c")
    ring.words[64] = 0
    with pytest.raises(Malformed, match="reader"):
        writer.put(b"d")


def test_a_writer_and_a_reader_at_the_same_time_lose_nothing():
    """Each in a thread, with tickets in between as a socket would carry them; the ring is full most of the time."""
    _, writer, reader = made()
    tickets: deque[Span] = deque()
    count, problems = 1000, []
    deadline = time.monotonic() + 30

    def payload(number: int) -> bytes:
        return number.to_bytes(4, "little") * (1 + random.Random(number).randrange(60))

    def write() -> None:
        for number in range(count):
            while (span := writer.put(payload(number))) is None:
                if time.monotonic() > deadline:
                    problems.append(f"no room for number {number}")
                    return
                time.sleep(0)  # let the other one run
            writer.commit()
            tickets.append(span)

    thread = threading.Thread(target=write)
    thread.start()
    taken = 0
    while taken < count and time.monotonic() < deadline and not problems:
        if tickets:
            assert reader.take(tickets.popleft()) == payload(taken)
            taken += 1
        else:
            time.sleep(0)
    thread.join(5)
    assert (taken, problems) == (count, [])


def test_the_answer_is_right_only_with_what_was_told_elsewhere():
    ring, _, _ = made()
    answer = bytes(range(16))
    assert ring.answered(answer) is None
    ring.answer(bytes(16), 7)
    assert ring.answered(answer) is None
    ring.answer(answer, 7)
    assert ring.answered(answer) == 7
    assert ring.valid
    assert len(ring.id) == 16
