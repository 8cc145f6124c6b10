"""Addresses that sockets are bound and connected to: IP addresses only, so that nothing is looked up on the way."""

from __future__ import annotations

import pytest
import zmq

from exo_lab.core.errors import PeerUnreachable
from exo_lab.transport.sockets import bind, connect

WITHIN_S = 10.0


@pytest.mark.parametrize("host", ["box", "box.example", "1.2.3", "0x7f.1", "[fe80::zz]", "[::1%a.b]x"])
def test_a_name_is_refused_and_not_looked_up(host):
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    with pytest.raises(PeerUnreachable, match=r"IP addresses only|not an address"):
        connect(socket, f"tcp://{host}:5")
    socket.close()
    context.term()


def test_a_listener_on_a_name_or_an_interface_tells_its_ip_address():
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    address = bind(pull, "localhost")
    assert address.startswith("tcp://127.0.0.1:")
    connect(push, address.replace("127.0.0.1", "localhost"))
    push.send(b"here")
    assert pull.poll(int(WITHIN_S * 1000))
    assert pull.recv() == b"here"
    push.close()
    pull.close()
    context.term()
