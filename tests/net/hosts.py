"""Hosts on a LAN: network namespaces, each with an Ethernet interface, on one bridge. Linux, as root.

Everything is inside namespaces of our own, the bridge too: nothing touches the machine's own network. What was made is
removed at the end, whatever happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WITHIN_S = 20.0


def ip(*words: str) -> str:
    """Run `ip`. CalledProcessError if it fails."""
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=WITHIN_S)
    return done.stdout


class Host:
    """One namespace, and the process that runs in it."""

    def __init__(self, lan: Lan, number: int) -> None:
        self.lan, self.number = lan, number
        self.namespace = f"{lan.name}-h{number}"
        self.port = f"p{number}"  # the switch's end of the cable
        self.process: subprocess.Popen[str] | None = None
        self.said: queue.Queue[dict] = queue.Queue()
        self.last: dict = {}
        self.errors: list[str] = []
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")
        ip("-n", lan.switch, "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("-n", lan.switch, "link", "set", self.port, "master", "br0", "up")
        self.address = ""

    def up(self, address: str) -> None:
        """Plug in, with this address."""
        if self.address:
            ip("-n", self.namespace, "addr", "del", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", self.namespace, "link", "set", "eth0", "up")
        self.address = address

    def down(self) -> None:
        """Pull the cable."""
        ip("-n", self.namespace, "link", "set", "eth0", "down")

    def run(self, *words: str, folder: Path, **environment: str) -> None:
        """Start `host.py` here; what it prints, a JSON object a line, comes to `until`."""
        home = folder / self.namespace
        home.mkdir()
        places = {name: str(home / name.lower()) for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "HOME")}
        # Or they would find each other through a folder, which namespaces of one machine share.
        places.update(EXO_LAB_REGISTRY=str(home / "nodes"), PYTHONPATH=str(ROOT))
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, str(HERE / "host.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **places, **environment},
        )
        for stream, take in ((self.process.stdout, self._line), (self.process.stderr, self.errors.append)):
            threading.Thread(target=_drain, args=(stream, take), daemon=True).start()

    def _line(self, line: str) -> None:
        self.said.put(json.loads(line))

    def until(self, condition, what: str, within_s: float = WITHIN_S) -> dict:
        """The first thing said that satisfies a condition, the last one said before included."""
        end = time.monotonic() + within_s
        while not (self.last and condition(self.last)):
            try:
                self.last = self.said.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                complaints = "".join(self.errors[-20:])
                raise AssertionError(
                    f"host {self.number} not within {within_s:g} s: {what}. It said {self.last}\n{complaints}"
                ) from None
        return self.last

    def stop(self) -> None:
        """End the process in order; by force if it does not."""
        if self.process is None:
            return
        process, self.process = self.process, None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WITHIN_S)
            raise AssertionError(f"host {self.number} did not end when it was told to") from None


class Lan:
    """A switch and hosts."""

    def __init__(self) -> None:
        self.name = f"exo{os.getpid()}"
        self.switch = f"{self.name}-sw"
        self.hosts: list[Host] = []
        ip("netns", "add", self.switch)
        try:
            ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            ip("-n", self.switch, "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise

    def host(self, address: str) -> Host:
        """Another host, plugged in."""
        made = Host(self, len(self.hosts) + 1)
        self.hosts.append(made)
        made.up(address)
        return made

    def close(self) -> None:
        """Remove everything, hosts that were half made included."""
        failures = []
        for host in self.hosts:
            try:
                host.stop()
            except AssertionError as exc:
                failures.append(exc)
        for line in ip("netns", "list").splitlines():
            name = line.split()[0]
            if name == self.switch or name.startswith(f"{self.name}-h"):
                ip("netns", "del", name)
        if failures:
            raise failures[0]


def _drain(stream, take) -> None:
    with stream:
        for line in stream:
            take(line)


def why_not() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if shutil.which("ip") is None:
        return "the command `ip` is missing (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    name = f"exo{os.getpid()}-try"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.SubprocessError) as exc:
        return f"this machine forbids network namespaces: {getattr(exc, 'stderr', '') or exc}".strip()
    try:
        ip("-n", name, "link", "add", "br0", "type", "bridge")
        ip("-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    except subprocess.SubprocessError as exc:
        return f"this machine has no bridges or veth pairs: {getattr(exc, 'stderr', '') or exc}".strip()
    finally:
        ip("netns", "del", name)
    return ""


@contextlib.contextmanager
def lan():
    """A LAN for the length of a test, which is skipped where there can be none."""
    reason = why_not()
    if reason:
        pytest.skip(f"real hosts were NOT tested: {reason}")
    made = Lan()
    try:
        yield made
    finally:
        made.close()
