"""A real link that is made slow: what nodes measure follows it, and so do their plans. Linux's own traffic control."""

from __future__ import annotations

import statistics

import pytest

from exo_lab.transport.keys import new_token
from tests.net import hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WITHIN_S = 60.0  # the median of 16 measurements has to turn
SLOWER = "1.3"  # c is: so a's plan is over a and b, as long as the link to b is good
DELAY_S = 0.02


def three(lan, folder, *how):
    """Three nodes on a LAN that can be shaped like this."""
    reason = hosts.why_no_shaping(*how)
    if reason:
        pytest.skip(f"a shaped link was NOT tested: {reason}")
    token = new_token()
    made = [lan.host(f"10.77.0.{number}") for number in (1, 2, 3)]
    for name, host, slow in zip("abc", made, ("1", "1", SLOWER), strict=True):
        host.run("plan", name, "udp", slow, folder=folder, EXO_LAB_TOKEN=token)
    return made


def tbf(mbit):
    return ("tbf", "rate", f"{mbit}mbit", "burst", "32kb", "latency", "2s")


def bandwidth(said, name):
    return said["links"].get(name, (None, None))[1]


def test_a_link_of_less_bandwidth_is_measured_and_planned_around(lan, tmp_path):
    a, b, _ = three(lan, tmp_path, *tbf(8))
    good = a.until(
        lambda said: said["plan"] == ["a", "b"] and bandwidth(said, "b") and bandwidth(said, "c"),
        "all links are measured, and b is the better second",
        WITHIN_S,
    )
    measured = {}
    for mbit in (8, 24):
        b.shape(*tbf(mbit))
        rate = mbit * 1e6 / 8
        said = a.until(
            # A busy machine makes it look slower than it is, the burst of a token bucket faster. The plan may be older
            # than the links: 8 KiB of a hidden state take so long in both. Once c is in it, b may stay as the last
            # stage, which sends a token.
            lambda said, rate=rate, mbit=mbit: (
                0.15 * rate < (bandwidth(said, "b") or 0) < 2.5 * rate
                and said["hops"]["b"][0] > 8192 / (2.5 * rate)
                and bandwidth(said, "c")
                and (mbit > 8 or "c" in said["plan"])
            ),
            f"the link to b is measured as one of {mbit} Mbit/s, and the slower one is planned around",
            WITHIN_S,
        )
        measured[mbit] = bandwidth(said, "b")
        if mbit == 8:
            assert said["hops"]["b"][0] > 3 * good["hops"]["b"][0]
    assert statistics.mean(measured.values()) < min(bandwidth(good, "b"), bandwidth(said, "c"))


def test_a_link_of_more_latency_is_measured_and_planned_around(lan, tmp_path):
    delay = ("netem", "delay", f"{DELAY_S * 1000:g}ms")
    a, b, _ = three(lan, tmp_path, *delay)
    b.shape(*delay)
    said = a.until(
        lambda said: said["links"].get("b") and said["links"]["b"][0] > 0.9 * DELAY_S and said["plan"] == ["a", "c"],
        "the link to b is measured as slow, and the plan goes another way",
        WITHIN_S,
    )
    assert said["hops"]["b"][0] > 0.9 * DELAY_S
