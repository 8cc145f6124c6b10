"""Nodes across a tailnet, against a stand-in of Tailscale's local API socket and of its command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import Clock, Signature, Watched, card_of, rest

from exo_lab.discovery.tailnet import NoTailscale, Tailscale, TailStatus, parse_status
from exo_lab.discovery.tailscale import CONTROL_PORT, LOOK_EVERY_S, TRY_AGAIN_S, TailscaleDiscovery, listens

WITHIN_S = 20.0


def machine(name, address, **fields):
    """A machine as `ipnstate.PeerStatus` is written, with the fields that we do not read too."""
    return {
        "ID": f"n{name}CNTRL",
        "PublicKey": f"nodekey:{name:0>64}",
        "HostName": name,
        "DNSName": f"{name}.tail1234.ts.net.",
        "OS": "linux",
        "UserID": 1234567890,
        "TailscaleIPs": ["fd7a:115c:a1e0::" + address.rsplit(".", 1)[1], address],
        "AllowedIPs": [f"{address}/32"],
        "Addrs": None,
        "CurAddr": "",
        "Relay": "fra",
        "PeerRelay": "",
        "RxBytes": 0,
        "TxBytes": 0,
        "Created": "2026-01-01T00:00:00Z",
        "LastWrite": "0001-01-01T00:00:00Z",
        "LastSeen": "0001-01-01T00:00:00Z",
        "LastHandshake": "0001-01-01T00:00:00Z",
        "Online": True,
        "ExitNode": False,
        "ExitNodeOption": False,
        "Active": False,
        "PeerAPIURL": [f"http://{address}:35841"],
        "TaildropTarget": 5,
        "NoFileSharingReason": "",
        "Capabilities": None,
        "InNetworkMap": True,
        "InMagicSock": True,
        "InEngine": False,
        "KeyExpiry": "2027-01-01T00:00:00Z",
        **fields,
    }


def status(*peers, state="Running", **fields):
    return {
        "Version": "1.86.2-tf2d3b2d8f",
        "TUN": True,
        "BackendState": state,
        "HaveNodeKey": True,
        "AuthURL": "",
        "TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"],
        "Self": machine("me", "100.64.0.1"),
        "Health": [],
        "MagicDNSSuffix": "tail1234.ts.net",
        "CurrentTailnet": {"Name": "x@example.com", "MagicDNSSuffix": "tail1234.ts.net", "MagicDNSEnabled": True},
        "CertDomains": None,
        "Peer": {peer["PublicKey"]: peer for peer in peers} or None,
        "User": {"1234567890": {"ID": 1234567890, "LoginName": "x@example.com"}},
        "ClientVersion": None,
        **fields,
    }


BOX = machine("gpu-box", "100.64.0.2", CurAddr="203.0.113.5:41641", Active=True)
PHONE = machine("phone", "100.64.0.3", OS="iOS")
AWAY = machine("away", "100.64.0.4", Online=False)
CLOUD = machine("cloud", "100.64.0.5", Active=True)
SHARED = machine("shared", "100.64.0.6", ShareeNode=True)
FULL = status(BOX, PHONE, AWAY, CLOUD, SHARED)


def test_a_status_says_who_is_there_and_how_they_are_reached():
    said = parse_status(json.dumps(FULL).encode())
    assert isinstance(said, TailStatus)
    assert (said.state, said.address, said.name) == ("Running", "100.64.0.1", "me")
    assert [(one.name, one.address, one.online, one.how) for one in said.peers] == [
        ("away", "100.64.0.4", False, ""),
        ("cloud", "100.64.0.5", True, "relayed by fra"),
        ("gpu-box", "100.64.0.2", True, "direct"),
        ("phone", "100.64.0.3", True, ""),
    ]


def test_a_status_of_a_logged_out_tailscale_is_read():
    said = parse_status(json.dumps({"BackendState": "NeedsLogin", "Self": None, "Peer": None, "Health": None}).encode())
    assert said == TailStatus(state="NeedsLogin")


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.integers()).map(lambda one: json.dumps(one).encode()))
def test_any_answer_is_read_without_breaking(answer):
    assert isinstance(parse_status(answer), NoTailscale | TailStatus)


# -- the local API's socket --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def local_api(path, answers):
    """tailscaled's socket: HTTP, one path, and only for the host name that tailscaled insists on."""
    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        except ConnectionError:
            pass  # the client has had enough
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = answers()
        if body is None:
            await reader.read()  # an answer never comes
        elif not head.startswith("GET /localapi/v0/status HTTP/1.") or "Host: local-tailscaled.sock\r\n" not in head:
            writer.write(b"HTTP/1.0 403 Forbidden\r\nContent-Type: text/plain\r\n\r\ninvalid localapi request\n")
        elif isinstance(body, int):
            writer.write(f"HTTP/1.0 {body} Denied\r\n\r\nstatus access denied\n".encode())
        else:
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nTailscale-Cap: 109\r\n\r\n")
            writer.write(json.dumps(body, indent="\t").encode())
        await writer.drain()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*serving)


@pytest.fixture
def short(tmp_path_factory):
    # A socket's path has about 100 characters.
    return tmp_path_factory.mktemp("ts")


def asked(short, answer, **options):
    async def whole():
        async with local_api(short / "s", lambda: answer):
            return await Tailscale((short / "s",), command=str(short / "none"), **options).status()

    return asyncio.run(whole())


def test_the_socket_is_asked_as_tailscaled_wants_it(short):
    said = asked(short, FULL)
    assert isinstance(said, TailStatus)
    assert len(said.peers) == 4


def test_a_socket_that_refuses_or_never_answers_says_so_within_its_deadline(short):
    refused = asked(short, 403)
    assert "403" in refused.why
    assert not refused.is_absent
    silent = asked(short, None, timeout_s=0.05)
    assert "no answer within 0.05 s" in silent.why


def test_an_endless_answer_is_cut_off(short, monkeypatch):
    monkeypatch.setattr("exo_lab.discovery.tailnet.MAX_ANSWER_BYTES", 1000)
    assert "more than" in asked(short, FULL).why


def test_nothing_there_is_absence_and_not_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = asyncio.run(Tailscale((tmp_path / "none",)).status())
    assert isinstance(said, NoTailscale)
    assert said.is_absent


# -- the command ---------------------------------------------------------------------------------------------


def script(tmp_path, body):
    path = tmp_path / "tailscale"
    path.write_text(
        f"#!{sys.executable}\nimport sys, json, time\nassert sys.argv[1:] == ['status', '--json']\n{body}\n"
    )
    path.chmod(0o755)
    return path


def test_the_command_on_the_path_is_asked_when_there_is_no_socket(tmp_path, monkeypatch):
    script(tmp_path, f"print(json.dumps({FULL!r}))")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    said = asyncio.run(Tailscale(()).status())
    assert isinstance(said, TailStatus)
    assert [one.name for one in said.peers] == ["away", "cloud", "gpu-box", "phone"]


def test_a_command_that_fails_says_why(tmp_path):
    path = script(tmp_path, "print('failed to connect to local tailscaled', file=sys.stderr); sys.exit(1)")
    said = asyncio.run(Tailscale((), command=str(path)).status())
    assert "failed to connect to local tailscaled" in said.why
    assert not said.is_absent


def test_a_stopped_tailscale_exits_with_one_and_is_still_read(tmp_path):
    path = script(tmp_path, f"print(json.dumps({status(state='Stopped')!r})); sys.exit(1)")
    assert asyncio.run(Tailscale((), command=str(path)).status()).state == "Stopped"


def test_a_command_that_hangs_is_ended_at_the_deadline(tmp_path):
    path = script(tmp_path, "time.sleep(60)")
    said = asyncio.run(Tailscale((), command=str(path), timeout_s=0.5).status())
    assert "no answer within 0.5 s" in said.why


# -- the discovery -------------------------------------------------------------------------------------------


class Tailnet:
    """Answers as a test says, and knows on which addresses something listens."""

    def __init__(self, answer, *listening):
        self.answer, self.listening, self.tried = answer, set(listening), []

    async def status(self):
        return self.answer if isinstance(self.answer, NoTailscale) else parse_status(json.dumps(self.answer).encode())

    async def tries(self, address, port):
        self.tried.append((address, port))
        return address in self.listening


def scenario(tailnet, steps, port=CONTROL_PORT, control_port=CONTROL_PORT, **options):
    async def whole():
        clock = Clock()
        identity = Signature("a")
        discovery = TailscaleDiscovery(
            identity, port=port, ask=tailnet, tries=tailnet.tries, now=clock.now, wait=clock.wait, **options
        )
        watched = Watched(discovery, card_of(identity, "a", control_port))
        try:
            await rest()
            await steps(watched, clock)
        finally:
            await watched.stop()

    asyncio.run(whole())


def test_machines_that_listen_on_the_port_are_found():
    tailnet = Tailnet(FULL, "100.64.0.2", "100.64.0.4", "100.64.0.5")

    async def steps(watched, clock):
        assert [(one.name, one.address, one.source, one.kind) for one in watched.found] == [
            ("cloud", f"tcp://100.64.0.5:{CONTROL_PORT}", "Tailscale, relayed by fra", "tailscale"),
            ("gpu-box", f"tcp://100.64.0.2:{CONTROL_PORT}", "Tailscale, direct", "tailscale"),
        ]
        assert watched.discovery.problems == ()
        assert ("100.64.0.4", CONTROL_PORT) not in tailnet.tried  # it is not online

    scenario(tailnet, steps)


def test_a_node_that_starts_later_or_goes_offline_is_noticed_and_who_answered_is_left_in_peace():
    tailnet = Tailnet(status(BOX, PHONE), "100.64.0.2")

    async def steps(watched, clock):
        assert watched.names == ["gpu-box"]
        tailnet.listening.add("100.64.0.3")
        await clock.advance(LOOK_EVERY_S)
        assert watched.names == ["gpu-box", "phone"]
        await clock.advance(3 * LOOK_EVERY_S)
        assert tailnet.tried.count(("100.64.0.2", CONTROL_PORT)) == 1
        tailnet.answer = status({**BOX, "Online": False}, PHONE)
        await clock.advance(LOOK_EVERY_S)
        assert watched.names == ["phone"]
        tailnet.listening.clear()
        await clock.advance(TRY_AGAIN_S)
        assert watched.names == []

    scenario(tailnet, steps)


def test_another_port_is_for_everybody():
    tailnet = Tailnet(status(BOX), "100.64.0.2")

    async def steps(watched, clock):
        assert watched.addresses == ["tcp://100.64.0.2:6000"]
        assert watched.discovery.problems == ()

    scenario(tailnet, steps, port=6000, control_port=6000)


def test_a_node_that_others_would_not_find_says_so():
    async def steps(watched, clock):
        first, second = watched.discovery.problems
        assert "--bind 100.64.0.1" in first
        assert f"Connect with --port {CONTROL_PORT}" in second

    scenario(Tailnet(FULL), steps, control_port=4000, bind="127.0.0.1")


@pytest.mark.parametrize(
    ("answer", "required", "says"),
    [
        (NoTailscale("it is not installed here", is_absent=True), True, "not installed"),
        (NoTailscale("it is not installed here", is_absent=True), False, ""),
        (NoTailscale("it does not answer", is_absent=False), False, "does not answer"),
        (status(state="Stopped"), True, "tailscale up"),
        (status(state="NeedsLogin"), True, "tailscale login"),
        (status(state="Stopped"), False, ""),
    ],
)
def test_its_absence_is_a_problem_only_if_it_was_asked_for(answer, required, says):
    async def steps(watched, clock):
        assert watched.found == ()
        assert watched.lists == 1
        if says:
            assert says in watched.discovery.problems[0]
        else:
            assert watched.discovery.problems == ()

    scenario(Tailnet(answer), steps, required=required)


def test_whether_something_listens_is_found_out_by_connecting():
    async def whole():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(WITHIN_S):
            assert await listens("127.0.0.1", port)
            server.close()
            await server.wait_closed()
            assert not await listens("127.0.0.1", port)

    asyncio.run(whole())
