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


def tc(*words: str) -> None:
    """Run `tc`. CalledProcessError if it fails."""
    subprocess.run(["tc", *words], check=True, capture_output=True, text=True, timeout=WITHIN_S)


class Host:
    """One namespace, and the process that runs in it."""

    def __init__(self, lan: Lan, number: int) -> None:
        self.lan, self.number = lan, number
        self.namespace = f"{lan.name}-h{number}"
        self.process: subprocess.Popen[str] | None = None
        self.said: queue.Queue[dict] = queue.Queue()
        self.last: dict = {}
        self.history: list[dict] = []
        self.errors: list[str] = []
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")
        self.addresses: dict[str, str] = {}  # by interface

    @property
    def address(self) -> str:
        """That of its Ethernet interface."""
        return self.addresses["eth0"]

    def cable(self, interface: str, bridge: str = "br0") -> None:
        """A cable to a bridge of the switch; its end here is called like this, its other end `port(interface)`."""
        port = self.port(interface)
        ip(
            "-n",
            self.lan.switch,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            interface,
            "netns",
            self.namespace,
        )
        ip("-n", self.lan.switch, "link", "set", port, "master", bridge, "up")

    def port(self, interface: str) -> str:
        """The switch's end of a cable."""
        return f"{interface}-{self.number}"

    def up(self, address: str, interface: str = "eth0") -> None:
        """Plug in, with this address."""
        if interface in self.addresses:
            ip("-n", self.namespace, "addr", "del", f"{self.addresses[interface]}/24", "dev", interface)
        ip("-n", self.namespace, "addr", "add", f"{address}/24", "dev", interface)
        ip("-n", self.namespace, "link", "set", interface, "up")
        self.addresses[interface] = address

    def down(self, interface: str = "eth0") -> None:
        """Pull the cable, which this host notices."""
        ip("-n", self.namespace, "link", "set", interface, "down")

    def strand(self, interface: str = "eth0") -> None:
        """Take the cable off the bridge, which this host does not notice: it has a carrier and nobody to talk to."""
        ip("-n", self.lan.switch, "link", "set", self.port(interface), "nomaster")

    def shape(self, *how: str, interface: str = "eth0") -> None:
        """Make both directions of a cable what `tc` makes of these words, say `tbf rate 8mbit ...`."""
        for namespace, end in ((self.namespace, interface), (self.lan.switch, self.port(interface))):
            tc("-n", namespace, "qdisc", "replace", "dev", end, "root", *how)

    def run(self, *words: str, folder: Path, **environment: str) -> None:
        """Start `host.py` here; what it prints, a JSON object a line, comes to `until`."""
        home = folder / self.namespace
        home.mkdir()
        places = {name: str(home / name.lower()) for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "HOME")}
        # Or they would meet through a folder, and send through memory, which namespaces of one machine share.
        places.update(EXO_LAB_REGISTRY=str(home / "nodes"), EXO_LAB_SHARED_MEMORY="off", PYTHONPATH=str(ROOT))
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
        said = json.loads(line)
        self.history.append(said)
        self.said.put(said)

    def latest(self) -> dict:
        """What was said last, whether or not anybody waited for it."""
        return self.history[-1]

    def ever(self, field: str) -> set[str]:
        """Every name that was ever in a field."""
        return {name for said in self.history for name in said[field]}

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
            self.bridge("br0")
        except BaseException:
            self.close()
            raise

    def bridge(self, name: str) -> None:
        """Another network, apart from the first."""
        ip("-n", self.switch, "link", "add", name, "type", "bridge", "forward_delay", "0")
        ip("-n", self.switch, "link", "set", name, "up")

    def host(self, address: str, interface: str = "eth0", bridge: str = "br0") -> Host:
        """Another host, plugged in."""
        made = Host(self, len(self.hosts) + 1)
        self.hosts.append(made)
        made.cable(interface, bridge)
        made.up(address, interface)
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


def why_no_shaping(*how: str) -> str:
    """Why no link can be shaped like this here; empty if it can. There must be namespaces."""
    if shutil.which("tc") is None:
        return "the command `tc` is missing (apt-get install iproute2)"
    name = f"exo{os.getpid()}-try"
    ip("netns", "add", name)
    try:
        tc("-n", name, "qdisc", "replace", "dev", "lo", "root", *how)
    except subprocess.SubprocessError as exc:
        return f"this machine's kernel does not do `{' '.join(how)}`: {getattr(exc, 'stderr', '') or exc}".strip()
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
