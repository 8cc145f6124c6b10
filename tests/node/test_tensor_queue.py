"""Every tensor is fetched once, the largest first, and a slow peer is relieved where that saves time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exo_lab.models.partial import Piece
from exo_lab.node.tensor_queue import MIN_CHUNK_BYTES, TensorQueue, next_chunk


def pieces(sizes: list[int]) -> list[Piece]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [Piece(0, start, start + size, f"t{i}") for i, (start, size) in enumerate(zip(starts, sizes, strict=True))]


def anything(piece: Piece) -> bool:
    return True


@given(st.lists(st.integers(1, 10**6), max_size=12), st.data())
def test_whoever_takes_gives_back_or_finishes_every_tensor_is_fetched_once(sizes, data):
    queue, taken = TensorQueue(pieces(sizes)), []
    now = 0.0
    while queue.waiting or queue.loans:
        now += 1
        loan = queue.take(data.draw(st.sampled_from("abc")), anything, now)
        if loan is not None and data.draw(st.integers(0, 3)):
            taken.append(loan.piece)
            queue.finish(loan)
        elif loan is not None:
            queue.give_back(loan)
            queue.finish(loan)  # too late: it counts for nothing
    assert sorted(taken) == pieces(sizes)
    assert (
        (queue.fetched_count, queue.fetched_bytes) == (len(sizes), sum(sizes)) == (queue.total_count, queue.bytes_here)
    )


def test_the_largest_goes_first_and_only_to_who_has_it():
    small, large = pieces([10, 1000])
    queue = TensorQueue([small, large])
    assert queue.take("a", lambda piece: piece == small, 0).piece == small
    assert queue.take("a", lambda piece: piece == small, 0) is None
    assert queue.take("b", anything, 0).piece == large


def test_a_fast_peer_takes_over_from_a_much_slower_one_and_only_then():
    queue = TensorQueue(pieces([1_000_000]))
    loan = queue.take("slow", anything, 0.0)
    loan.done = 100_000
    assert queue.take_over("fast", anything, 1e6, 0.4) is None  # too early to say
    assert queue.take_over("slow", anything, 1e6, 5.0) is None  # itself
    assert queue.take_over("fast", lambda piece: False, 1e6, 5.0) is None  # has not got it
    assert queue.take_over("fast", anything, 3e4, 5.0) is None  # would take 33 s itself, 45 s are left
    assert queue.take_over("fast", anything, 1e6, 5.0) is loan
    again = queue.take("fast", anything, 5.0)
    queue.finish(loan)  # of the one that was relieved
    assert queue.fetched_count == 0
    again.done = 1_000_000  # being checked: nobody begins it anew
    assert queue.take_over("slow", anything, 1e9, 99.0) is None
    queue.finish(again)
    assert queue.fetched_count == 1


@given(st.integers(MIN_CHUNK_BYTES, 512 << 10), st.floats(1e-6, 100))
def test_a_chunk_grows_on_a_fast_way_and_shrinks_on_a_slow_one_within_bounds(size, took_s):
    chosen = next_chunk(size, took_s, 512 << 10)
    assert MIN_CHUNK_BYTES <= chosen <= 512 << 10
    assert (took_s > 0.1 and chosen <= size) or (took_s <= 0.1 and chosen >= size)
