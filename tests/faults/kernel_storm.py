"""A smaller storm on real kernels: SIGKILL and SIGSTOP at random tokens of a real model's answers."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ExoError
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "smollm2-135m"
PROMPT = "The river runs through the old town, past the mill and the bridge, and on to the sea. "
TOKENS = 64
DEADLINE_S = 60.0
KINDS = ("kill", "freeze", "freeze briefly")
BRIEFLY_S = 0.7


class KernelStorm:
    """Three kernels that hold the model, this process that asks. `strike` does one fault and tells what came of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cluster = Cluster(NodeOptions(name="asker", threads=1), new_token())
        self._names: list[str] = []
        self._count = 0
        self._expected: list[int] = []

    def __enter__(self) -> KernelStorm:
        try:
            self._heal()
            self._expected = self._tokens(self.cluster.generate(PROMPT, raw=True, max_tokens=TOKENS).result(DEADLINE_S))
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()

    @staticmethod
    def _tokens(generation: Any) -> list[int]:
        return [event.token for event in generation.tokens]

    def _heal(self) -> None:
        lost = {node.device.name for node in self.cluster.nodes() if node.liveness == "lost"}
        self._names = [name for name in self._names if name not in lost]
        missing = 3 - len(self._names)
        if missing:
            fresh = [f"k{self._count + n}" for n in range(missing)]
            self._count += missing
            self.cluster.up(missing, names=fresh, threads=1)
            self._names += fresh
        self.cluster.load(MODEL, devices=self._names, strategy="uniform")

    def strike(self, kind: str) -> dict[str, Any]:
        """One fault at a random token of one answer. Times are seconds from the signal."""
        self._heal()
        at, cluster = self.random.randrange(TOKENS - 20), self.cluster
        generation = cluster.generate(PROMPT, raw=True, max_tokens=TOKENS)
        deadline = time.monotonic() + DEADLINE_S
        while len(generation.tokens) < at and not generation.done and time.monotonic() < deadline:
            generation.poll(0.01)
        victim = self.random.choice(generation.stats.plan.devices)
        process = psutil.Process(cluster.node.members.peers[victim].card.pid)
        started = time.perf_counter()
        os.kill(process.pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        noticed: float | None = None
        thawed = kind == "kill"
        while not generation.done and time.monotonic() < deadline:
            generation.poll(0.01)
            now_s = time.perf_counter() - started
            noticed = now_s if noticed is None and self._is_lost(victim) else noticed
            if not thawed and kind == "freeze briefly" and now_s > BRIEFLY_S:
                process.send_signal(signal.SIGCONT)
                thawed = True
        tokens, error = self._tokens(generation), generation.error
        hung = not generation.done
        if hung:
            generation.cancel()
        if not thawed:
            process.send_signal(signal.SIGCONT)
        self._settle(victim, kind)
        right = tokens == self._expected[: len(tokens)]
        return {
            "kind": kind,
            "at": at,
            "hung": hung,
            "same": not hung and error is None and tokens == self._expected,
            "wrong": not right or (not hung and error is None and tokens != self._expected),
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "clear_error": error is None or isinstance(error, ExoError),
            "noticed_s": noticed,
            "recovered": bool(generation.notices),
        }

    def _is_lost(self, node: str) -> bool:
        peer = self.cluster.node.members.peers.get(node)
        return peer is None or peer.liveness == "lost"

    def _settle(self, victim: str, kind: str) -> None:
        """A thawed node is a member again, a killed one is none any more, and nobody holds a session."""
        self._until(lambda: self._is_lost(victim) == (kind == "kill"), f"{victim} is what it is")
        self._until(lambda: self.cluster.node.stages.session_count == 0, "no session is left here")

    @staticmethod
    def _until(condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"not within {DEADLINE_S:g} s: {what}"
            time.sleep(0.02)
