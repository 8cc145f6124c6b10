"""A peers file is read again when it changes, and every mistake in it is named with line and field."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.device import Device
from exo_lab.core.errors import ConfigError
from exo_lab.core.messages import NodeCard
from exo_lab.discovery.manual import GivenPeers, ManualPeers, parse_peers
from exo_lab.discovery.names import Names

CARD = NodeCard(device=Device(id="me", name="me"), control="tcp://127.0.0.1:5000", data="")
WITHIN_S = 10.0

GOOD = """
[peers.gpu-box]
address = "192.168.1.20"
port = 52415
kind = "ethernet"

[peers.laptop]
address = "tcp://[fe80::1]:4000"
"""


def test_peers_are_read_with_their_endpoints():
    peers = parse_peers(GOOD, "peers.toml")
    assert peers.mistakes == ()
    assert [(one.name, one.address, one.kind) for one in peers.found] == [
        ("gpu-box", "tcp://192.168.1.20:52415", "ethernet"),
        ("laptop", "tcp://[fe80::1]:4000", "unknown"),
    ]
    assert peers.found[0].source == "peers.toml, peer 'gpu-box'"


def test_exos_own_file_is_read_too():
    text = '{"peers": {"node1": {"address": "10.0.0.2", "port": 50051, "device_capabilities": {"memory": 8}}}}'
    assert [one.address for one in parse_peers(text, "peers.json").found] == ["tcp://10.0.0.2:50051"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[peers.a]\naddress = "10.0.0.1"\nport = 70000\n', 3, "field 'port': must be a number from 1 to 65535"),
        ('[peers.a]\naddress = "10.0.0.1"\n', 1, "field 'port'"),
        ("[peers.a]\naddress = 7\nport = 1\n", 2, "field 'address'"),
        ('[peers.a]\naddress = "http://x:1"\n', 2, "must be a host or tcp://host:port"),
        ('[peers.a]\naddress = "a b"\nport = 1\n', 2, "is not a host name"),
        ('[peers.a]\naddress = "x"\nport = 1\nkind = "string"\n', 4, "field 'kind': must be one of loopback"),
        ('[peers.a]\naddress = "x"\nport = true\n', 3, "field 'port'"),
        ('[peers.a]\naddress = "x"\nport = 1\nprot = 2\n', 4, "field 'prot': unknown"),
        ("[peers]\na = 3\n", 2, "peer 'a' must be a table"),
        ("peers = 3\n", 1, "peers must be tables"),
        ('[peer.a]\naddress = "x"\nport = 1\n', 1, "unknown field 'peer'"),
        ('[peers.a]\naddress = "x"\nport = 1\n\n[peers.b]\naddress = "y"\nport = 0\n', 7, "peer 'b', field 'port'"),
    ],
)
def test_every_mistake_is_named_with_line_and_field(text, line, says):
    mistakes = parse_peers(text, "peers.toml").mistakes
    assert any(f"peers.toml, line {line}:" in mistake and says in mistake for mistake in mistakes), mistakes


def test_one_wrong_peer_does_not_lose_the_others():
    peers = parse_peers(GOOD + '\n[peers.bad]\naddress = ""\n', "p")
    assert [one.name for one in peers.found] == ["gpu-box", "laptop"]
    assert len(peers.mistakes) == 1


@pytest.mark.parametrize("text", ["[peers.a\n", "{not json", '{"peers": '])
def test_what_is_no_file_of_that_kind_says_where(text):
    with pytest.raises(ConfigError, match="line 1"):
        parse_peers(text, "peers.toml")


@given(st.text(max_size=200))
def test_any_text_gives_peers_or_a_config_error(text):
    try:
        peers = parse_peers(text, "p")
    except ConfigError:
        return
    assert all(one.address.startswith("tcp://") for one in peers.found)


async def next_of(watching):
    async with asyncio.timeout(WITHIN_S):
        return await anext(watching)


def test_the_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "peers.toml"
    path.write_text(GOOD)

    async def run():
        manual = ManualPeers(path, every_s=0.01)
        watching = manual.watch(CARD)
        assert [one.name for one in await next_of(watching)] == ["gpu-box", "laptop"]
        path.write_text('[peers.other]\naddress = "10.1.1.1"\nport = 5\n')
        assert [one.name for one in await next_of(watching)] == ["other"]
        path.unlink()
        assert await next_of(watching) == ()
        assert "cannot be read" in manual.problems[0]
        path.write_text(GOOD)
        assert len(await next_of(watching)) == 2
        assert manual.problems == ()
        await watching.aclose()

    asyncio.run(run())


def test_a_half_written_file_keeps_the_peers_that_were_known(tmp_path):
    path = tmp_path / "peers.toml"
    path.write_text(GOOD)

    async def run():
        looks, waits = asyncio.Queue(), asyncio.Queue()

        async def wait(_: float) -> None:
            waits.put_nowait(None)
            await looks.get()

        manual = ManualPeers(path, wait=wait)
        watching = manual.watch(CARD)
        assert len(await next_of(watching)) == 2
        path.write_text("[peers.gpu")
        again = asyncio.ensure_future(anext(watching))
        async with asyncio.timeout(WITHIN_S):
            await waits.get()
            looks.put_nowait(None)
            assert len(await again) == 2  # told again for the problem; the two are still there
        assert "line 1" in manual.problems[0]
        again = asyncio.ensure_future(anext(watching))
        async with asyncio.timeout(WITHIN_S):
            await waits.get()
        path.write_text(GOOD.replace("laptop", "tower"))
        looks.put_nowait(None)
        async with asyncio.timeout(WITHIN_S):
            assert [one.name for one in await again] == ["gpu-box", "tower"]
        await watching.aclose()

    asyncio.run(run())


def test_this_node_itself_in_the_file_is_left_out(tmp_path):
    path = tmp_path / "peers.toml"
    path.write_text('[peers.me]\naddress = "tcp://127.0.0.1:5000"\n[peers.b]\naddress = "tcp://127.0.0.1:5001"\n')

    async def run():
        watching = ManualPeers(path).watch(CARD)
        assert [one.name for one in await next_of(watching)] == ["b"]
        await watching.aclose()

    asyncio.run(run())


def test_given_peers_are_told_again_and_again_so_that_a_late_one_is_greeted():
    async def run():
        async def wait(_: float) -> None:
            return

        watching = GivenPeers(["tcp://127.0.0.1:5000", "tcp://127.0.0.1:7"], wait).watch(CARD)
        for _ in range(3):
            assert [one.address for one in await next_of(watching)] == ["tcp://127.0.0.1:7"]
        await watching.aclose()

    asyncio.run(run())


def test_names_in_a_file_become_addresses_and_one_that_is_not_found_is_a_problem_that_goes_away(tmp_path):
    path = tmp_path / "peers.toml"
    path.write_text(GOOD + '\n[peers.shed]\naddress = "shed.lan"\nport = 5\n')

    async def run():
        now, book = [0.0], {}

        async def look_up(host: str) -> str:
            if host not in book:
                raise OSError("no such name")
            return book[host]

        manual = ManualPeers(path, every_s=0.001, names=Names(look_up, now=lambda: now[0]))
        watching = manual.watch(CARD)
        assert [one.name for one in await next_of(watching)] == ["gpu-box", "laptop"]
        assert manual.problems == (
            "peers.toml, peer 'shed': the name shed.lan cannot be looked up (no such name). Check its spelling, or "
            "give that machine's IP address.",
        )
        book["shed.lan"], now[0] = "10.0.0.7", 100.0
        assert [one.address for one in await next_of(watching)][2] == "tcp://10.0.0.7:5"
        assert manual.problems == ()
        await watching.aclose()

    asyncio.run(run())


def test_names_that_are_given_at_start_become_addresses():
    async def run():
        async def wait(_: float) -> None:
            return

        async def look_up(host: str) -> str:
            return {"shed": "10.0.0.7", "myself": "127.0.0.1"}[host]

        addresses = ["tcp://shed:5", "tcp://myself:5000", "nonsense"]
        watching = GivenPeers(addresses, wait, Names(look_up)).watch(CARD)
        assert [one.address for one in await next_of(watching)] == ["tcp://10.0.0.7:5", "nonsense"]
        await watching.aclose()

    asyncio.run(run())
