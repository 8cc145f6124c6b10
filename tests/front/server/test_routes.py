"""A real Jupyter server, with a token: every route is closed without it, and answers typed JSON with it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import bokeh
import msgspec
import psutil
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from exo_lab import __version__
from exo_lab.discovery.loopback import Entry
from exo_lab.front.server.answers import (
    BokehAnswer,
    DoctorAnswer,
    LessonsAnswer,
    ModelsAnswer,
    NodesAnswer,
    ServerFacts,
    VersionAnswer,
)
from exo_lab.front.server.handlers import HANDLERS
from tests.servers import jupyter

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "exo_lab" / "front" / "server" / "exo_lab.json"
BASE = "/some/where/"  # every route must be joined with it
REST = {
    "version": VersionAnswer,
    "nodes": NodesAnswer,
    "models": ModelsAnswer,
    "doctor": DoctorAnswer,
    "lessons": LessonsAnswer,
    "bokeh": BokehAnswer,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", params=[True, False], ids=["closed-by-default", "open-by-default"])
def server(request, tmp_path_factory):
    """A server that enables us as the wheel's own file does. Ours is closed whatever the server's default is."""
    home = tmp_path_factory.mktemp("server")
    enabled = home / "config" / "jupyter_server_config.d"
    enabled.mkdir(parents=True)
    (enabled / CONFIG.name).write_text(CONFIG.read_text())
    (home / "root").mkdir()
    (home / "root" / "peers.toml").write_text('[peers.box]\naddress = "192.168.1.20"\nport = 52415\n')
    registry = home / "registry"
    registry.mkdir()
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "PYTHONPATH": str(ROOT),
        "EXO_LAB_REGISTRY": str(registry),
        "EXO_LAB_CACHE": str(home / "cache"),
        "HF_HUB_CACHE": str(home / "hub"),
    }
    options = (
        f"--ServerApp.root_dir={home / 'root'}",
        f"--ServerApp.allow_unauthenticated_access={not request.param}",
    )
    with jupyter("jupyter_server", home, environment, *options, base=BASE) as (url, token):
        yield url, token, registry


def get(url: str, **headers: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read(), exc.headers["Content-Type"]


@pytest.mark.parametrize("route", REST)
def test_a_route_is_closed_without_a_token_and_with_a_wrong_one(server, route):
    url, token, _ = server
    for address, headers in (
        (f"{url}exo-lab/api/{route}", {}),
        (f"{url}exo-lab/api/{route}?token={token[:-1]}", {}),
        (f"{url}exo-lab/api/{route}", {"Authorization": "token nonsense"}),
    ):
        status, body, _ = get(address, **headers)
        assert status == 403
        assert b"nodes" not in body


def test_there_is_no_route_that_this_test_has_forgotten():
    assert set(HANDLERS) == {*REST, "watch"}


@pytest.mark.parametrize(("route", "shape"), REST.items())
def test_a_route_answers_typed_json_with_a_token(server, route, shape):
    url, token, _ = server
    status, body, kind = get(f"{url}exo-lab/api/{route}", Authorization=f"token {token}")
    assert status == 200
    assert kind.startswith("application/json")
    answer = msgspec.json.decode(body, type=shape, strict=True)
    match answer:
        case VersionAnswer():
            assert answer.version == __version__
        case NodesAnswer():
            assert "box" in [one.name for one in answer.nodes]
        case ModelsAnswer():
            assert "smollm2-135m" in answer.fetchable
        case DoctorAnswer():
            assert answer.findings
        case BokehAnswer():
            assert answer.version == bokeh.__version__
            assert answer.script.count("factory(") >= 2  # BokehJS, and its controls


def test_the_web_socket_is_closed_without_a_token_and_to_foreign_pages(server):
    url, token, _ = server
    address = f"{url}exo-lab/api/watch".replace("http", "ws", 1)

    async def refused(request: HTTPRequest) -> int:
        with pytest.raises(HTTPClientError) as caught:
            await asyncio.wait_for(websocket_connect(request), 20)
        return caught.value.code

    assert asyncio.run(refused(HTTPRequest(address))) == 403
    assert asyncio.run(refused(HTTPRequest(f"{address}?token={token[1:]}"))) == 403
    # A page of somebody else's, in a browser that is logged in: it has the cookie and not the token.
    with urllib.request.urlopen(f"{url}api/status?token={token}", timeout=20) as answer:
        cookies = "; ".join(one.split(";")[0] for one in answer.headers.get_all("Set-Cookie"))
    own = url.removesuffix(BASE)
    asyncio.run(opened(HTTPRequest(address, headers={"Cookie": cookies, "Origin": own})))
    foreign = HTTPRequest(address, headers={"Cookie": cookies, "Origin": "http://evil.example"})
    assert asyncio.run(refused(foreign)) == 403


async def opened(request: HTTPRequest) -> str:
    """The first message."""
    made = await asyncio.wait_for(websocket_connect(request), 20)
    text = await asyncio.wait_for(made.read_message(), 30)
    await close(made)
    return text


async def close(made: WebSocketClientConnection) -> None:
    made.close()
    while await asyncio.wait_for(made.read_message(), 20) is not None:
        pass


def test_the_web_socket_tells_how_things_are_and_of_a_node_that_comes(server):
    url, token, registry = server
    address = f"{url}exo-lab/api/watch?token={token}".replace("http", "ws", 1)
    entry = Entry(
        id="c" * 12, name="comer", control="tcp://127.0.0.1:1", pid=os.getpid(), started=psutil.Process().create_time()
    )

    async def scene() -> list[ServerFacts]:
        socket_ = await asyncio.wait_for(websocket_connect(address), 20)
        await socket_.write_message("ignored")
        told = [await asyncio.wait_for(socket_.read_message(), 30)]
        (registry / f"{entry.id}.json").write_bytes(msgspec.json.encode(entry))
        told.append(await asyncio.wait_for(socket_.read_message(), 30))
        await close(socket_)
        return [msgspec.json.decode(text, type=ServerFacts) for text in told]

    before, after = asyncio.run(scene())
    assert "comer" not in [one.name for one in before.nodes.nodes]
    assert "comer" in [one.name for one in after.nodes.nodes]
    (registry / f"{entry.id}.json").unlink()


def test_jupyter_lists_the_extension_as_enabled_and_ok(tmp_path):
    enabled = tmp_path / "jupyter_server_config.d"
    enabled.mkdir()
    (enabled / CONFIG.name).write_text(CONFIG.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "server", "extension", "list"],
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert f"exo_lab {__version__}" in said
    assert "exo_lab enabled" in said
    assert json.loads(CONFIG.read_text())["ServerApp"]["jpserver_extensions"] == {"exo_lab": True}
    line = next(line for line in said.splitlines() if f"exo_lab {__version__}" in line)
    assert "OK" in line


def test_the_lessons_are_those_of_the_checkout_whole_and_in_order(server):
    url, token, _ = server
    _, raw, _ = get(f"{url}exo-lab/api/lessons", Authorization=f"token {token}")
    lessons = msgspec.json.decode(raw, type=LessonsAnswer).lessons
    files = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [lesson.name for lesson in lessons] == [path.stem for path in files]
    assert [lesson.notebook for lesson in lessons] == [path.read_text() for path in files]
    assert lessons[0].title == "1 · Your first cluster"
