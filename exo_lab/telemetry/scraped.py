"""A port where Prometheus gets metrics. Loopback unless another address is named. Knows no cluster."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from exo_lab.core.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LOOPBACK = "127.0.0.1"
END_S = 2.0


class Scraped:
    """Serves a registry until `close`, each scrape in a thread of its own.

    Args:
        place: a port, or ADDRESS:PORT; port 0 is any free one.
        registry: what is served.

    Raises:
        ConfigError: that is no place, or it cannot be listened on.
    """

    def __init__(self, place: str, registry: CollectorRegistry) -> None:
        address, port = listening_place(place)
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as exc:
            raise ConfigError(
                f"metrics cannot be served on {address}:{port}: {exc}. Name another port, or 0 for any free one."
            ) from exc
        host = f"[{address}]" if ":" in address else address
        self.place = (address, self._server.server_port)
        self.url = f"http://{host}:{self._server.server_port}/metrics"
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Serve no more. Idempotent; a scrape that is under way ends by itself."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(END_S)


def listening_place(place: str) -> tuple[str, int]:
    """Address and port of "9464", "0.0.0.0:9464" or "[::1]:9464".

    Raises:
        ConfigError: it is neither.
    """
    address, colon, port = place.strip().rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    if not address or not port.isascii() or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise ConfigError(f"{place!r} is no place to serve metrics; give a port such as 9464, or ADDRESS:PORT")
    return address, int(port)
