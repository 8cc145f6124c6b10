"""What a node cannot live without is started again when it breaks, and says so."""

from __future__ import annotations

import asyncio
import logging

from exo_lab.core.messages import Ping
from exo_lab.discovery.base import Found
from exo_lab.node import tasks as module
from exo_lab.node.problems import Problems
from exo_lab.node.tasks import Tasks
from exo_lab.transport.memory import MemoryControl
from tests.node.clusters import Cluster, until


def test_a_kept_task_is_started_again_is_a_problem_meanwhile_and_is_well_once_it_runs(monkeypatch, caplog):
    monkeypatch.setattr(module, "WELL_AFTER_S", 0.01)
    caplog.set_level(logging.CRITICAL)

    async def run():
        problems, tries, running = Problems(), [], asyncio.Event()
        tasks = Tasks("n", problems, 0.0)

        async def work():
            tries.append(problems.values())
            if len(tries) == 3:
                running.set()
                await asyncio.Event().wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(breaks())

        async def breaks():
            raise OSError(24, "Too many open files")

        tasks.keep(work, "pings")
        await asyncio.wait_for(running.wait(), 10.0)
        assert tries[0] == ()
        assert "pings of this node broke and is started again: OSError(24, 'Too many open files')" in tries[1][0]
        await until(lambda: not problems.values(), "it is well")
        await tasks.close()

    asyncio.run(run())


def test_a_kept_task_that_ends_by_itself_or_is_cancelled_is_not_started_again():
    async def run():
        problems, starts = Problems(), []
        tasks = Tasks("n", problems, 0.0)

        async def ends():
            starts.append("ends")

        async def stays():
            starts.append("stays")
            await asyncio.Event().wait()

        await tasks.keep(ends, "one")
        tasks.keep(stays, "other")
        await until(lambda: len(starts) == 2, "both ran")
        await tasks.close()
        assert starts == ["ends", "stays"]
        assert problems.values() == ()

    asyncio.run(run())


class Breaking:
    """A discovery whose first look breaks, as where no file can be opened; afterwards it sees one address."""

    name = "breaking"
    problems = ()

    def __init__(self) -> None:
        self.looks, self.address = 0, ""

    async def watch(self, card):
        self.looks += 1
        if self.looks == 1:
            raise OSError(24, "Too many open files")
        yield (Found(address=self.address, source="a second look"),)
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


def test_a_discovery_that_breaks_looks_again_and_finds(caplog):
    caplog.set_level(logging.CRITICAL)

    async def run():
        cluster, breaking = Cluster(sees=lambda *_: False), Breaking()
        try:
            breaking.address = (await cluster.add()).card.control
            node = await cluster.add(discoveries=[breaking])
            await cluster.all_met()
            assert "discovery breaking of this node broke" in node.problems.about("task discovery breaking")
        finally:
            await cluster.stop()

    asyncio.run(run())


def test_pings_and_greetings_survive_an_error_that_nobody_expected(monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    request, broken = MemoryControl.request, []

    async def breaks(self, address, message, *, timeout_s):
        if len(broken) < 3:
            broken.append(type(message))
            raise OSError(24, "Too many open files")
        return await request(self, address, message, timeout_s=timeout_s)

    async def run():
        cluster = Cluster()
        try:
            for _ in range(2):
                await cluster.add()
            await cluster.all_met()
            monkeypatch.setattr(MemoryControl, "request", breaks)
            await until(lambda: len(broken) == 3, "it broke three times")
            assert Ping in broken
            cluster.kill(1)
            await until(lambda: not cluster[0].members.alive(), "the death of a peer is noticed afterwards")
        finally:
            await cluster.stop()

    asyncio.run(run())
