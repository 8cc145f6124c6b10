"""Steps that wait to be computed on this node: in order within a request, in turn between requests.

So the chunks of one long prompt do not hold up the next token of everybody else. Owned by the data thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exo_lab.core.messages import Step
    from exo_lab.core.tensor import Tensor

MAX_STEPS = 1024  # beyond it frames are left to ZeroMQ, whose own bounds push back
MAX_BYTES = 256 << 20


class StepQueue:
    """A queue per request, served in turn."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[tuple[Step, Tensor | None]]] = OrderedDict()
        self._count = self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Does so much wait that no more should be taken off the network?"""
        return self._count >= MAX_STEPS or self._bytes >= MAX_BYTES

    def add(self, step: Step, tensor: Tensor | None) -> None:
        """Put a step at the end of its request's line."""
        self._lines.setdefault(step.request, deque()).append((step, tensor))
        self._count += 1
        self._bytes += 0 if tensor is None else tensor.nbytes

    def pop(self) -> tuple[Step, Tensor | None]:
        """The next step; LookupError if there is none."""
        request, line = next(iter(self._lines.items()), (None, None))
        if request is None or line is None:
            raise LookupError("no step waits")
        step, tensor = line.popleft()
        if line:
            self._lines.move_to_end(request)
        else:
            del self._lines[request]
        self._count -= 1
        self._bytes -= 0 if tensor is None else tensor.nbytes
        return step, tensor

    def pop_alike(self, first: Step, most: int) -> list[tuple[Step, Tensor | None]]:
        """Up to `most` more steps, one a request, that decode one position on the same shard as `first`."""
        alike = [
            request
            for request, line in self._lines.items()
            if request != first.request and _shard(line[0][0]) == _shard(first) and decodes(*line[0])
        ]
        found: list[tuple[Step, Tensor | None]] = []
        for request in alike[:most]:
            self._lines.move_to_end(request, last=False)
            found.append(self.pop())
        return found

    def drop(self, request: str) -> int:
        """Forget a request's steps; how many there were."""
        line = self._lines.pop(request, deque())
        self._count -= len(line)
        self._bytes -= sum(tensor.nbytes for _, tensor in line if tensor is not None)
        return len(line)


def decodes(step: Step, tensor: Tensor | None) -> bool:
    """Is it one position that yields a token?"""
    return step.final and tensor is not None and tensor.shape[:1] == (1,)


def _shard(step: Step) -> tuple[str, int, str, int]:
    return step.model, step.epoch, step.proposer, step.stage
