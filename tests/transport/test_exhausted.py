"""A node that can open no more sockets cannot reach that peer now; nothing else of it breaks, and nothing is leaked."""

from __future__ import annotations

import asyncio

import pytest
import zmq

from exo_lab.core.errors import PeerUnreachable
from exo_lab.core.messages import Done, Ping, Step
from exo_lab.transport.control import ZmqControl
from exo_lab.transport.data import ZmqData
from exo_lab.transport.keys import ClusterKeys, new_token

NOWHERE = "tcp://127.0.0.1:9"


def limited(sockets: int) -> zmq.Context:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, sockets)
    return context


async def answer(message):
    yield Done()


@pytest.mark.parametrize("sockets", [1, 2, 3])
def test_without_a_socket_to_ask_with_a_peer_is_unreachable(sockets):
    async def check():
        context = limited(sockets)
        port = ZmqControl(context, ClusterKeys.from_token(new_token()))
        await port.start(answer)
        for _ in range(5):
            with pytest.raises(PeerUnreachable, match="Too many open files"):
                await port.request(NOWHERE, Ping(sequence=1), timeout_s=1.0)
        await port.close()
        context.term()  # would wait for ever for a socket that was left open

    asyncio.run(asyncio.wait_for(check(), 20.0))


def test_without_a_socket_to_send_with_a_peer_is_unreachable():
    context = limited(1)
    port = ZmqData(context, ClusterKeys.from_token(new_token()))
    step = Step(request="r", model="m", epoch=1, proposer="p", stage=1, position=7)
    for _ in range(5):
        with pytest.raises(PeerUnreachable, match="Too many open files"):
            port.send(NOWHERE, step, timeout_s=0.1)
    port.close()
    context.term()
