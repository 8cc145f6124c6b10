"""What happened on a node lately: nodes that came and went, plans, alerts, and what went wrong. Pure values."""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_EVENTS = 200
MAX_CHARACTERS = 500

Kind = Literal["nodes", "plans", "alerts", "warning", "error"]


class Event(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing. `at_s`: seconds since the epoch (UTC)."""

    at_s: float
    kind: Kind
    text: str


class GetEvents(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What happened lately? Answered by `Events`."""


class Events(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The latest, oldest first; names of users and folders are left out."""

    events: tuple[Event, ...]
