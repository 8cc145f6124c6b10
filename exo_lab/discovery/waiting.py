"""Waiting for one of several things. Asyncio only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def first(*waits: Awaitable[object]) -> None:
    """Wait for the first of several. The others are cancelled, but for tasks that were handed in: those go on."""
    tasks = [asyncio.ensure_future(one) for one in waits]
    made = [task for task, one in zip(tasks, waits, strict=True) if task is not one]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in made:
            task.cancel()
        await asyncio.gather(*made, return_exceptions=True)
