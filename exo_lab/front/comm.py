"""One helper for the kernel's end of a comm: sending from any thread, reading what a front end asks.

Every push runs in the context of the comm's opening. ipykernel 7.4 routes a comm's next messages to the shell that last
published on it (`ipykernel.comm.BaseComm.publish_msg`); a push outside of that context would make it the main shell,
which a running cell blocks, and Stop would wait for the cell that it is to stop. Knows no cluster.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from exo_lab import __version__
from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.front import panel_messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Comm(Protocol):
    """What is used of ipykernel's comm."""

    def send(self, data: Any) -> None:
        """To the front end."""
        ...

    def close(self, data: Any = None) -> None:
        """Tell the front end that nothing more comes; it does nothing if that one closed first."""
        ...

    def on_msg(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """From the front end."""
        ...

    def on_close(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """The front end went away."""
        ...


class Line:
    """One front end: its comm, the context in which everything is sent to it, and when it last asked something."""

    def __init__(self, comm: Comm, now: float) -> None:
        self.comm, self.heard_at = comm, now
        self.told = False  # of the latest answer, as far as it had come
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; from any thread. Raises what the comm raises when the kernel is ending."""
        # Through JSON and back: plain values, and no NaN, which Jupyter's own encoder would let through.
        plain = msgspec.json.decode(msgspec.json.encode(message))
        with self._lock:
            self._context.copy().run(self.comm.send, plain)

    def close(self, goodbye: m.Goodbye) -> None:
        """Say that nothing more comes; from any thread. Never raises: who cannot be told is gone already."""
        with self._lock:
            try:
                self._context.copy().run(self.comm.close, msgspec.to_builtins(goodbye))
            except Exception as exc:
                log.debug("a front end could not be told that it is let go: %s", exc)


def read_request(data: Any) -> m.PanelRequest:
    """A request from what came in. ConfigError says what is wrong with it."""
    try:
        encoded = msgspec.json.encode(data)
        if len(encoded) > m.REQUEST_BYTES:
            raise ConfigError(f"a request of {len(encoded)} bytes was refused; at most {m.REQUEST_BYTES} are read")
        return msgspec.json.decode(encoded, type=m.PanelRequest)
    except (msgspec.MsgspecError, TypeError, RecursionError, UnicodeError) as exc:
        raise ConfigError(f"the panel sent a request that this exo_lab ({__version__}) does not know: {exc}") from exc


def id_of(data: Any) -> str | None:
    """The id in what came in, if there is one that can be used to answer."""
    found = data.get("id") if isinstance(data, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= 64 else None


def problem(identity: str | None, exc: Exception) -> m.Problem:
    """The answer to a request that failed; errors that nobody raised on purpose are logged with their trace."""
    if not isinstance(exc, ExoError):
        log.warning("the panel's request failed", exc_info=exc)
    return m.Problem(id=identity, error=type(exc).__name__, message=str(exc))


def in_kernel() -> bool:
    """Does this process run a kernel that has comms? Asks what is imported already and imports nothing."""
    kernel = sys.modules.get("ipykernel.kernelbase")
    return kernel is not None and bool(kernel.Kernel.initialized())
