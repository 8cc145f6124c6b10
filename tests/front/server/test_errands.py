"""Errands leave the loop free, share one thread a name, and have deadlines."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.front.server.errands import Errands, Late


def test_the_loop_turns_while_an_errand_blocks():
    async def scene() -> tuple[str, str]:
        gate, errands = threading.Event(), Errands()

        def work() -> str:
            assert gate.wait(10)
            return threading.current_thread().name

        waiting = asyncio.ensure_future(errands.run("slow", work, 10))
        await asyncio.sleep(0)  # only a loop that turns comes here
        gate.set()
        return await waiting, threading.current_thread().name

    ran_in, loop_in = asyncio.run(scene())
    assert ran_in != loop_in


def test_who_asks_the_same_meanwhile_waits_for_the_same_answer():
    async def scene() -> tuple[list[int], int]:
        gate, errands, calls = threading.Event(), Errands(), []

        def work() -> int:
            assert gate.wait(10)
            calls.append(1)
            return len(calls)

        waiting = [asyncio.ensure_future(errands.run("same", work, 10)) for _ in range(5)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*waiting), len(calls)

    assert asyncio.run(scene()) == ([1] * 5, 1)


def test_an_errand_that_hangs_is_late_holds_one_thread_and_is_still_good_when_it_comes_back():
    async def scene() -> str:
        gate, errands, calls = threading.Event(), Errands(), []

        def work() -> str:
            calls.append(1)
            assert gate.wait(10)
            return "late but right"

        for _ in range(3):
            with pytest.raises(Late, match=r"doctor: no answer within 0\.01 s"):
                await errands.run("doctor", work, 0.01)
        assert len(calls) == 1
        waiting = asyncio.ensure_future(errands.run("doctor", work, 10))
        await asyncio.sleep(0)
        gate.set()
        return await waiting

    assert asyncio.run(scene()) == "late but right"


def test_what_goes_wrong_is_told_and_the_next_one_tries_anew():
    async def scene() -> int:
        errands = Errands()

        def fails() -> int:
            raise ConfigError("no")

        with pytest.raises(ConfigError, match="no"):
            await errands.run("one", fails, 10)
        return await errands.run("one", lambda: 7, 10)

    assert asyncio.run(scene()) == 7
