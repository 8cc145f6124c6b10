"""An answer as its reader sees it: pieces of text, stop strings, figures, endings. No nodes: tokens are put by hand."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import NodeLost
from exo_lab.core.messages import SessionSpec, StageTiming, Token
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.generation import POLL_S, Generation
from exo_lab.node.session import Request

PROMPT = (1, 2, 3)
PLAN = plan_from_counts("m", ("n0", "n1"), (2, 2))
EOS = 0


class Words:
    """A tokenizer's stream of given pieces: token i + 1 is piece i. `rest` comes out at the end."""

    def __init__(self, pieces, rest=""):
        self.pieces, self.rest = pieces, rest

    def add(self, token_id):
        return self.pieces[token_id - 1]

    def flush(self):
        rest, self.rest = self.rest, ""
        return rest


class Answer:
    """A generation and the ring's end of it."""

    def __init__(self, pieces, *, stop=(), rest="", clock=None):
        spec = SessionSpec(
            requester="n0", reply_to="x", sampling=SamplingParams(), eos=(EOS,), prompt_tokens=3, total_tokens=999
        )
        self.request = Request("r1", PLAN, PROMPT, spec, 10.0)
        self.now = 100.0
        self.request.begin(self.now)
        self.cancelled = 0
        self.pieces = pieces
        options = {"clock": lambda: self.now} if clock is None else {"clock": clock}
        self.generation = Generation(
            self.request, Words(pieces, rest), prompt="p", stop=stop, decode=str, cancel=self._cancel, **options
        )

    def _cancel(self, request):
        self.cancelled += 1
        request.cancel()

    def put(self, count=1, finish=None, token=None):
        for index in range(count):
            self.now += 0.5
            position = self.request.next_position
            made = Token(
                request="r1",
                position=position,
                token=position - len(PROMPT) + 1 if token is None else token,
                logprob=-0.25,
                finish=finish if index == count - 1 else None,
                alternatives=((7, -0.5),),
                timings=(StageTiming("n1", 0.125, 0.25),),
            )
            assert self.request.put(made, self.now)

    def put_all(self, finish="length"):
        self.put(len(self.pieces), finish)
        return self.generation


def test_the_text_is_the_pieces_and_the_rest_at_the_end():
    generation = Answer(["Hel", "lo", "", " world"], rest="\N{REPLACEMENT CHARACTER}").put_all()
    assert "".join(generation) == generation.text == "Hello world\N{REPLACEMENT CHARACTER}"
    assert (generation.finish, generation.done, generation.error) == ("length", True, None)


def test_the_token_that_ends_the_text_is_no_text():
    answer = Answer(["a", "b"])
    answer.put(2)
    answer.put(finish="stop", token=EOS)
    assert list(answer.generation) == ["a", "b"]
    assert answer.generation.finish == "stop"
    assert [event.token for event in answer.generation.tokens] == [1, 2, EOS]


@pytest.mark.parametrize(("pieces", "stop", "text", "used"), [
    (["ab", "c.", "de"], ("c.d",), "ab", 3),
    (["ab", "c.", "xe"], ("c.d",), "abc.xe", 3),
    (["ab", "STOP", "cd"], ("STOP",), "ab", 2),
    (["abSTOPcd", "ef"], ("STOP",), "ab", 1),
    (["a\n", "\n", "b"], ("\n\n",), "a", 2),
    (["x", "y", "z"], ("zz", "yz", "xyzz"), "x", 3),
    (["aa", "ab", "b"], ("aab",), "a", 2),
    (["one two", " three"], ("two", "one"), "", 1),
    (["", "a", "", "b"], ("ab",), "", 4),
])  # fmt: skip
def test_a_stop_string_cuts_the_text_wherever_the_pieces_end(pieces, stop, text, used):
    answer = Answer(pieces, stop=stop)
    answer.put_all()
    assert "".join(answer.generation) == answer.generation.text == text
    cut = used < len(pieces) or text != "".join(pieces)
    assert answer.generation.finish == ("stop" if cut else "length")
    assert len(answer.generation.tokens) == used
    assert (answer.cancelled > 0) == cut  # the other nodes need not go on
    assert answer.generation.error is None


@given(
    st.lists(st.text("abc", max_size=3), min_size=1, max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_what_is_shown_piece_by_piece_is_the_text_before_the_first_stop_string(pieces, stop):
    answer = Answer(pieces, stop=tuple(stop))
    shown = ""
    seen = ""
    for index, piece in enumerate(pieces):
        if answer.generation.done:
            break
        answer.put(finish="length" if index == len(pieces) - 1 else None)
        seen += piece
        shown += "".join(event.text for event in answer.generation.poll(0))
        assert seen.startswith(shown)  # nothing is shown that would have to be taken back
        assert all(one not in shown for one in stop)
    whole = "".join(pieces)
    # The first stop string to be complete decides; of those that one piece completes, the one that begins first.
    read = next((seen for seen in _growing(pieces) if any(one in seen for one in stop)), whole)
    places = [read.index(one) for one in stop if one in read]
    assert shown == answer.generation.text == (read[: min(places)] if places else whole)


def _growing(pieces):
    seen = ""
    for piece in pieces:
        seen += piece
        yield seen


def test_text_that_might_begin_a_stop_string_is_held_back_and_given_out_when_it_did_not():
    answer = Answer(["ab", "c", "d"], stop=("bcx",))
    answer.put()
    assert [event.text for event in answer.generation.poll(0)] == ["a"]
    answer.put()
    assert [event.text for event in answer.generation.poll(0)] == [""]
    answer.put()
    assert [event.text for event in answer.generation.poll(0)] == ["bcd"]


def test_cancelling_keeps_what_has_come_also_what_was_held_back():
    answer = Answer(["ab", "c", "d"], stop=("bcx",))
    answer.put(2)
    answer.generation.cancel()
    assert answer.generation.text == "abc"
    assert (answer.generation.finish, answer.generation.error) == ("cancelled", None)
    assert "".join(event.text for event in answer.generation.tokens) == "abc"
    answer.generation.cancel()
    assert answer.generation.result(0) is answer.generation
    assert answer.generation.poll() == []


def test_leaving_the_loop_early_cancels():
    answer = Answer(["a", "b", "c"])
    answer.put(2)
    for piece in answer.generation:
        assert piece == "a"
        break
    assert answer.cancelled >= 1
    assert answer.generation.finish == "cancelled"
    assert answer.generation.text == "ab"  # it had come


def test_an_error_comes_after_the_text_that_came_before_it():
    answer = Answer(["a", "b", "c"])
    answer.put(2)
    answer.request.fail(NodeLost("n1 went away"))
    pieces = []
    with pytest.raises(NodeLost, match="n1 went away"):
        pieces.extend(answer.generation)
    assert pieces == ["a", "b"]
    assert (answer.generation.text, answer.generation.finish) == ("ab", "error")
    with pytest.raises(NodeLost):
        answer.generation.result()
    assert answer.generation.poll() == []  # polling never raises


def test_waiting_for_a_result_has_a_deadline_and_may_be_repeated():
    answer = Answer(["a", "b"])
    ticks = iter(range(1000))
    waiting = Answer(["a", "b"], clock=lambda: next(ticks))
    with pytest.raises(TimeoutError, match="r1 is still running after 0"):
        waiting.generation.result(0)
    waiting.put_all()
    assert waiting.generation.result(5).text == "ab"
    assert answer.generation.finish is None


def test_figures_are_of_the_requesters_clock():
    answer = Answer(["a", "b", "c"])
    assert answer.generation.stats.ttft_s is None
    assert answer.generation.stats.tokens_per_s is None
    generation = answer.put_all()
    generation.result()
    answer.now += 60
    stats = generation.stats
    assert (stats.prompt_tokens, stats.tokens, stats.finish) == (3, 3, "length")
    assert (stats.ttft_s, stats.total_s) == (0.5, 1.5)
    assert stats.tokens_per_s == 2.0
    assert stats.prefill_tokens_per_s == 6.0
    assert stats.stage_compute_s == (("n1", 0.375),)
    assert [event.at_s for event in generation.tokens] == [0.5, 1.0, 1.5]
    assert generation.tokens[0].alternatives == (("7", -0.5),)


def test_it_can_be_read_asynchronously_and_the_loop_goes_on_meanwhile():
    answer = Answer(["a", "b", "c"])

    async def check():
        pieces = []

        async def read():
            async for piece in answer.generation:
                pieces.append(piece)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        answer.put_all()
        await asyncio.wait_for(reading, 10)
        assert pieces == ["a", "b", "c"]

    asyncio.run(check())


def test_cancelling_the_task_that_reads_cancels_the_generation():
    answer = Answer(["a", "b", "c"])

    async def check():
        first = asyncio.Event()

        async def read():
            async for _ in answer.generation:
                first.set()

        reading = asyncio.create_task(read())
        answer.put()
        await asyncio.wait_for(first.wait(), 10)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(check())  # waits for the thread that polls, too
    assert answer.cancelled >= 1
    assert answer.request.over.is_set()
    assert answer.generation.finish == "cancelled"


def test_an_error_is_raised_at_the_end_of_an_asynchronous_loop():
    answer = Answer(["a"])
    answer.put()
    answer.request.fail(NodeLost("gone"))

    async def check():
        pieces = []
        with pytest.raises(NodeLost):
            async for piece in answer.generation:
                pieces.append(piece)
        assert pieces == ["a"]

    asyncio.run(check())


def test_another_thread_may_cancel_while_one_reads():
    answer = Answer(["a"] * 100)
    read: list[str] = []
    started = threading.Event()

    def reader():
        for piece in answer.generation:
            read.append(piece)
            started.set()

    thread = threading.Thread(target=reader)
    thread.start()
    answer.put(5)
    assert started.wait(10)
    answer.generation.cancel()
    thread.join(10 + POLL_S)
    assert not thread.is_alive()
    assert answer.generation.finish == "cancelled"
    assert "".join(read) == answer.generation.text == "a" * 5
