"""Simulates a ring: requests come, are served, devices fail and join, plans are made anew. Pure and repeatable.

For one request without jitter and without changes it agrees with the cost model: decoding exactly (both count the
attention of the prompt's length), a prompt exactly where its chunks are equal, and else to within one full chunk's way
along the ring plus its slowest step, since the cost model reckons with chunks of equal length. What it does not know:
two stages sharing one machine or one link, batches of sessions within a stage, attention that grows with the answer.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import ExoError, PlanError
from exo_lab.core.topology import Sighting, topology
from exo_lab.planning.choose import choose
from exo_lab.planning.simulation.agenda import Agenda
from exo_lab.planning.simulation.chance import Chance
from exo_lab.planning.simulation.ledger import Ledger
from exo_lab.planning.simulation.loading import loading_s
from exo_lab.planning.simulation.result import SessionResult, Simulation
from exo_lab.planning.simulation.ring import Ring
from exo_lab.planning.simulation.scenario import Change, Fail, Join, Scenario, SlowDown
from exo_lab.planning.text import count_text, seconds_text

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem


class _Session:
    def __init__(self, number: int, asked_s: float, prompt: int, answer: int) -> None:
        self.number, self.asked_s, self.prompt, self.answer = number, asked_s, prompt, answer
        self.started_s: float | None = None
        self.token_s: list[float] = []
        self.replays = 0

    @property
    def length(self) -> int:
        return self.prompt + len(self.token_s)

    @property
    def finished(self) -> bool:
        return len(self.token_s) == self.answer


def simulate(scenario: Scenario) -> Simulation:
    """Run it to the last token, or until nothing can go on.

    A request that no plan can serve any more is in the result with the reason in `failed`.

    Raises:
        PlanError: the first plan cannot be made; says what is short by how much.
        ConfigError: the plan given has devices that the cluster has not, or that do not reach each other.
    """
    return _Run(scenario).result()


def without(problem: Problem, device: str) -> Problem:
    """The problem less one device."""
    required = problem.required
    return msgspec.structs.replace(
        problem,
        topology=problem.topology.without(device),
        order=tuple(one for one in problem.order if one != device),
        required=None if required is None else tuple(one for one in required if one != device),
    )


class _Run:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.problem = scenario, scenario.problem
        self.agenda = Agenda()
        self.ledger = Ledger(self.agenda, keep_spans=scenario.keep_spans)
        self.chance = Chance(scenario.seed)
        self.factors: dict[str, float] = {}
        self.gone: set[str] = set()
        self.empty: set[str] = set()  # devices that failed since the plan in force was made, and hold nothing
        self.sessions = [
            _Session(number, one.at_s, one.prompt_tokens, one.answer_tokens)
            for number, one in enumerate(scenario.requests)
        ]
        self.live: dict[int, _Session] = {}
        self.waiting: deque[_Session] = deque()
        self.unfinished = len(self.sessions)
        self.positions = self.most_positions = 0
        self.plans: list[tuple[float, Plan]] = []
        self.ring: Ring | None = None
        self.stuck = ""  # why there is no plan
        self.loading: Plan | None = None  # what takes the ring's place as soon as it is loaded

    def result(self) -> Simulation:
        """Run, and sum up."""
        scenario, agenda = self.scenario, self.agenda
        self._install(scenario.plan or choose(self.problem, scenario.strategy))
        for change in scenario.changes:
            agenda.at(change.at_s, lambda change=change: self._change(change))
        for session in self.sessions:
            agenda.at(session.asked_s, lambda session=session: self._ask(session))
        agenda.run(lambda: not self.unfinished)
        self._close_plan()
        reason = self.stuck or "the ring stood still until the end"
        return Simulation(
            sessions=tuple(
                SessionResult(
                    session=one.number,
                    asked_s=one.asked_s,
                    started_s=one.started_s,
                    token_s=tuple(one.token_s),
                    replays=one.replays,
                    failed="" if one.finished else reason,
                )
                for one in self.sessions
            ),
            devices=self.ledger.device_results(),
            plans=tuple(self.plans),
            spans=tuple(sorted(self.ledger.spans, key=lambda span: (span.start_s, span.device, span.end_s))),
            events=tuple(self.ledger.events),
            end_s=max((one.token_s[-1] for one in self.sessions if one.token_s), default=agenda.now),
        )

    # -- requests --------------------------------------------------------------------------------------------

    def _ask(self, session: _Session) -> None:
        self.ledger.requests(+1)
        self.waiting.append(session)
        self._admit()

    def _admit(self) -> None:
        """As many at once as there are places in the KV caches."""
        while self.waiting and len(self.live) < self.problem.sessions:
            session = self.waiting.popleft()
            self.live[session.number] = session
            if self.ring is not None:
                self._begin(session)

    def _begin(self, session: _Session) -> None:
        if session.started_s is None:
            session.started_s = self.agenda.now
            self._cached(session.length)
        else:
            session.replays += 1
        assert self.ring is not None
        self.ring.prefill(session.number, session.prompt, len(session.token_s))

    def _token(self, number: int) -> None:
        session = self.live[number]
        session.token_s.append(self.agenda.now)
        self._cached(+1)
        if not session.finished:
            assert self.ring is not None
            self.ring.decode(number, session.length - 1, session.prompt)
            return
        del self.live[number]
        self._cached(-session.length)
        self.unfinished -= 1
        self.ledger.requests(-1)
        self._admit()

    def _cached(self, change: int) -> None:
        self.positions += change
        self.most_positions = max(self.most_positions, self.positions)

    # -- devices ---------------------------------------------------------------------------------------------

    def _change(self, change: Change) -> None:
        match change:
            case SlowDown(device=device, factor=factor):
                self.factors[device] = factor
                self.ledger.event(f"{self._name(device)} takes {factor:g} times as long from now on", device)
                if self.ring is not None:
                    self.ring.pace(device, factor)
            case Fail(device=device):
                if device in self.gone:
                    return
                self.gone.add(device)
                self.empty.add(device)
                self.ledger.event(f"{self._name(device)} fails", device)
                self.ledger.leave(device)
                if self.ring is not None:
                    self.ring.stop(device)
                self.agenda.at(self.agenda.now + self.scenario.notice_s, lambda: self._noticed(device))
            case Join(device=device, links=links):
                self.gone.discard(device.id)
                known = self.problem.topology.without(device.id)
                joined = topology([*known.sightings, Sighting(device=device)], [*known.links, *links])
                self.problem = msgspec.structs.replace(self.problem, topology=joined)
                self.ledger.event(f"{device.name} joins", device.id)
                if self.problem.order:
                    self.ledger.event("It is not planned for: the devices were listed.", device.id)
                elif self.scenario.replan_on_join:
                    self._replan(f"{device.name} is there")

    def _noticed(self, device: str) -> None:
        """The others know that a device is gone."""
        name = self._name(device)
        self.ledger.event(f"it is noticed that {name} is gone", device)
        if device in self.gone:  # else it is back already, with nothing loaded
            self.problem = without(self.problem, device)
        in_force = self.ring is not None and self.ring.lost(device)
        loading = self.loading is not None and device in self.loading.devices and device in self.gone
        if in_force:
            self._close_plan()
        if in_force or loading:
            self._replan(f"{name} is gone")

    def _replan(self, why: str) -> None:
        self.loading = None
        try:
            if self.scenario.problem.order and not self.problem.order:
                raise PlanError(f"none of the devices that were listed is left to hold {self.problem.config.name}")
            plan = choose(self.problem, self.scenario.strategy)
        except ExoError as exc:
            self.stuck = str(exc)
            self.ledger.event(f"{why}: no plan. {exc}")
            return
        self.stuck = ""
        before = self.plans[-1][1]
        if self.ring is not None and (plan.devices, plan.shards) == (before.devices, before.shards):
            self.ledger.event(f"{why}: the plan stays")
            return
        loads = loading_s(self.problem, before, plan, self.scenario.load_bytes_per_s, self.empty)
        for device, seconds in loads.items():
            self.ledger.span(device, "load", self.agenda.now, self.agenda.now + seconds)
        longest = max(loads.values(), default=0.0)
        over = count_text(len(plan.devices), "device")
        self.ledger.event(f"{why}: a plan over {over} is loaded in {seconds_text(longest)}")
        self.loading = plan
        self.agenda.at(self.agenda.now + longest, lambda: self._switch(plan))

    def _switch(self, plan: Plan) -> None:
        """A plan is loaded: every request goes on with it, its caches made anew from prompt and tokens."""
        if self.loading is not plan:
            return  # another one was made meanwhile
        self.loading = None
        if self.ring is not None:
            self._close_plan()
        self._install(plan)
        for session in tuple(self.live.values()):
            self._begin(session)

    def _install(self, plan: Plan) -> None:
        self.plans.append((self.agenda.now, plan))
        self.empty = set(self.gone)
        self.ring = Ring(
            self.problem,
            plan,
            self.agenda,
            self.ledger,
            self.factors,
            self.scenario.jitter,
            self.chance,
            self._token,
        )
        self.ledger.enter(self.problem, plan)
        self.most_positions = self.positions
        for device in self.gone:
            self.ring.stop(device)  # somebody failed and nobody knows yet
            self.ledger.leave(device)

    def _close_plan(self) -> None:
        if self.ring is None:
            return
        plan = self.ring.plan
        self.ring.halt()
        # The problem that it was made for may have lost a device since; memory is that of the whole one.
        self.ledger.memory(self.problem, plan, self.most_positions)
        for device in plan.devices:
            self.ledger.leave(device)
        self.ring = None

    def _name(self, device: str) -> str:
        found = self.problem.topology.device(device)
        return device if found is None else found.name
