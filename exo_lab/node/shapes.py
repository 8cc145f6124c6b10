"""Shapes of models that plans name: read from what is on this machine, else as other nodes send them.

Anybody may have made a plan, so its model's name opens only what `model_names` permits, no hub is asked, and what is
found must have the plan's digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

from exo_lab.core.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.weights import WeightSource
    from exo_lab.node.borrower import Borrower
    from exo_lab.node.model_names import ModelNames
    from exo_lab.node.parts import ModelOpener

T = TypeVar("T")

ASK_AGAIN_S = 10.0  # so long the others are not asked again for what nobody had, unless a user waits for it
MAX_KNOWN = 128


class Shapes:
    """See the module.

    Args:
        open_model: how a node without a store opens a model.
        names: which names may be opened here.
        borrower: knows what is here, and asks the others; None: without a store.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        open_model: ModelOpener,
        names: ModelNames,
        borrower: Borrower | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_model, self._names, self._borrower, self._clock = open_model, names, borrower, clock
        self._known: dict[ModelRef, ModelConfig] = {}
        self._nowhere: dict[ModelRef, float] = {}  # when nobody had it

    async def of(self, model: ModelRef, *, at_once: bool = True) -> ModelConfig:
        """The shape of a model. On the control loop.

        Args:
            model: as the plan names it.
            at_once: ask the others also if nobody had it a moment ago.

        Raises:
            ModelError: neither this machine nor another node has it, or it is none that we run.
        """
        found = await asyncio.to_thread(self.here, model)
        if found is None and (at_once or self._clock() - self._nowhere.get(model, -ASK_AGAIN_S) >= ASK_AGAIN_S):
            _remember(self._nowhere, model, self._clock())
            if self._borrower is not None and await self._borrower.outline_of(model) is not None:
                found = await asyncio.to_thread(self.here, model)
        if found is None:
            raise ModelNotFound(
                f"neither this machine nor another node of the cluster has {model.name} (digest {model.digest[:12]}). "
                "Put the file here, or load the model again."
            )
        return found

    def here(self, model: ModelRef) -> ModelConfig | None:
        """The shape of a model, if it is on this machine. Any thread; reads a header. ModelError as `of`."""
        known = self._known.get(model)
        if known is None and (source := self._open(model)) is not None:
            with contextlib.closing(source):
                known = source.config
            if known.digest != model.digest:
                return None
            _remember(self._known, model, known)
        return known

    def _open(self, model: ModelRef) -> WeightSource | None:
        name = self._names.to_look_up(model.name)
        if self._borrower is not None:
            return self._borrower.store.open(name, model.digest, model.name)
        return self._open_model(name) if name else None


def _remember(known: dict[ModelRef, T], model: ModelRef, what: T) -> None:
    """Of too many the oldest is forgotten."""
    while len(known) >= MAX_KNOWN:
        known.pop(next(iter(known)), None)
    known[model] = what
