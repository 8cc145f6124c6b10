"""The ring of one plan in force: stages that compute, links that send, jobs that go round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.simulation.server import Server
from exo_lab.planning.simulation.timing import Job, Timing, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem
    from exo_lab.planning.simulation.agenda import Agenda
    from exo_lab.planning.simulation.chance import Chance
    from exo_lab.planning.simulation.ledger import Ledger


class Ring:
    """See the module.

    Args:
        problem: the cluster as it is known.
        plan: what is in force.
        agenda: the time.
        ledger: is told what was done.
        factors: how much slower devices are than described, by id; 1.0 for those that are not in it.
        jitter: mean delay of a frame as a share of its link's latency.
        chance: decides it.
        token: told of a session whose next token is back at the first device.
    """

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        agenda: Agenda,
        ledger: Ledger,
        factors: Mapping[str, float],
        jitter: float,
        chance: Chance,
        token: Callable[[int], None],
    ) -> None:
        self.plan = plan
        self._timing, self._agenda, self._ledger = Timing(problem, plan), agenda, ledger
        self._jitter, self._chance, self._token = jitter, chance, token
        self._halted = False
        count = len(plan.devices)
        self._stages = [self._stage(at) for at in range(count)]
        self._lanes = [self._lane(at) for at in range(count)] if count > 1 else []
        self._latest = [0.0] * count  # arrival of the latest frame of each link
        for device, factor in factors.items():
            self.pace(device, factor)

    # -- what a request does ---------------------------------------------------------------------------------

    def prefill(self, session: int, prompt: int, drawn: int = 0) -> None:
        """All chunks of a prompt, one behind the other; in a replay each drawn token by itself after them."""
        for job in chunks(session, prompt, self.plan.chunk):
            self._enter(0, job if drawn == 0 else job._replace(final=False))
        for offset in range(drawn):
            self.decode(session, prompt + offset, prompt, final=offset + 1 == drawn)

    def decode(self, session: int, position: int, looks_at: float, *, final: bool = True) -> None:
        """One token. `final`: the next one is drawn."""
        self._enter(0, Job(session, position, 1, looks_at, prompt=False, final=final))

    # -- what happens to devices -----------------------------------------------------------------------------

    def pace(self, device: str, factor: float) -> None:
        """A device is slower by a factor than described; nothing if it is not here."""
        stage = self.plan.stage_of(device)
        if stage is not None:
            self._stages[stage].pace(factor)

    def stop(self, device: str) -> None:
        """A device is gone with what it held; what others had sent still goes on. Nothing if it is not here."""
        stage = self.plan.stage_of(device)
        if stage is not None:
            self._stages[stage].stop()
            if self._lanes:
                self._lanes[stage].stop()

    def lost(self, device: str) -> bool:
        """Is a device of this ring gone with what it held, even if it is back by now?"""
        stage = self.plan.stage_of(device)
        return stage is not None and self._stages[stage].stopped

    def halt(self) -> None:
        """The plan is in force no more: everything on the ring is lost."""
        self._halted = True
        for server in (*self._stages, *self._lanes):
            server.stop()

    # -- jobs on their way -----------------------------------------------------------------------------------

    def _stage(self, at: int) -> Server:
        device = self.plan.devices[at]

        def record(job: Job, start_s: float) -> None:
            kind = "prefill" if job.prompt else "decode"
            self._ledger.span(device, kind, start_s, self._agenda.now, session=job.session, position=job.position)

        return Server(self._agenda, record, lambda job: self._computed(at, job), fair=True)

    def _lane(self, at: int) -> Server:
        device = self.plan.devices[at]

        def record(job: Job, start_s: float) -> None:
            self._ledger.span(device, "link", start_s, self._agenda.now, session=job.session, position=job.position)

        return Server(self._agenda, record, lambda job: self._sent(at, job), fair=False)

    def _enter(self, stage: int, job: Job) -> None:
        self._stages[stage].add(job, self._timing.stage_s(stage, job))

    def _computed(self, stage: int, job: Job) -> None:
        last = stage == len(self._stages) - 1
        if last and not job.final:
            return  # only the end of a prompt is sampled
        if self._lanes:
            self._lanes[stage].add(job, self._timing.hop_busy_s(stage, job))
        else:
            self._token(job.session)

    def _sent(self, stage: int, job: Job) -> None:
        latency = self._timing.hops[stage].latency.value
        if self._jitter and latency:
            latency += self._chance.exponential() * self._jitter * latency
        # Frames of one link do not overtake each other.
        self._latest[stage] = arrival = max(self._agenda.now + latency, self._latest[stage])
        self._agenda.at(arrival, lambda: self._arrived(stage, job))

    def _arrived(self, stage: int, job: Job) -> None:
        if self._halted:
            return
        if stage == len(self._stages) - 1:
            if not self._stages[0].stopped:
                self._token(job.session)
        else:
            self._enter(stage + 1, job)
