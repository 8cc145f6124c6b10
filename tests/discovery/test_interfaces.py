"""Interfaces as Linux, macOS and Windows describe them: the true broadcast address, and what each link is."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.discovery.interfaces import (
    Interface,
    RawAddress,
    RawState,
    interfaces,
    kind_of,
    parse_hardware_ports,
    path_to,
    usable,
)  # fmt: skip

V4, V6, LINK = socket.AF_INET, socket.AF_INET6, 17
UP = "up,broadcast,running,multicast"

LINUX = (
    {
        "lo": [RawAddress(V4, "127.0.0.1", "255.0.0.0"), RawAddress(V6, "::1", "ffff:" * 7 + "ffff")],
        "enp3s0": [
            RawAddress(V4, "10.1.5.7", "255.255.252.0", "10.1.7.255"),
            RawAddress(V6, "fe80::1%enp3s0", "ffff:ffff:ffff:ffff::"),
            RawAddress(LINK, "02:fc:00:00:00:01", None, "ff:ff:ff:ff:ff:ff"),
        ],
        "wlp2s0": [RawAddress(V4, "192.168.1.20", "255.255.255.0", "192.168.1.255")],
        "thunderbolt0": [RawAddress(V4, "169.254.8.1", "255.255.0.0")],
        "ibs1": [RawAddress(V4, "10.9.0.1", "255.255.255.0")],
        "tailscale0": [RawAddress(V4, "100.101.102.103", "255.255.255.255")],
        "eth9": [RawAddress(V4, "10.99.0.1", "255.255.255.0")],
    },
    {
        "lo": RawState(True, "up,loopback,running"),
        "enp3s0": RawState(True, UP),
        "wlp2s0": RawState(True, UP),
        "tailscale0": RawState(True, "up,pointopoint,running,noarp,multicast"),
        "eth9": RawState(False, "broadcast,multicast"),
    },
    {},
)
PORTS = """
Hardware Port: Ethernet Adapter (en4)
Device: en4
Ethernet Address: 1e:00:8a:11:22:33

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: 36:00:8a:11:22:33

Hardware Port: Wi-Fi
Device: en0
Ethernet Address: 3c:22:fb:11:22:33

Hardware Port: Thunderbolt 1
Device: en1
Ethernet Address: 36:00:8a:11:22:34

Hardware Port: Thunderbolt Ethernet Slot 2
Device: en7
Ethernet Address: 00:00:8a:11:22:34

VLAN Configurations
===================
"""
MACOS = (
    {
        "lo0": [RawAddress(V4, "127.0.0.1", "255.0.0.0"), RawAddress(V6, "fe80::1%lo0", "ffff:ffff:ffff:ffff::")],
        "en0": [RawAddress(V4, "192.168.178.31", "255.255.255.0", "192.168.178.255")],
        "bridge0": [RawAddress(V4, "169.254.32.5", "255.255.0.0", "169.254.255.255")],
        "utun4": [RawAddress(V4, "100.64.0.9", "255.255.255.255", None, "100.64.0.9")],
        "awdl0": [RawAddress(V6, "fe80::44%awdl0", "ffff:ffff:ffff:ffff::")],
    },
    {
        "lo0": RawState(True, "up,loopback,running,multicast"),
        "en0": RawState(True, "up,broadcast,running,simplex,multicast"),
        "bridge0": RawState(True, "up,broadcast,running,simplex,multicast"),
        "utun4": RawState(True, "up,pointopoint,running,multicast"),
        "awdl0": RawState(True, "up,broadcast,running,promisc,simplex,multicast"),
    },
    parse_hardware_ports(PORTS),
)
WINDOWS = (
    {
        "Ethernet": [RawAddress(-1, "3C-7C-3F-11-22-33"), RawAddress(V4, "10.0.0.5", "255.255.255.128")],
        "Wi-Fi": [RawAddress(V4, "192.168.0.4", "255.255.255.0"), RawAddress(V6, "fe80::a1", None)],
        "Tailscale": [RawAddress(V4, "100.90.1.2", "255.255.255.255")],
        "Loopback Pseudo-Interface 1": [RawAddress(V4, "127.0.0.1", "255.0.0.0"), RawAddress(V6, "::1", None)],
        "vEthernet (WSL)": [RawAddress(V4, "172.22.96.1", "255.255.240.0")],
        "Local Area Connection": [RawAddress(V4, "10.7.0.5", None)],
    },
    {"Ethernet": RawState(True), "Wi-Fi": RawState(True)},
    {},
)


def table(system):
    return {
        (one.name, one.address): (one.prefix, one.broadcast, one.kind, one.is_lan)
        for one in usable(*system)
        if ":" not in one.address
    }


def test_linux():
    assert table(LINUX) == {
        ("lo", "127.0.0.1"): (8, "", "loopback", False),
        ("enp3s0", "10.1.5.7"): (22, "10.1.7.255", "ethernet", True),
        ("wlp2s0", "192.168.1.20"): (24, "192.168.1.255", "wifi", True),
        ("thunderbolt0", "169.254.8.1"): (16, "169.254.255.255", "thunderbolt", True),
        ("ibs1", "10.9.0.1"): (24, "10.9.0.255", "infiniband", True),
        ("tailscale0", "100.101.102.103"): (32, "", "tailscale", False),
    }


def test_macos_with_what_its_hardware_ports_say():
    assert parse_hardware_ports(PORTS) == {
        "en4": "ethernet",
        "bridge0": "thunderbolt",
        "en0": "wifi",
        "en1": "thunderbolt",
        "en7": "ethernet",
    }
    assert table(MACOS) == {
        ("lo0", "127.0.0.1"): (8, "", "loopback", False),
        ("en0", "192.168.178.31"): (24, "192.168.178.255", "wifi", True),
        ("bridge0", "169.254.32.5"): (16, "169.254.255.255", "thunderbolt", True),
        ("utun4", "100.64.0.9"): (32, "", "tailscale", False),
    }


def test_windows_which_gives_no_broadcast_address():
    assert table(WINDOWS) == {
        ("Ethernet", "10.0.0.5"): (25, "10.0.0.127", "ethernet", True),
        ("Wi-Fi", "192.168.0.4"): (24, "192.168.0.255", "wifi", True),
        ("Tailscale", "100.90.1.2"): (32, "", "tailscale", False),
        ("Loopback Pseudo-Interface 1", "127.0.0.1"): (8, "", "loopback", False),
        ("vEthernet (WSL)", "172.22.96.1"): (20, "172.22.111.255", "ethernet", True),
        # No netmask: no network is assumed, and the broadcast is the one that needs none.
        ("Local Area Connection", "10.7.0.5"): (32, "255.255.255.255", "ethernet", True),
    }


def test_ipv6_is_listed_and_never_broadcast_to():
    ours = usable(*LINUX)
    six = next(one for one in ours if one.address == "fe80::1%enp3s0")
    assert (six.prefix, six.broadcast, six.is_lan) == (64, "", False)
    assert six.reaches("fe80::99%eth4")
    assert not six.reaches("10.1.5.9")


def test_a_broadcast_address_that_nobody_set_is_computed():
    for unset in (None, "10.0.0.5", "0.0.0.0"):
        (one,) = usable({"eth0": [RawAddress(V4, "10.0.0.5", "255.255.255.0", unset)]}, {})
        assert one.broadcast == "10.0.0.255"


def test_an_interface_that_is_down_is_left_out():
    assert "eth9" not in {one.name for one in usable(*LINUX)}


@given(st.ip_addresses(v=4), st.integers(1, 30))
def test_the_broadcast_address_is_the_networks_own_for_any_netmask(address, prefix):
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    if address.is_loopback or address.is_unspecified or address in ipaddress.ip_network("100.64.0.0/10"):
        return
    (one,) = usable({"eth0": [RawAddress(V4, str(address), str(network.netmask))]}, {})
    assert one.broadcast == str(network.broadcast_address)
    assert one.prefix == prefix
    assert one.reaches(str(network.network_address))


@given(st.text(max_size=20), st.text(max_size=20) | st.none())
def test_whatever_the_system_says_nothing_breaks(address, netmask):
    for family in (V4, V6, LINK):
        for one in usable({"x": [RawAddress(family, address, netmask)]}, {}):
            assert 0 <= one.prefix <= 128


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("10.1.5.7", "loopback"),  # this machine's own address
        ("10.1.6.200", "ethernet"),
        ("192.168.1.9", "wifi"),
        ("100.99.1.1", "tailscale"),
        ("[fd7a:115c:a1e0::3]", "tailscale"),
        ("169.254.9.9", "thunderbolt"),
        ("8.8.4.4", "unknown"),
        ("gpu-box.local", "unknown"),
    ],
)
def test_the_kind_of_the_link_to_an_address(host, kind):
    assert kind_of(host, usable(*LINUX)) == kind


def test_of_two_networks_that_hold_an_address_the_narrower_is_the_path():
    wide = Interface(name="eth0", address="10.0.0.1", prefix=8)
    narrow = Interface(name="eth1", address="10.0.5.1", prefix=24)
    assert path_to("10.0.5.9", [wide, narrow]) == narrow
    assert path_to("10.7.0.1", [wide, narrow]) == wide
    assert path_to("11.0.0.1", [wide, narrow]) is None


def test_this_machine_has_a_loopback_interface():
    assert "127.0.0.1" in {one.address for one in interfaces() if one.kind == "loopback"}
