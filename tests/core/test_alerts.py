from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.alerts import Board, acknowledge, changes, observe, without
from exo_lab.core.errors import ConfigError
from exo_lab.core.telemetry import MAX_TOLD, Alert, Sample, Vitals, believed
from exo_lab.core.watching import RULES, Rule, Watching, watching_of

RULE = Rule(quantity="memory", threshold=0.85, clear=0.80, raise_after_s=6.0, clear_after_s=4.0)
WATCHING = Watching(rules=(RULE,))
VALUES = st.lists(st.floats(0.0, 1.0), max_size=60)


def run(values, every_s=1.0, board=None, start_s=0.0):
    """The board after each reading."""
    board, boards = board or Board(node="abcdef"), []
    for count, value in enumerate(values):
        board = observe(board, WATCHING, Sample(start_s + count * every_s, "memory", value))
        boards.append(board)
    return boards


def raised(boards):
    return [bool(board.alerts) for board in boards]


@settings(max_examples=100)
@given(VALUES)
def test_an_alert_is_raised_only_when_every_reading_of_its_duration_was_above_the_threshold(values):
    shown = raised(run(values))
    for at, (before, now) in enumerate(zip([False, *shown], shown, strict=False)):
        if now and not before:
            assert at >= 6
            assert all(value > RULE.threshold for value in values[at - 6 : at + 1])


@settings(max_examples=100)
@given(VALUES)
def test_whatever_stays_above_the_threshold_for_the_duration_is_an_alert(values):
    shown = raised(run(values))
    for at in range(6, len(values)):
        if all(value > RULE.threshold for value in values[at - 6 : at + 1]):
            assert shown[at]


@settings(max_examples=100)
@given(st.booleans(), st.lists(st.floats(RULE.clear, RULE.threshold), max_size=60))
def test_nothing_changes_within_the_hysteresis_band(loud, values):
    begun = run([0.9 if loud else 0.1] * 10)[-1]
    assert raised(run(values, board=begun, start_s=10.0)) == [loud] * len(values)


@settings(max_examples=100)
@given(VALUES)
def test_an_alert_is_cleared_once_and_only_after_its_duration_below(values):
    boards = run(values)
    ended: list[str] = []
    for at, (before, now) in enumerate(zip([Board(node="abcdef"), *boards], boards, strict=False)):
        for alert in changes(before.alerts, now.alerts, {"abcdef"}):
            if alert.state == "cleared":
                ended.append(alert.id)
                assert all(value < RULE.clear for value in values[at - 4 : at + 1])
    assert len(ended) == len(set(ended))


@settings(max_examples=100)
@given(VALUES)
def test_what_was_acknowledged_stays_so_until_it_is_cleared(values):
    board = acknowledge(run([0.9] * 10)[-1], "abcd-1")
    for now in run(values, board=board, start_s=10.0):
        mine = [alert for alert in now.alerts if alert.id == "abcd-1"]
        assert [alert.state for alert in mine] in ([], ["acknowledged"])
        if not mine:
            break


def test_an_alert_that_comes_again_is_another_one_and_not_acknowledged():
    board = acknowledge(run([0.9] * 10)[-1], "abcd-1")
    board = run([0.1] * 10 + [0.9] * 10, board=board, start_s=10.0)[-1]
    assert [(alert.id, alert.state, alert.since_s) for alert in board.alerts] == [("abcd-2", "raised", 20.0)]


def test_an_alert_carries_its_latest_reading():
    assert run([0.9] * 9 + [0.95])[-1].alerts[0].value == 0.95


def test_a_clock_that_was_set_back_raises_nothing_early():
    board = run([0.9] * 3, start_s=1000.0)[-1]
    assert raised(run([0.9] * 8, board=board, start_s=0.0)) == [False] * 6 + [True] * 2


def test_acknowledging_what_is_not_there_changes_nothing():
    board = run([0.9] * 10)[-1]
    assert acknowledge(board, "other") is board


def test_what_belongs_to_a_peer_ends_with_it():
    rule = Rule(quantity="latency", threshold=0.1, clear=0.08)
    board = Board(node="abcdef")
    for peer in ("b", "c"):
        board = observe(board, Watching(rules=(rule,)), Sample(1.0, "latency", 0.2, peer))
    left = without(board, "latency", {"b"})
    assert [alert.about for alert in left.alerts] == ["b"]
    ended = changes(board.alerts, left.alerts, {"abcdef", "b"})
    assert [(alert.about, alert.state) for alert in ended] == [("c", "lost")]


@pytest.mark.parametrize(("there", "state"), [({"abcdef"}, "cleared"), (set(), "lost")])
def test_an_alert_that_ends_with_its_node_is_not_called_cleared(there, state):
    before = run([0.9] * 10)[-1].alerts
    assert [alert.state for alert in changes(before, (), there)] == [state]
    assert [alert.state for alert in changes((), before, {"abcdef"})] == ["raised"]  # back again, it is news


# -- settings --------------------------------------------------------------------------------------------------


def test_the_thresholds_are_those_that_were_asked_for():
    assert {rule.quantity: rule.threshold for rule in RULES} == {
        "compute": 0.90, "memory": 0.85, "latency": 0.100, "temperature": 80.0,
    }  # fmt: skip
    plain = Watching()
    assert (plain.compute_s, plain.memory_s, plain.network_s, plain.device_s) == (5.0, 3.0, 1.0, 10.0)


def test_settings_are_read_from_text():
    made = watching_of("memory=1, device=0", "memory=50,latency=20,temperature=0")
    assert (made.memory_s, made.device_s, made.compute_s) == (1.0, 0.0, 5.0)
    memory, latency = made.rule("memory"), made.rule("latency")
    assert memory is not None
    assert latency is not None
    assert (memory.threshold, memory.clear) == (0.5, pytest.approx(0.45))
    assert latency.threshold == pytest.approx(0.02)
    assert made.rule("temperature") is None
    assert watching_of("off", "").network_s == 0.0


@pytest.mark.parametrize(
    ("sensors", "thresholds", "says"),
    [
        ("colour=1", "", "no sensor 'colour'"),
        ("memory=-1", "", "memory takes 0.2 seconds"),
        ("memory=nan", "", "memory takes 0.2 seconds"),
        ("memory", "", "NAME=NUMBER"),
        ("", "load=5", "no threshold 'load'"),
        ("", "memory=-5", "above 0"),
    ],
)
def test_a_wrong_setting_says_what_is_right(sensors, thresholds, says):
    with pytest.raises(ConfigError, match=says):
        watching_of(sensors, thresholds)


# -- what peers tell ---------------------------------------------------------------------------------------------


def test_a_peer_is_believed_what_it_says_of_itself_and_in_bounds():
    alert = Alert(id="x-1", node="somebody else", quantity="memory", value=0.9, threshold=0.85, since_s=1.0)
    told = Vitals(
        alerts=(alert, Alert(id="x" * 1000, node="", quantity="memory", value=0.9, threshold=0.85, since_s=1.0)),
        samples=(Sample(1.0, "memory", float("nan")), *[Sample(1.0, "memory", 0.5)] * 1000),
    )
    kept = believed(told, "peer")
    assert [(one.id, one.node) for one in kept.alerts] == [("x-1", "peer")]
    assert len(kept.samples) < MAX_TOLD
    assert kept.value("memory") == 0.5
    assert kept.value("temperature") is None
