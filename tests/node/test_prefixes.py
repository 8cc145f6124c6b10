"""What is kept of prompts: never more than the allowance, always beginnings, the least recently used goes first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.prefix import NAME_BYTES, extend
from exo_lab.engines.base import KvBlock
from exo_lab.node.holds import PlanKey
from exo_lab.node.prefixes import SHARE, Prefixes

KEY = PlanKey("m", 1, "p")
SIZE = 100
CHUNKS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


class Memory:
    """So much in all, of which others take some; what is kept is taken from it too."""

    def __init__(self, total: int) -> None:
        self.total, self.others, self.prefixes = total, 0, None

    def free(self) -> int:
        return max(0, self.total - self.others - (0 if self.prefixes is None else self.prefixes.nbytes))


def made(total: int) -> tuple[Prefixes, Memory]:
    memory = Memory(total)
    memory.prefixes = Prefixes(memory.free)
    return memory.prefixes, memory


def names(chunks: list[int]) -> list[bytes]:
    """The names of the beginnings of a prompt."""
    found = [b""]
    for chunk in chunks:
        found.append(extend(found[-1], [chunk] * 4))
    return found


def ask(prefixes: Prefixes, chunks: list[int], key: PlanKey = KEY) -> int:
    """What a stage does with a prompt; how many chunks it had not to compute."""
    turn, found, going = prefixes.turn(), 0, True
    for number, (before, name) in enumerate(zip(names(chunks), names(chunks)[1:], strict=False)):
        if prefixes.find(key, name, turn) is not None:
            found += going
        else:
            going = False
            if prefixes.has_room(key, before, SIZE, turn):
                prefixes.keep(key, name, number, KvBlock(None, 1, SIZE), turn)
    return found


def kept(prefixes: Prefixes, chunks: list[int], key: PlanKey = KEY) -> int:
    """How much of a prompt is kept, from its beginning; and nothing is kept behind a gap."""
    there = [prefixes.find(key, name, 0) is not None for name in names(chunks)[1:]]
    assert there == sorted(there, reverse=True), "something is kept that nobody can get to"
    return sum(there)


@given(st.lists(st.one_of(CHUNKS, st.integers(0, 6000)), max_size=30), st.integers(0, 6000))
@settings(max_examples=200, deadline=None)
def test_what_is_kept_stays_within_its_share_and_has_no_gaps(events, total):
    prefixes, memory = made(total)
    asked: list[list[int]] = []
    for event in events:
        if isinstance(event, int):
            memory.others = min(event, total - prefixes.nbytes)
            prefixes.shrink()
        else:
            before = kept(prefixes, event)
            assert ask(prefixes, event) == before
            asked.append(event)
        assert prefixes.nbytes == SIZE * len(prefixes) <= SHARE * max(0, memory.total - memory.others)
        for chunks in asked:
            kept(prefixes, chunks)


def test_the_prompt_that_was_not_used_for_longest_makes_room():
    prefixes, _ = made(int(4 * SIZE / SHARE))
    ask(prefixes, [0, 0])
    ask(prefixes, [1, 1])
    ask(prefixes, [0, 0])
    ask(prefixes, [2, 2])
    assert [kept(prefixes, chunks) for chunks in ([0, 0], [1, 1], [2, 2])] == [2, 0, 2]


def test_a_prompt_does_not_make_room_for_its_end_by_its_beginning():
    prefixes, _ = made(int(3 * SIZE / SHARE))
    ask(prefixes, [0, 1, 2, 0, 1])
    assert kept(prefixes, [0, 1, 2, 0, 1]) == 3


def test_room_that_is_needed_elsewhere_is_given_back_at_once():
    prefixes, memory = made(int(4 * SIZE / SHARE))
    ask(prefixes, [0, 0, 0, 0])
    assert prefixes.shrink() == 0
    assert prefixes.shrink(int(2 * SIZE / SHARE)) == 2
    memory.others = memory.total
    assert prefixes.shrink() == 2
    assert prefixes.nbytes == 0


def test_nothing_is_kept_where_nobody_knows_what_is_free():
    prefixes, _ = made(0)
    ask(prefixes, [0])
    assert prefixes.nbytes == len(prefixes) == 0


def test_a_plan_that_is_gone_takes_along_what_it_computed():
    prefixes, _ = made(1 << 20)
    ask(prefixes, [0, 1])
    ask(prefixes, [0, 1], KEY._replace(epoch=2))
    prefixes.forget(KEY)
    assert kept(prefixes, [0, 1]) == 0
    assert kept(prefixes, [0, 1], KEY._replace(epoch=2)) == 2
    assert prefixes.nbytes == 2 * SIZE


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=3), min_size=1, max_size=4), st.data())
@settings(max_examples=200, deadline=None)
def test_a_name_tells_tokens_and_how_they_were_cut(chunks, data):
    others = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=3), min_size=1, max_size=4))

    def name(of: list[list[int]]) -> bytes:
        prefix = b""
        for chunk in of:
            prefix = extend(prefix, chunk)
        return prefix

    assert (name(chunks) == name(others)) == (chunks == others)
    assert len(name(chunks)) == NAME_BYTES
