"""Nodes that are pinged seldom: nobody is lost falsely, whoever asks whom how often, and the dead are lost in time."""

from __future__ import annotations

import asyncio

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.device import Device
from exo_lab.core.errors import ConfigError
from exo_lab.core.messages import NodeCard
from exo_lab.node import membership as m
from exo_lab.node.build import POWERS, make_timing
from exo_lab.node.cadence import MOST_S, Due, interval_s
from exo_lab.node.timing import LOW_POWER, Timing
from exo_lab.telemetry.power import on_battery
from tests.node.clusters import FAST, cluster, until

NORMAL = Timing()
PROFILES = st.sampled_from([NORMAL, LOW_POWER])


def peer_of(timing: Timing, now: float = 0.0) -> m.Peer:
    card = NodeCard(
        device=Device(id="b" * 12, name="b"), control="memory://b", data="memory://b", heartbeat_s=timing.heartbeat_s
    )
    return m.Peer(card=card, liveness="alive", heard_at=now)


def watched(mine: Timing, theirs: Timing, answers, until_s: float) -> tuple[list[tuple[float, m.Liveness]], int]:
    """What a node thinks of a peer after each ping, and how many it sent. `answers(number)`: is that ping answered?

    As `Pulse` does it: rounds, an answer at once or none for `ping_timeout_s`, and patience by the peer's cadence.
    """
    members = m.Members(peers={"b" * 12: peer_of(theirs)})
    every = lambda peer: interval_s(mine.ping_every_s, peer.card.heartbeat_s)  # noqa: E731
    due = Due(mine.ping_every_s, lambda peer: mine.ping_every_s if peer.liveness == "suspect" else every(peer))
    now, number, free_at, seen = 0.0, 0, 0.0, []
    while now < until_s:
        for peer in due.take(members.alive(), now):
            if now < free_at:
                continue
            if answers(number):
                event = m.Answered(
                    id=peer.id, round_trip_s=0.01, load=0.0, memory_available_bytes=0, plans=(), now=now + 0.01
                )
            else:
                free_at = now + mine.ping_timeout_s
                patience_s = m.patience_s(peer, "unknown", mine.lost_after_s, mine.busy_lost_after_s, every(peer))
                event = m.Silent(id=peer.id, now=free_at, lost_after_s=patience_s)
            number += 1
            members = m.step(members, event)
            seen.append((now, members.peers[peer.id].liveness))
        now += mine.ping_every_s
    return seen, number


@given(PROFILES, PROFILES)
def test_who_answers_is_never_suspected(mine, theirs):
    seen, _ = watched(mine, theirs, lambda number: True, 120.0)
    assert {liveness for _, liveness in seen} == {"alive"}


@given(PROFILES, PROFILES, st.sets(st.integers(1, 40)))
def test_one_ping_that_went_unanswered_loses_nobody(mine, theirs, missed):
    alone = {number for number in missed if number - 1 not in missed}
    seen, _ = watched(mine, theirs, lambda number: number not in alone, 150.0)
    assert "lost" not in {liveness for _, liveness in seen}


@given(PROFILES, PROFILES, st.integers(0, 20))
def test_the_dead_are_suspected_first_and_lost_in_proportion_to_their_heartbeat(mine, theirs, last):
    seen, _ = watched(mine, theirs, lambda number: number <= last, 200.0)
    states = [liveness for _, liveness in seen]
    assert states.index("suspect") < states.index("lost")
    heard_at = seen[last][0]
    lost_at = next(now for now, liveness in seen if liveness == "lost")
    every_s = interval_s(mine.ping_every_s, theirs.heartbeat_s)
    expected_s = max(mine.lost_after_s, m.MISSED_PINGS * every_s)
    assert expected_s - mine.ping_timeout_s <= lost_at - heard_at <= expected_s + 2 * every_s + mine.ping_timeout_s


def test_a_battery_is_woken_seldom_by_whoever_asks():
    _, often = watched(NORMAL, NORMAL, lambda number: True, 120.0)
    for mine, theirs in ((NORMAL, LOW_POWER), (LOW_POWER, NORMAL), (LOW_POWER, LOW_POWER)):
        _, seldom = watched(mine, theirs, lambda number: True, 120.0)
        assert seldom * 5 < often


@pytest.mark.parametrize("told", [1e300, float("inf"), MOST_S + 1])
def test_no_card_can_make_its_node_unwatched(told):
    assert interval_s(0.4, told) == MOST_S


@pytest.mark.parametrize("told", [0.0, -1.0, float("nan"), float("-inf"), 0.1])
def test_no_card_can_have_its_node_asked_more_often_than_everybody(told):
    assert interval_s(0.4, told) == 0.4


def test_due_forgets_who_is_gone():
    due, peer = Due(1.0, lambda peer: 3.0), peer_of(NORMAL)
    assert [bool(due.take([peer], float(now))) for now in range(7)] == [True, False, False, True, False, False, True]
    assert due.take([], 6.5) == ()
    assert due.take([peer], 6.6) == (peer,)


def test_a_cluster_of_both_kinds_stays_together_and_pings_the_battery_seldom():
    heartbeat_s = 1.2
    slow = msgspec.structs.replace(FAST, ping_every_s=heartbeat_s, heartbeat_s=heartbeat_s)

    async def check():
        async with cluster(2) as made:
            battery = await made.add(timing=slow)
            await made.all_met()
            seen: set[str] = set()
            for node in made.nodes:
                node.listeners.add(
                    lambda what, node=node: seen.update(peer.liveness for peer in node.members.peers.values())
                )
            heard = [made[0].members.peers[battery.id].heard_at]
            pings = made[1].parts.control.stats().answered

            def three_beats() -> bool:
                latest = made[0].members.peers[battery.id].heard_at
                if latest > heard[-1]:
                    heard.append(latest)
                return len(heard) > 3

            await until(three_beats, "three heartbeats")
            # Its own ping and the answer to one may come apart, on a busy machine; FAST would be ten times as often.
            assert heard[3] - heard[1] > 0.9 * heartbeat_s
            assert made[1].parts.control.stats().answered - pings > 8  # while its neighbour was asked as ever
            assert seen <= {"alive"}
            assert all(peer.liveness == "alive" for node in made.nodes for peer in node.members.peers.values())
            assert made[0].members.peers[battery.id].card.heartbeat_s == heartbeat_s

    asyncio.run(check())


# -- choosing -------------------------------------------------------------------------------------------------


class Battery:
    def __init__(self, plugged: bool | None) -> None:
        self.power_plugged = plugged


@pytest.mark.parametrize(
    ("battery", "low"), [(None, False), (Battery(True), False), (Battery(None), False), (Battery(False), True)]
)
def test_auto_saves_power_on_battery_only(monkeypatch, battery, low):
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert on_battery() is low
    assert make_timing("auto") == (LOW_POWER if low else Timing())
    assert make_timing("normal") == Timing()
    assert make_timing("low") == LOW_POWER


def test_a_system_that_knows_no_battery_is_plugged_in(monkeypatch):
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert on_battery() is False


def test_any_other_use_of_power_is_refused():
    with pytest.raises(ConfigError, match=", ".join(POWERS)):
        make_timing("turbo")
