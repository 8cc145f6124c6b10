"""What was heard is kept as long as it is announced, in whatever order the announcements arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from test_announcement import announcement

from exo_lab.discovery import hearing as h
from exo_lab.discovery.announcement import Refused
from exo_lab.discovery.base import Found

TTL_S = 9.0
NOTHING = h.Hearing()


def hear(hearing, said, now=0.0, host="10.0.0.1"):
    found = Found(address=said.controls[0], source="UDP", name=said.name, device_id=said.device_id)
    return h.hear(hearing, said, found, now, host)


def heard(*said, now=0.0):
    hearing = NOTHING
    for one in said:
        after = hear(hearing, one, now)
        hearing = hearing if isinstance(after, Refused) else after
    return hearing


def addresses(hearing):
    return [one.address for one in h.sightings(hearing)]


def on(control, sequence, *others, **fields):
    return announcement(controls=(control, *others), sequence=sequence, **fields)


ETH, WIFI, NEW = "tcp://10.0.0.1:4000", "tcp://192.168.1.1:4000", "tcp://10.0.0.77:4000"


def test_two_networks_are_two_addresses_of_one_node():
    assert addresses(heard(on(ETH, 1, WIFI), on(WIFI, 2, ETH))) == [ETH, WIFI]


def test_a_repeated_datagram_changes_nothing():
    once = heard(on(ETH, 5))
    for sequence in (5, 4, 0):
        assert hear(once, on(ETH, sequence), now=8.0) == Refused("repeated")


def test_an_address_that_is_not_announced_expires_and_comes_back():
    hearing = heard(on(ETH, 1))
    assert addresses(h.expire(hearing, 8.9, TTL_S)) == [ETH]
    assert addresses(h.expire(hearing, 9.0, TTL_S)) == []
    assert h.expire(hearing, h.REMEMBER_S, TTL_S) == NOTHING
    for later in (9.0, 3600.0):
        assert addresses(hear(h.expire(hearing, later, TTL_S), on(ETH, 2), now=later)) == [ETH]


def test_a_recorded_datagram_does_not_revive_a_silent_node():
    silent = h.expire(heard(on(ETH, 5)), 60.0, TTL_S)
    assert hear(silent, on(ETH, 5), now=60.0) == Refused("repeated")
    assert addresses(hear(silent, on(ETH, 6), now=60.0)) == [ETH]


def test_a_new_address_replaces_the_old_one_at_once():
    assert addresses(heard(on(ETH, 1, WIFI), on(WIFI, 2, ETH), on(NEW, 3, WIFI))) == [NEW, WIFI]


def test_a_node_that_says_goodbye_is_gone_and_an_old_datagram_does_not_bring_it_back():
    gone = heard(on(ETH, 1), on(ETH, 2), on(ETH, 3, leaving=True))
    assert addresses(gone) == []
    assert isinstance(hear(gone, on(ETH, 2)), Refused)
    assert addresses(hear(gone, on(ETH, 1, run=6, version=8))) == [ETH]  # started anew


def test_a_node_that_was_started_anew_forgets_its_former_addresses():
    assert addresses(heard(on(ETH, 9, WIFI), on(WIFI, 10, ETH), on(NEW, 1, run=6, version=8))) == [NEW]


def test_a_node_whose_wall_clock_jumped_back_is_seen_again_when_its_former_life_expired():
    first = heard(on(ETH, 9, version=2_000))
    restarted = on(ETH, 1, run=6, version=1_000)
    blocked = hear(first, restarted, now=1.0)
    assert not isinstance(blocked, Refused)
    later = hear(h.expire(blocked, TTL_S, TTL_S), on(ETH, 2, run=6, version=1_000), now=TTL_S)
    assert addresses(later) == [ETH]
    assert h.duplicates(later) == ()


def test_two_nodes_with_one_id_are_reported_and_a_restart_is_not():
    hearing = heard(on(ETH, 1, version=1))
    hearing = hear(hearing, on(NEW, 1, run=6, version=2), now=1.0)
    for late in (2, 3, 4, 5):  # datagrams of the former life that took their time
        hearing = hear(hearing, on(ETH, late, version=1), now=1.0 + late / 100)
    assert h.duplicates(hearing) == ()
    for turn in range(10, 13):
        hearing = hear(hearing, on(NEW, turn, run=6, version=2), now=turn)
        hearing = hear(hearing, on(ETH, turn, version=1), now=turn + 0.5, host="10.0.0.5")
    assert "two nodes use the id" in h.duplicates(hearing)[0]
    assert "10.0.0.5" in h.duplicates(hearing)[0]
    alone = hear(hearing, on(NEW, 50, run=6, version=2), now=20.0)
    assert h.duplicates(h.expire(alone, 25.0, TTL_S)) == ()


def test_there_is_a_limit_to_the_nodes_that_are_remembered():
    entry = h.Entry(found=Found(address=ETH, source=""), heard_at=0.0)
    hearing = h.Hearing(runs={str(i): h.Run(run=1, version=1, entries={ETH: entry}) for i in range(h.MAX_NODES)})
    assert hear(hearing, on(ETH, 1)).reason == "too many nodes"
    after = hear(h.expire(hearing, TTL_S, TTL_S), on(ETH, 1), now=TTL_S)  # those who fell silent make room
    assert addresses(after) == [ETH]
    assert len(after.runs) == h.MAX_NODES


SETS = st.lists(st.sampled_from([ETH, WIFI, NEW]), min_size=1, unique=True)


@given(
    SETS,
    SETS,
    st.lists(st.integers(0, 2), max_size=5),
    st.lists(st.integers(0, 2), max_size=5),
    st.booleans(),
    st.data(),
)
def test_the_order_in_which_a_lifes_datagrams_arrive_does_not_matter(before, after, early, late, leaving, data):
    rounds = [(before, i) for i in early] + [(after, i) for i in late]  # its interfaces change once
    said = []
    for sequence, (controls, i) in enumerate(rounds):
        first = controls[i % len(controls)]
        others = [one for one in controls if one != first]
        said.append(on(first, sequence, *others, name=f"name {sequence}"))
    if leaving:
        said.append(on(after[0], len(said), *after[1:], leaving=True))
    mixed = data.draw(st.permutations(said))
    assert addresses(heard(*mixed)) == addresses(heard(*said))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(0, 30), st.booleans()), max_size=30))
def test_after_the_last_word_and_the_time_to_live_nothing_is_left(datagrams):
    hearing, now = NOTHING, 0.0
    for sequence, run, later, leaving in datagrams:
        now += later / 10
        after = hear(hearing, on(ETH, sequence, run=run, version=run, leaving=leaving), now=now)
        hearing = h.expire(hearing if isinstance(after, Refused) else after, now, TTL_S)
        expiry = h.next_expiry(hearing, TTL_S)
        assert (expiry is None) == (addresses(hearing) == [])
        assert expiry is None or now < expiry <= now + TTL_S
    assert addresses(h.expire(hearing, now + TTL_S, TTL_S)) == []
    assert h.expire(hearing, now + h.REMEMBER_S, TTL_S) == NOTHING
