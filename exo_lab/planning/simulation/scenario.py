"""What is simulated: a planning problem, requests, and what happens to devices meanwhile. Pure data, checked."""

from __future__ import annotations

import math

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.errors import ConfigError
from exo_lab.core.plan import Plan
from exo_lab.core.topology import Link
from exo_lab.planning.problem import Problem

NOTICE_S = 1.5  # assumed: how long until the silence of a device is noticed
LOAD_BYTES_PER_S = 500e6  # assumed: weights from a disk into memory
MAX_REQUESTS = 100_000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks, at the ring's first device and at `at_s`, for `answer_tokens` tokens after a prompt of so many."""

    prompt_tokens: int
    answer_tokens: int
    at_s: float = 0.0


class SlowDown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From then on a device takes `factor` times as long as its description says; 1.0: as fast as it was."""

    at_s: float
    device: str
    factor: float


class Fail(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A device is gone, with everything on it and under way to it."""

    at_s: float
    device: str


class Join(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A device that was not there, or had failed, with its links and with nothing loaded.

    It is planned for at once if `Scenario.replan_on_join` says so.
    """

    at_s: float
    device: Device
    links: tuple[Link, ...] = ()


Change = SlowDown | Fail | Join


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation.

    `problem`: model and cluster; its `sessions` is how many requests are served at once, further ones wait for a place
    in the KV caches. `strategy` makes the first plan, unless `plan` is given, and those after failures and joins.
    `jitter`: every frame is late by an exponentially distributed time whose mean is this share of its link's latency;
    frames do not overtake each other. `seed` decides it. `notice_s`: from a failure until the others know of it.
    `load_bytes_per_s`: how fast a device reads the weights that a new plan gives it and it does not hold yet.
    `keep_spans`: remember who did what when; without, only sums.
    """

    problem: Problem
    requests: tuple[Request, ...]
    plan: Plan | None = None
    strategy: str = "optimal"
    changes: tuple[Change, ...] = ()
    jitter: float = 0.0
    seed: int = 0
    notice_s: float = NOTICE_S
    load_bytes_per_s: float = LOAD_BYTES_PER_S
    replan_on_join: bool = True
    keep_spans: bool = True

    def __post_init__(self) -> None:
        _number("jitter", self.jitter, "0 or more", self.jitter >= 0)
        _number("notice_s", self.notice_s, "0 or more", self.notice_s >= 0)
        _number("load_bytes_per_s", self.load_bytes_per_s, "above 0", self.load_bytes_per_s > 0)
        if not 0 < len(self.requests) <= MAX_REQUESTS:
            raise ConfigError(f"a simulation needs 1 to {MAX_REQUESTS} requests, got {len(self.requests)}")
        for at, request in enumerate(self.requests):
            _number(f"request {at}: at_s", request.at_s, "0 or more", request.at_s >= 0)
            for field, tokens in (("prompt_tokens", request.prompt_tokens), ("answer_tokens", request.answer_tokens)):
                if tokens < 1:
                    raise ConfigError(f"request {at}: {field} must be 1 or more, got {tokens}")
            wanted, context = request.prompt_tokens + request.answer_tokens, self.problem.context_tokens
            if wanted > context:
                raise ConfigError(
                    f"request {at} needs room for {wanted} tokens; the KV caches are planned for {context}, "
                    f"{wanted - context} short. Give the problem a larger context_tokens."
                )
        for change in self.changes:
            _check_change(change, self)


def _check_change(change: Change, scenario: Scenario) -> None:
    what = type(change).__name__
    _number(f"{what}: at_s", change.at_s, "0 or more", change.at_s >= 0)
    known = {device.id for device in scenario.problem.topology.devices}
    match change:
        case Join(device=device):
            failed = any(
                isinstance(one, Fail) and one.device == device.id and one.at_s < change.at_s for one in scenario.changes
            )
            if device.id in known and not failed:
                raise ConfigError(f"{device.name} cannot join: it is in the cluster from the beginning")
        case SlowDown(device=device) | Fail(device=device):
            joins = {one.device.id for one in scenario.changes if isinstance(one, Join) and one.at_s <= change.at_s}
            if device not in known | joins:
                raise ConfigError(f"{what} at {change.at_s} s: device {device} is not in the cluster then")
            if isinstance(change, SlowDown):
                _number(f"{what}: factor", change.factor, "above 0", change.factor > 0)


def _number(what: str, value: float, rule: str, good: bool) -> None:
    if not (good and math.isfinite(value)):
        raise ConfigError(f"{what} must be {rule} and finite, got {value}")
