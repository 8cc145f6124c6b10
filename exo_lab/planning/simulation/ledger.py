"""What was done, by device: sums, and spans where they are wanted."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exo_lab.planning.simulation.result import DeviceResult, Event, Kind, Span

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem
    from exo_lab.planning.simulation.agenda import Agenda


class Ledger:
    """Written by the ring and the run; `device_results` closes it."""

    def __init__(self, agenda: Agenda, *, keep_spans: bool) -> None:
        self._agenda, self._keep = agenda, keep_spans
        self.spans: list[Span] = []
        self.events: list[Event] = []
        self._busy: dict[str, float] = defaultdict(float)
        self._sending: dict[str, float] = defaultdict(float)
        self._there: dict[str, float] = defaultdict(float)  # in the plan while requests were under way
        self._entered: dict[str, float] = {}
        self._asked: dict[str, tuple[int, int, int]] = {}  # layers, memory, filled; those of the largest memory
        self._member: dict[str, Device] = {}
        self._room: dict[str, int] = {}
        self._under_way = 0
        self._awake, self._awake_since = 0.0, 0.0  # how long requests have been under way, up to when

    def span(
        self, device: str, kind: Kind, start_s: float, end_s: float, *, session: int = -1, position: int = -1
    ) -> None:
        """A stretch of work."""
        if kind == "link":
            self._sending[device] += end_s - start_s
        elif kind != "load":
            self._busy[device] += end_s - start_s
        if self._keep:
            self.spans.append(
                Span(device=device, kind=kind, start_s=start_s, end_s=end_s, session=session, position=position)
            )

    def event(self, text: str, device: str = "") -> None:
        """Something to tell, now."""
        self.events.append(Event(at_s=self._agenda.now, text=text, device=device))

    def requests(self, change: int) -> None:
        """So many more requests are under way."""
        self._time()
        self._under_way += change

    def enter(self, problem: Problem, plan: Plan) -> None:
        """These devices are in the plan in force from now on."""
        for device_id in plan.devices:
            self._entered[device_id] = self._time()
            device = problem.device(device_id)
            self._member[device_id], self._room[device_id] = device, problem.room_bytes(device)

    def leave(self, device: str) -> None:
        """It is not in the plan in force any more, or gone."""
        entered = self._entered.pop(device, None)
        if entered is not None:
            self._there[device] += self._time() - entered

    def memory(self, problem: Problem, plan: Plan, positions: int) -> None:
        """A plan was in force, with at most so many positions in the caches at once."""
        for device, shard in zip(plan.devices, plan.shards, strict=True):
            member = self._member[device]
            unused = problem.kv_bytes_per_layer(member) - problem.footprint(member).cached * positions
            asked = problem.shard_memory_bytes(member, shard.start, shard.end)
            layers, memory, filled = self._asked.get(device, (0, 0, 0))
            found = max(filled, asked - max(0, unused) * len(shard))
            self._asked[device] = (len(shard) if asked > memory else layers, max(memory, asked), found)

    def device_results(self) -> tuple[DeviceResult, ...]:
        """Every device that was ever in a plan, by id."""
        for device in tuple(self._entered):
            self.leave(device)
        found: list[DeviceResult] = []
        for device, (layers, memory, filled) in sorted(self._asked.items()):
            busy = self._busy[device]
            found.append(
                DeviceResult(
                    device=device,
                    name=self._member[device].name,
                    layers=layers,
                    busy_s=busy,
                    bubble_s=max(0.0, self._there[device] - busy),
                    sending_s=self._sending[device],
                    memory_bytes=memory,
                    filled_bytes=filled,
                    room_bytes=self._room[device],
                )
            )
        return tuple(found)

    def _time(self) -> float:
        """How long requests have been under way until now, all pauses left out."""
        now = self._agenda.now
        if self._under_way:
            self._awake += now - self._awake_since
        self._awake_since = now
        return self._awake
