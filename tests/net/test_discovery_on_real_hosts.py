"""Hosts with networks of their own find each other by mDNS and by UDP, lose each other and come back. No emulation."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

TAG, OTHER_TAG = "a" * 16, "b" * 16
PORT = 4000


def found(*hosts):
    """A condition: exactly these hosts are seen, at the addresses that they have now."""
    wanted = {name: f"tcp://{host.address}:{PORT}" for name, host in hosts}
    return lambda said: said["found"] == wanted


@pytest.mark.parametrize("way", ["udp", "mdns"])
def test_three_hosts_find_each_other_and_one_comes_back_under_another_address(lan, tmp_path, way):
    a, b, c = (lan.host(f"10.77.0.{i}") for i in (1, 2, 3))
    x = lan.host("10.77.0.9")
    for name, host in (("a", a), ("b", b), ("c", c)):
        host.run("look", way, name, TAG, folder=tmp_path)
    x.run("look", way, "x", OTHER_TAG, folder=tmp_path)
    a.until(found(("b", b), ("c", c)), "a sees b and c")
    b.until(found(("a", a), ("c", c)), "b sees a and c")
    c.until(found(("a", a), ("b", b)), "c sees a and b")
    # `--lan` with another token: it sees that somebody is there, and nobody to try.
    x.until(lambda said: said["found"] == {} and said["others"] == ["a", "b", "c"], "x sees strangers only")

    c.down()
    a.until(found(("b", b)), "a forgets c")
    c.until(lambda said: said["found"] == {} and "no network interface is up" in str(said["problems"]), "c is alone")

    c.up("10.77.0.33")
    a.until(found(("b", b), ("c", c)), "a sees c at its new address")
    b.until(found(("a", a), ("c", c)), "b sees c at its new address")
    again = found(("a", a), ("b", b))
    c.until(lambda said: again(said) and said["kinds"] == ["ethernet"] and not said["problems"], "c sees a and b again")

    b.stop()
    a.until(found(("c", c)), "a hears b's goodbye")
