"""Who watches is told at once and of changes only; nothing looks while nobody watches. Files say what they say."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import msgspec
import psutil
import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.discovery.loopback import Entry
from exo_lab.front.server import looking
from exo_lab.front.server.answers import NodesAnswer
from exo_lab.front.server.desk import ServerDesk, Watch


class Looks:
    """A world that changes when the test says so, and a clock that ticks when it is asked to."""

    def __init__(self, *said: str | Exception) -> None:
        self.said, self.looks = list(said), 0
        self.over = asyncio.Event()

    async def look(self) -> NodesAnswer:
        self.looks += 1
        now = self.said.pop(0)
        if not self.said:
            self.over.set()
        if isinstance(now, Exception):
            raise now
        return NodesAnswer(problems=(now,))

    async def wait(self, _seconds: float) -> None:
        if not self.said:
            await asyncio.Event().wait()  # for ever: the last thing was said
        await asyncio.sleep(0)


def test_only_changes_are_told_and_an_error_ends_nothing():
    async def scene() -> tuple[list[str], list[str]]:
        world = Looks("a", "a", ConfigError("unreadable"), "b", ValueError("a bug"), "b", "a")
        watch, first, late = Watch(world.look, world.wait), [], []
        watch.add(first.append)
        await asyncio.wait_for(world.over.wait(), 10)
        await asyncio.sleep(0)
        watch.add(late.append)
        watch.discard(first.append)
        watch.discard(late.append)
        return first, late

    first, late = asyncio.run(scene())
    assert [json.loads(text)["problems"] for text in first] == [["a"], ["b"], ["a"]]
    assert [json.loads(text)["problems"] for text in late] == [["a"]]


def test_with_the_last_listener_the_looking_ends():
    async def scene() -> int:
        world = Looks(*"abcdefgh")
        watch = Watch(world.look, world.wait)
        told: list[str] = []

        def listener(text: str) -> None:
            told.append(text)
            watch.discard(listener)

        watch.add(listener)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(told) == 1
        return world.looks

    assert asyncio.run(scene()) == 1


def test_a_watch_whose_task_has_ended_looks_again_for_the_next_who_listens():
    async def scene() -> list[str]:
        world = Looks("a", "b")
        watch, told = Watch(world.look, broken), []
        watch.add(lambda text: None)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        with pytest.raises(RuntimeError):
            await task
        watch.add(told.append)
        await asyncio.wait_for(world.over.wait(), 10)
        await asyncio.sleep(0)
        return told

    async def broken(_seconds: float) -> None:
        raise RuntimeError

    assert [json.loads(text)["problems"] for text in asyncio.run(scene())] == [["a"], ["b"]]


@pytest.fixture
def registry(tmp_path, monkeypatch):
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("EXO_LAB_REGISTRY", str(folder))
    return folder


def write(folder, name: str, pid: int, started: float) -> None:
    entry = Entry(id=name * 3, name=name, control="tcp://127.0.0.1:4000", pid=pid, started=started)
    (folder / f"{entry.id}.json").write_bytes(msgspec.json.encode(entry))


def test_known_nodes_are_those_whose_processes_live_and_looking_changes_nothing(registry):
    write(registry, "alive", os.getpid(), psutil.Process().create_time())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    write(registry, "ended", ended.pid, 1.0)
    (registry / "broken.json").write_text("{")
    answer = looking.nodes()
    assert [(one.name, one.running, one.pid) for one in answer.nodes] == [("alive", True, os.getpid())]
    assert answer.problems == ()
    assert len(list(registry.iterdir())) == 3


def test_a_peers_file_in_the_root_is_read_and_its_mistakes_are_said(registry, tmp_path):
    desk = ServerDesk(tmp_path)
    assert desk.peers() is None
    (tmp_path / "peers.toml").write_text(
        '[peers.box]\naddress = "192.168.1.20"\nport = 52415\n[peers.bad]\naddress = "x"\nport = 0\n'
    )
    answer = looking.nodes(desk.peers())
    assert [(one.name, one.address, one.running) for one in answer.nodes] == [("box", "tcp://192.168.1.20:52415", None)]
    assert len(answer.problems) == 1
    assert "line 6" in answer.problems[0]
    assert "'bad'" in answer.problems[0]


def test_a_configured_peers_file_that_is_not_there_is_a_problem_and_not_an_error(registry, tmp_path):
    answer = looking.nodes(ServerDesk(tmp_path, str(tmp_path / "away.toml")).peers())
    assert answer.nodes == ()
    assert "away.toml" in answer.problems[0]


def test_models_in_the_cache_and_those_that_could_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("EXO_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "smollm2-135m" in looking.models().fetchable
