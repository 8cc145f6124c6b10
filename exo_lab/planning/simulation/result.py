"""What a simulation gives: figures of requests and devices, and who did what when. Everything in it is predicted."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from exo_lab.core.plan import Plan

Kind = Literal["prefill", "decode", "link", "load"]
KINDS: tuple[Kind, ...] = ("prefill", "decode", "link", "load")


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A device is busy from `start_s` until `end_s`.

    "prefill" and "decode": it computes; "link": it sends to the next stage (busy for bytes / bandwidth, without
    latency); "load": it reads weights. `session` is the request's number, -1 for "load"; `position` the first one that
    is worked on, -1 for "load".
    """

    device: str
    kind: Kind
    start_s: float
    end_s: float
    session: int = -1
    position: int = -1


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not somebody's work: a failure, when it was noticed, a new plan."""

    at_s: float
    text: str
    device: str = ""


class SessionResult(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are of the simulation's clock; None: never. `replays`: how often its cache was made anew.

    `token_s`: when each token was back at the device that asked. `failed`: why it could not be finished.
    """

    session: int
    asked_s: float
    started_s: float | None
    token_s: tuple[float, ...]
    replays: int = 0
    failed: str = ""

    @property
    def ttft_s(self) -> float | None:
        """From asking to the first token, waiting for a place included."""
        return self.token_s[0] - self.asked_s if self.token_s else None

    @property
    def tokens_per_s(self) -> float | None:
        """Of the tokens after the first one; None for fewer than two."""
        if len(self.token_s) < 2 or self.token_s[-1] <= self.token_s[0]:
            return None
        return (len(self.token_s) - 1) / (self.token_s[-1] - self.token_s[0])


class DeviceResult(msgspec.Struct, frozen=True, kw_only=True):
    """One device that was in a plan.

    `busy_s`: it computed. `bubble_s`: it was in the plan in force, some request was under way, and it did not compute;
    stalls count too. `sending_s`: its link to the next stage was taken. `memory_bytes`: the most that a plan asked of
    it, KV caches of the whole context included; `filled_bytes`: the most that was really filled: weights and the KV of
    positions that there were. `layers`: of the plan that asked most.
    """

    device: str
    name: str
    layers: int
    busy_s: float
    bubble_s: float
    sending_s: float
    memory_bytes: int
    filled_bytes: int
    room_bytes: int

    @property
    def utilisation(self) -> float:
        """Share of its time in the plan, while requests were under way, that it computed; in [0, 1]."""
        there = self.busy_s + self.bubble_s
        return self.busy_s / there if there else 0.0


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """What `simulate` found. `plans`: each with the time from which it was in force. Spans are sorted by start."""

    sessions: tuple[SessionResult, ...]
    devices: tuple[DeviceResult, ...]
    plans: tuple[tuple[float, Plan], ...]
    spans: tuple[Span, ...]
    events: tuple[Event, ...]
    end_s: float

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return sum(len(session.token_s) for session in self.sessions)

    @property
    def tokens_per_s(self) -> float:
        """All tokens over the time from the first question to the last token."""
        began = min(session.asked_s for session in self.sessions)
        return self.tokens / (self.end_s - began) if self.end_s > began else 0.0

    @property
    def mean_ttft_s(self) -> float | None:
        """Of the requests that got a token."""
        times = [session.ttft_s for session in self.sessions if session.ttft_s is not None]
        return math.fsum(times) / len(times) if times else None

    @property
    def memory_use(self) -> float:
        """What the plans ask of their devices over what these may fill; in [0, 1] if it fits."""
        room = sum(device.room_bytes for device in self.devices)
        return sum(device.memory_bytes for device in self.devices) / room if room else 0.0
