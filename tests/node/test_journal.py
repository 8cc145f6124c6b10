"""A node tells what happened: who came and went, plans, what went wrong; and nothing private."""

from __future__ import annotations

import asyncio
import logging

import pytest

from exo_lab.core.events import MAX_EVENTS, Events, GetEvents
from exo_lab.node import journal
from tests.node.clusters import cluster, until


@pytest.fixture(autouse=True)
def quiet():
    journal.LOG._records.clear()
    yield
    journal.LOG._records.clear()


def texts(node, kind: str) -> list[str]:
    return [event.text for event in node.journal.events if event.kind == kind]


def test_who_came_who_went_and_which_plans_there_were():
    async def check():
        async with cluster(2) as made:
            first = made[0]
            assert texts(first, "nodes") == ["n1 is there"]
            await made.load((2, 2))
            await until(lambda: len(texts(first, "plans")) == 1, "the plan is told")
            assert "2, 2 layers" in texts(first, "plans")[0]
            await made.remove(made[1])
            await until(lambda: "n1 was lost" in texts(first, "nodes"), "the loss is told")

    asyncio.run(check())


def test_peers_ask_and_what_is_private_is_not_in_the_answer(monkeypatch):
    monkeypatch.setattr(journal, "private_words", lambda: {"/home/anna": "~", "anna": "(user)"})

    async def check():
        async with cluster(2) as made:
            logging.getLogger("exo_lab.x").error("no file /home/anna/secret", exc_info=OSError("anna may not"))
            port = made[0].parts.control
            answer = await port.request(made[1].parts.control.address, GetEvents(), timeout_s=5)
            assert isinstance(answer, Events)
            (event,) = [one for one in answer.events if one.kind == "error"]
            assert event.text == "no file ~/secret: OSError('(user) may not')"

    asyncio.run(check())


def test_the_memory_of_events_is_bounded():
    async def check():
        async with cluster(1) as made:
            for i in range(3 * MAX_EVENTS):
                made[0].journal._note("nodes", f"{i} " + "x" * 10_000)
            assert len(made[0].journal.events) == MAX_EVENTS
            assert all(len(event.text) <= 500 for event in made[0].journal.events)

    asyncio.run(check())


def test_a_user_without_a_name_is_no_mistake(monkeypatch):
    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr(journal.getpass, "getuser", nobody)
    assert journal.private_words() == {}
