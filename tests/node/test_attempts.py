"""A request through its attempts: whatever comes when, every token counts once, and only of the present attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import NodeLost
from exo_lab.core.messages import SessionSpec, Token
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.node.failover import MAX_TRIES
from exo_lab.node.session import SLOW_TOKENS, Request

PROMPT = (1, 2, 3)
TOTAL = 12
PLAN, OTHER = plan_from_counts("m", ("a", "b"), (1, 1)), plan_from_counts("m", ("a",), (2,))


def request(**sampling):
    params = SamplingParams(**sampling)
    history = PROMPT if params.repetition_penalty != 1 else ()
    spec = SessionSpec(
        requester="r", reply_to="x", sampling=params, eos=(), prompt_tokens=3, total_tokens=TOTAL, history=history
    )
    made = Request("r1", PLAN, PROMPT, spec, 10.0)
    made.begin(0.0)
    return made


def token(wire, position):
    return Token(
        request=wire, position=position, token=100 + position, logprob=0.0, finish="length" if position == 11 else None
    )


steps = st.one_of(
    st.tuples(st.just("token"), st.integers(0, 3), st.integers(-2, 2)),  # attempts ago, positions off
    st.tuples(st.sampled_from(("suspend", "resume", "next")), st.just(0), st.just(0)),
)


@given(st.lists(steps, max_size=60))
def test_every_token_counts_once_and_only_of_the_present_attempt(happened):
    made, wires, suspended = request(), ["r1"], False
    expected = 0
    for now, (what, ago, off) in enumerate(happened, 1):
        over = made.over.is_set()
        match what:
            case "suspend":
                assert made.suspend("why", now) == (not over and not suspended)
                suspended = suspended or not over
            case "resume" if suspended:
                assert made.resume(OTHER, "done.", now) == (not over)
                if not over:
                    wires.append(made.wire)
                    suspended = False
            case "token" | "next":
                wire = wires[-1 - ago] if ago < len(wires) else "stranger"
                position = len(PROMPT) + expected + off
                good = not over and not suspended and ago == 0 and off == 0
                assert made.put(token(wire, position), now) == good
                expected += good
            case _:
                pass
        assert made.drawn == [100 + len(PROMPT) + n for n in range(expected)]
    assert len(set(wires)) == len(wires)
    found = []
    while (arrival := made.take(0)) is not None:
        found.append(arrival.token.token)
    assert found == made.drawn


def test_a_new_attempt_brings_everything_that_is_known_and_asks_for_no_more_than_before():
    made = request(repetition_penalty=1.5)
    for position in (3, 4):
        assert made.put(token("r1", position), 1.0)
    assert made.suspend("n went away", 2.0)
    assert made.notices == ("n went away",)
    assert made.resume(OTHER, "It went on.", 3.0)
    assert (made.wire, made.plan, made.tries) == ("r1.1", OTHER, 1)
    assert made.spec.prompt_tokens == made.known == 5
    assert made.spec.total_tokens == TOTAL
    assert made.spec.history == (*PROMPT, 103, 104)
    assert made.put(token("r1.1", 5), 4.5)
    assert made.notices == ("It went on. The next token came after 2.50 s.",)
    assert made.tries == 0


def test_losses_before_the_next_token_are_one_notice_and_count_from_the_first():
    made = request()
    for now in (1.0, 2.0):
        assert made.suspend(f"lost at {now}", now)
        assert made.resume(OTHER, f"again at {now}.", now)
    assert made.tries == 2
    assert made.put(token("r1.2", 3), 5.0)
    assert made.notices == ("again at 2.0. The next token came after 4.00 s.",)


def test_what_is_over_stays_over():
    made = request()
    assert made.suspend("why", 1.0)
    assert made.cancel()
    assert not made.resume(OTHER, "", 2.0)
    assert not made.suspend("why", 3.0)
    assert not made.fail(NodeLost("x"))


def test_an_answer_has_stalled_when_it_takes_much_longer_than_ever():
    made = request()
    for position, now in ((3, 1.0), (4, 3.0)):
        assert made.put(token("r1", position), now)
    assert not made.stalled(3.0 + 2.0 * SLOW_TOKENS, 1.0)
    assert made.stalled(3.1 + 2.0 * SLOW_TOKENS, 1.0)
    assert not made.stalled(3.1 + 2.0 * SLOW_TOKENS, 60.0)
    assert made.suspend("why", 30.0)
    assert not made.stalled(1e9, 1.0)  # it is being seen to


def test_a_first_token_and_a_replay_are_waited_for_longer_and_have_their_chance_before_the_deadline():
    made = request()
    made.begin(0.0)
    bounds = []
    for _ in range(MAX_TRIES):
        bounds.append(next(tenth / 10 for tenth in range(1200) if made.stalled(tenth / 10, 0.1)))
        assert not made.stalled(bounds[-1], made.timeout_s)  # not sooner than any
        assert made.suspend("why", 0.0)
        assert made.resume(OTHER, "", 0.0)
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(made.timeout_s / 2, abs=0.11)
    assert 0.9 * made.timeout_s < bounds[-1] < made.timeout_s
