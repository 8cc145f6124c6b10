"""An emulated link: nothing comes earlier than it would, everything comes in order, and it says what it is."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.device import Device, with_emulated_link
from exo_lab.core.emulated_link import EmulatedLink, parse_link
from exo_lab.core.errors import ConfigError, FrameError, PeerUnreachable, TransportError
from exo_lab.core.messages import Cancel, Step
from exo_lab.core.tensor import Tensor
from exo_lab.transport.emulated import MAX_FRAMES, EmulatedPort, _Wire

STEP = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)
WITHIN_S = 10.0


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**6)), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(1e3, 1e9),
)
def test_frames_leave_a_link_in_order_at_its_rate_and_each_with_its_latency(steps, latency_s, rate):
    wire, now, due = _Wire(EmulatedLink(latency_s=latency_s, bandwidth_bytes_per_s=rate)), 0.0, []
    for pause_s, size in steps:
        now += pause_s
        due.append(wire.due(now, size))
        assert due[-1] >= now + latency_s + size / rate - 1e-9
    assert due == sorted(due)
    total = sum(size for _, size in steps)
    assert due[-1] >= total / rate + latency_s - 1e-6
    assert due[-1] <= now + total / rate + latency_s + 1e-6


@pytest.mark.parametrize(("far", "near"), [("a", "b"), ("b", "a")])
def test_a_frame_takes_latency_and_size_whichever_end_is_emulated(network, far, near):
    link = EmulatedLink(latency_s=0.02, bandwidth_bytes_per_s=1e6)
    ports = {name: network.data(name) for name in (far, near)}
    ports[far] = EmulatedPort(ports[far], link)
    raw = bytes(40_000)
    for source, target in ((far, near), (near, far)):
        began = time.monotonic()
        for number in range(2):
            ports[source].send(ports[target].address, STEP, Tensor("float32", (10_000,), raw), WITHIN_S)
            ports[source].send(ports[target].address, Cancel(request=str(number)), None, WITHIN_S)
        for number in range(2):
            message, tensor = ports[target].recv(WITHIN_S)
            assert message == STEP
            assert bytes(tensor.data) == raw
            assert time.monotonic() - began >= 0.02 + (number + 1) * 0.04
            assert ports[target].recv(WITHIN_S) == (Cancel(request=str(number)), None)
    for port in ports.values():
        port.close()


def test_what_is_posted_is_not_slowed_and_wakes_the_thread(network):
    port = EmulatedPort(network.data("a"), EmulatedLink(latency_s=5.0))
    poster = threading.Timer(0.01, lambda: port.post("order"))
    poster.start()
    assert port.recv(WITHIN_S) == "order"
    assert port.recv(0.0) is None
    poster.join()
    port.close()


def test_a_full_link_refuses_and_a_frame_that_could_never_go_is_refused_at_once(network):
    port, other = EmulatedPort(network.data("a"), EmulatedLink(latency_s=30.0)), network.data("b")
    for _ in range(MAX_FRAMES):
        port.send(other.address, STEP, None, 0.0)
    with pytest.raises(PeerUnreachable, match="full"):
        port.send(other.address, STEP, None, 0.0)
    with pytest.raises(FrameError):
        port.send(other.address, STEP, Tensor("int32", (1, 1, 1, 1, 1), bytes(4)), 0.0)
    port.forget(other.address)
    port.send(other.address, STEP, None, 0.0)
    port.close()
    other.close()


def test_closing_ends_the_thread_and_a_recv_that_waits(network):
    port = EmulatedPort(network.data("a"), EmulatedLink(latency_s=30.0))
    port.send(port.address, STEP, None, 0.0)
    closer = threading.Timer(0.05, port.close)
    closer.start()
    with pytest.raises(TransportError, match="closed"):
        port.recv(WITHIN_S)
    closer.join()
    port.close()
    with pytest.raises(TransportError, match="closed"):
        port.send("anywhere", STEP, None, 0.0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("exo-link-")]


@pytest.mark.parametrize(
    ("text", "latency_s", "rate", "said"),
    [
        ("20ms,100Mbit", 0.02, 12.5e6, "link 20 ms, 100 Mbit/s"),
        ("1Gbit/s", 0.0, 125e6, "link 1000 Mbit/s"),
        (" 1.5 s ", 1.5, 0.0, "link 1500 ms"),
        ("250us, 10Mbps", 250e-6, 1.25e6, "link 0.25 ms, 10 Mbit/s"),
    ],
)
def test_a_link_is_read_as_people_write_it_and_a_device_says_that_it_is_emulated(text, latency_s, rate, said):
    link = parse_link(text)
    assert link == EmulatedLink(latency_s=pytest.approx(latency_s), bandwidth_bytes_per_s=pytest.approx(rate))
    assert link.text == said
    device = with_emulated_link(Device(id="a", name="a", emulated="2x slower"), link)
    assert (device.emulated, device.emulated_link) == (f"2x slower, {said}", said)


@pytest.mark.parametrize("text", ["", "20", "20ms,30ms", "fast", "0ms", "-1ms", "0Mbit", "20ms,100Mbit,1s", "61s", ","])
def test_what_is_no_link_is_refused(text):
    with pytest.raises(ConfigError, match="no link"):
        parse_link(text)
