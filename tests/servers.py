"""Starting a Jupyter server of one's own for a test: loopback, with a token, ended whatever happens."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_WITHIN_S = 60


@contextmanager
def jupyter(
    module: str,
    home: Path,
    environment: dict[str, str],
    *options: str,
    base: str = "/",
    start: tuple[str, ...] = (sys.executable, "-m"),
) -> Iterator[tuple]:
    """(url, token) of `module` (behind `start`) that runs in `home` and logs to `home/server.log`."""
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}{base}"
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(*start, *module.split(), "--no-browser", "--allow-root", "--ip=127.0.0.1"),
                *(f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"),
                *(f"--ServerApp.base_url={base}", *options),
            ],
            env=environment,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(f"{url}api/status?token={token}", process, home / "server.log")
            yield url, token
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)  # nothing tells when a server of another process is there
