"""Something that does one piece of work after the other: a device that computes, a link that sends."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.planning.simulation.agenda import Agenda
    from exo_lab.planning.simulation.timing import Job


class Server:
    """Takes jobs in turn between sessions (`fair`, as a node's step queue does) or in the order in which they came.

    Args:
        agenda: the time.
        record: told of every stretch of work: the job, its start; it ends now.
        done: told of every job that was finished.
        fair: in turn between sessions; in order within a session in any case.

    `stopped`: it takes nothing more, for good.
    """

    def __init__(
        self, agenda: Agenda, record: Callable[[Job, float], None], done: Callable[[Job], None], *, fair: bool
    ) -> None:
        self._agenda, self._record, self._done, self._fair = agenda, record, done, fair
        self._lines: OrderedDict[int, deque[tuple[Job, float]]] = OrderedDict()
        self._job: Job | None = None
        self._began = self._since = self._left = 0.0  # `_left`: seconds of work at factor 1, as of `_since`
        self._factor, self._version = 1.0, 0
        self.stopped = False

    def add(self, job: Job, seconds: float) -> None:
        """A job that takes so long at factor 1. Lost if the server was stopped."""
        if self.stopped:
            return
        self._lines.setdefault(job.session if self._fair else 0, deque()).append((job, seconds))
        if self._job is None:
            self._next()

    def pace(self, factor: float) -> None:
        """From now on everything takes `factor` times as long, the job at hand too."""
        now = self._agenda.now
        self._left -= (now - self._since) / self._factor
        self._factor, self._since = factor, now
        if self._job is not None:
            self._plan()

    def stop(self) -> None:
        """For good. The job at hand is broken off, what waits is lost."""
        if self._job is not None:
            self._record(self._job, self._began)
        self.stopped, self._job = True, None
        self._version += 1
        self._lines.clear()

    def _next(self) -> None:
        if not self._lines:
            return
        session, line = next(iter(self._lines.items()))
        self._job, self._left = line.popleft()
        if line:
            self._lines.move_to_end(session)
        else:
            del self._lines[session]
        self._began = self._since = self._agenda.now
        self._plan()

    def _plan(self) -> None:
        self._version += 1
        version = self._version
        self._agenda.at(self._since + self._left * self._factor, lambda: self._finish(version))

    def _finish(self, version: int) -> None:
        job = self._job
        if version != self._version or job is None:
            return  # stopped, or planned anew at another pace
        self._record(job, self._began)
        self._job = None
        self._next()
        self._done(job)
