"""Kernels of one user find each other with nothing configured, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import msgspec
import psutil
import pytest

from exo_lab.core.device import Device
from exo_lab.core.messages import NodeCard
from exo_lab.discovery.host import host_id
from exo_lab.discovery.loopback import Entry, LoopbackRegistry, registered, registry_path

WITHIN_S = 10.0


def card(name: str, host: str = "") -> NodeCard:
    device = Device(id=f"id-{name}", name=name)
    return NodeCard(device=device, control=f"tcp://127.0.0.1:{4000 + len(name)}", data="", host=host)


def living(name: str, **changes: str) -> Entry:
    """The file of a node whose process lives: this one."""
    started = psutil.Process().create_time()
    return Entry(id=name, name=name, control="tcp://127.0.0.1:9", pid=os.getpid(), started=started, **changes)


def write(folder, entry: Entry) -> None:
    (folder / f"{entry.id}.json").write_bytes(msgspec.json.encode(entry))


class Turns:
    """Hands a discovery its waits one by one, so that a test decides when it looks again."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, _: float) -> None:
        self.asked.set()
        await self.go.wait()
        self.go.clear()


async def until(watching, wanted):
    """The first list that satisfies `wanted`."""
    async with asyncio.timeout(WITHIN_S):
        async for found in watching:
            if wanted(found):
                return found
    raise AssertionError("the watch ended")


def names(found):
    return sorted(one.name for one in found)


def test_two_nodes_see_each_other_and_not_themselves(tmp_path):
    async def run():
        a, b = LoopbackRegistry(tmp_path, every_s=0.01), LoopbackRegistry(tmp_path, every_s=0.01)
        watch_a, watch_b = a.watch(card("a")), b.watch(card("bb"))
        assert await anext(watch_a) == ()
        assert names(await anext(watch_b)) == ["a"]
        seen = await until(watch_a, lambda found: found)
        assert [(one.name, one.address, one.device_id, one.kind) for one in seen] == [
            ("bb", "tcp://127.0.0.1:4002", "id-bb", "loopback")
        ]
        await watch_b.aclose()
        assert await until(watch_a, lambda found: not found) == ()
        await watch_a.aclose()

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_is_forgotten_and_its_file_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    entry = Entry(
        id="dead",
        name="dead",
        control="tcp://127.0.0.1:1",
        pid=dead.pid,
        started=psutil.Process(dead.pid).create_time(),
    )
    path = tmp_path / "dead.json"
    path.write_bytes(msgspec.json.encode(entry))

    async def run():
        watching = LoopbackRegistry(tmp_path, every_s=0.01).watch(card("a"))
        assert names(await anext(watching)) == ["dead"]
        dead.kill()
        dead.communicate()
        assert await until(watching, lambda found: not found) == ()
        await watching.aclose()

    asyncio.run(run())
    assert not path.exists()


def test_a_process_id_that_was_used_again_is_not_taken_for_the_node(tmp_path):
    write(tmp_path, Entry(id="old", name="old", control="tcp://127.0.0.1:1", pid=os.getpid(), started=1000.0))

    async def run():
        watching = LoopbackRegistry(tmp_path).watch(card("a"))
        assert await anext(watching) == ()
        await watching.aclose()

    asyncio.run(run())


def test_two_clusters_of_one_user_leave_each_other_alone_and_know_of_each_other(tmp_path):
    async def run():
        ours, theirs = (LoopbackRegistry(tmp_path, cluster_tag=tag, every_s=0.01) for tag in ("tag-1", "tag-2"))
        watch_ours, watch_theirs = ours.watch(card("a")), theirs.watch(card("bb"))
        assert await anext(watch_theirs) == ()
        assert await anext(watch_ours) == ()
        assert ours.other_clusters == {"tcp://127.0.0.1:4002": "bb"}
        third = LoopbackRegistry(tmp_path, cluster_tag="tag-1").watch(card("ccc"))
        assert names(await anext(third)) == ["a"]
        assert (tmp_path / "id-bb.json").exists()
        for watching in (watch_ours, watch_theirs, third):
            await watching.aclose()

    asyncio.run(run())


def test_a_node_whose_file_names_no_cluster_is_still_tried(tmp_path):
    write(tmp_path, living("older"))

    async def run():
        watching = LoopbackRegistry(tmp_path, cluster_tag="tag-1").watch(card("a"))
        assert names(await anext(watching)) == ["older"]
        await watching.aclose()

    asyncio.run(run())


def test_in_a_folder_that_two_machines_share_each_sees_its_own_nodes_and_removes_no_others(tmp_path):
    dead_elsewhere = Entry(id="far", name="far", control="tcp://127.0.0.1:1", pid=1 << 30, started=1.0, host="beta")
    write(tmp_path, dead_elsewhere)
    write(tmp_path, msgspec.structs.replace(dead_elsewhere, id="gone", host="alpha"))

    async def run():
        alpha, beta = LoopbackRegistry(tmp_path).watch(card("a", "alpha")), LoopbackRegistry(tmp_path)
        assert await anext(alpha) == ()
        watch_beta = beta.watch(card("bb", "beta-2"))
        assert await anext(watch_beta) == ()
        assert {path.stem for path in tmp_path.glob("*.json")} == {"far", "id-a", "id-bb"}
        neighbour = LoopbackRegistry(tmp_path).watch(card("ccc", "alpha"))
        assert names(await anext(neighbour)) == ["a"]
        for watching in (alpha, watch_beta, neighbour):
            await watching.aclose()

    asyncio.run(run())


def test_who_only_asks_is_told_of_this_machines_nodes(tmp_path):
    write(tmp_path, living("here", host=host_id()))
    write(tmp_path, living("elsewhere", host="another machine"))
    assert [one.name for one in registered(tmp_path)] == ["here"]


@pytest.mark.parametrize("rubbish", [b"", b"{", b'{"id": 3}', b"\xff" * 5000])
def test_a_file_that_holds_no_entry_is_cleared_away(tmp_path, rubbish):
    (tmp_path / "x.json").write_bytes(rubbish)

    async def run():
        watching = LoopbackRegistry(tmp_path).watch(card("a"))
        assert await anext(watching) == ()
        await watching.aclose()

    asyncio.run(run())
    assert not (tmp_path / "x.json").exists()


def test_only_the_user_may_enter_the_folder(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)

    async def run():
        watching = LoopbackRegistry(folder).watch(card("a"))
        await anext(watching)
        assert folder.stat().st_mode & 0o777 == 0o700
        await watching.aclose()

    asyncio.run(run())


def test_a_folder_that_cannot_be_used_is_a_problem_and_not_a_crash(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")

    async def run():
        registry = LoopbackRegistry(blocked / "nodes")
        watching = registry.watch(card("a"))
        assert await anext(watching) == ()
        assert "cannot be used" in registry.problems[0]
        assert "EXO_LAB_REGISTRY" in registry.problems[0]
        await watching.aclose()

    asyncio.run(run())


def test_a_folder_that_becomes_unusable_is_told_although_nobody_was_in_sight(tmp_path):
    async def run():
        registry = LoopbackRegistry(tmp_path / "nodes", every_s=0.01)
        watching = registry.watch(card("a"))
        assert await anext(watching) == ()
        (tmp_path / "nodes" / "id-a.json").unlink()
        (tmp_path / "nodes").rmdir()
        (tmp_path / "nodes").write_text("not a folder")
        async with asyncio.timeout(WITHIN_S):
            assert await anext(watching) == ()
            assert "cannot be used" in registry.problems[0]
            (tmp_path / "nodes").unlink()
            assert await anext(watching) == ()
        assert registry.problems == ()
        await watching.aclose()

    asyncio.run(run())


def test_a_file_that_somebody_removed_is_written_again(tmp_path):
    async def run():
        turns = Turns()
        watching = LoopbackRegistry(tmp_path, wait=turns).watch(card("a"))
        await anext(watching)
        (tmp_path / "id-a.json").unlink()
        waiting = asyncio.ensure_future(anext(watching))
        async with asyncio.timeout(WITHIN_S):
            await turns.asked.wait()
            turns.asked.clear()
            turns.go.set()
            await turns.asked.wait()
        assert (tmp_path / "id-a.json").exists()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await watching.aclose()

    asyncio.run(run())


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("EXO_LAB_REGISTRY", str(tmp_path / "mine"))
    assert registry_path() == tmp_path / "mine"
