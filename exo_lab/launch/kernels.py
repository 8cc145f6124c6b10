"""Kernels that were started here: ipyparallel launches IPython kernels, each becomes a node of the cluster.

They run in sessions of their own, so Interrupt in the notebook does not reach them, and each is on a leash (`leash`),
so none outlives the process that started it. Over SSH or Slurm the same code runs with ipyparallel's other launchers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import exo_lab
from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.launch.leash import Holder
from exo_lab.launch.orders import worker_orders
from exo_lab.launch.worker import WorkerOrder, WorkerReport
from exo_lab.transport.keys import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.cluster.cluster import Cluster

log = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
LOCAL = "local"


class _Set(msgspec.Struct):
    """One call of `start`: an ipyparallel cluster and the nodes its engines became, by name."""

    cluster: Any
    client: Any
    nodes: dict[str, tuple[int, WorkerReport]]  # name -> (engine id, report)
    folder: Any
    local: bool
    controller: Holder | None = None  # ipyparallel's, if it was started on this machine

    def processes(self) -> list[Holder]:
        """What runs on this machine for it: a kernel elsewhere has a process id that is a stranger's here."""
        kernels = [report.process for _, report in self.nodes.values()] if self.local else []
        return kernels if self.controller is None else [*kernels, self.controller]


class Kernels:
    """Every kernel that this process started. One owner; `close()` ends all of them.

    Args:
        token: the cluster's secret, handed to kernels on this machine through their environment.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._sets: list[_Set] = []
        self._count = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the nodes that were started and not ended."""
        return tuple(name for one in self._sets for name in one.nodes)

    def local_process(self, name: str) -> Holder:
        """The process of a kernel that was started on this machine.

        Raises:
            ConfigError: no kernel of this name was started here, or it runs on another machine.
        """
        made = self._set_of(name)
        if not made.local:
            raise ConfigError(f"{name} runs on another machine; this needs one that %exo up started on this one")
        return made.nodes[name][1].process

    def _set_of(self, name: str) -> _Set:
        for made in self._sets:
            if name in made.nodes:
                return made
        raise ConfigError(f"{name!r} was not started here; started here are: {', '.join(self.names) or 'none'}")

    def start(
        self,
        cluster: Cluster,
        count: int,
        *,
        memory: Sequence[int] | None = None,
        slow: Sequence[float] | None = None,
        emulate_link: str | None = None,
        names: Sequence[str] | None = None,
        threads: int | None = None,
        engines: str = LOCAL,
        profile: str | None = None,
        engine: str = "auto",
        timeout_s: float = START_TIMEOUT_S,
        progress: Callable[[str], None] | None = None,
    ) -> tuple[str, ...]:
        """Start kernels and wait until each is a node of `cluster`.

        Args:
            cluster: this process's cluster, which they join.
            count: how many.
            memory: emulated memory in bytes, one a kernel; real memory if None.
            slow: emulated slowness, factors of 1 or more, one a kernel.
            emulate_link: an emulated network for each of them, see `connect`.
            names: node names; made up if None.
            threads: CPU threads of each; the cores shared out evenly if None and local.
            engines: "local", or an ipyparallel launcher: "ssh", "slurm", "mpi" ...
            profile: the ipyparallel profile that configures that launcher.
            engine: what the nodes compute with.
            timeout_s: for the whole.
            progress: called with what is being done.

        Returns:
            Their node ids.

        Raises:
            ConfigError: an option is wrong.
            NodeError: not all of them came up; those that did are ended again.
        """
        if names is None:
            names = [f"kernel-{self._count + i + 1}" for i in range(count)]
        here = engines == LOCAL
        orders = worker_orders(
            cluster,
            count,
            memory=memory,
            slow=slow,
            emulate_link=emulate_link,
            names=names,
            threads=threads,
            engine=engine,
            local=here,
            started=self._count,
        )
        self._count += count
        deadline = time.monotonic() + timeout_s
        say = progress or (lambda _: None)
        say(f"starting {count} kernels")
        made = self._launch(count, engines, profile, timeout_s)
        try:
            say("kernels are up, making them nodes")
            self._become(made, orders, deadline)
            self._await(cluster, made, deadline)
        except BaseException:
            self._end(made)
            raise
        self._sets.append(made)
        say("ready")
        return tuple(report.id for _, report in made.nodes.values())

    def _launch(self, count: int, engines: str, profile: str | None, timeout_s: float) -> _Set:
        import ipyparallel

        # A folder of its own: nothing of it stays in the user's ~/.ipython, and no profile of the user's is needed.
        folder = None if profile else tempfile.TemporaryDirectory(prefix="exo-kernels-", ignore_cleanup_errors=True)
        options: dict[str, Any] = {"profile": profile} if profile else {"profile_dir": folder.name if folder else ""}
        if engines != LOCAL:
            options["engines"] = engines
            options["controller_ip"] = "*"
        made = ipyparallel.Cluster(n=count, log_level=logging.ERROR, shutdown_atexit=True, **options)
        kernels = _Set(made, None, {}, folder, engines == LOCAL)
        try:
            made.start_controller_sync()
            # psutil's: it knows since when the process runs. None where a profile starts controllers elsewhere.
            process = getattr(made.controller, "process", None)
            kernels.controller = None if process is None else Holder(process.pid, process.create_time())
            made.start_engines_sync(n=count, **({"environment": self._environment()} if engines == LOCAL else {}))
            client = kernels.client = made.connect_client_sync()
            client.wait_for_engines(count, timeout=timeout_s, block=True, interactive=False)
        except Exception as exc:
            self._end(kernels)
            raise NodeError(f"ipyparallel could not start {count} kernels ({engines}): {exc}") from exc
        except BaseException:
            self._end(kernels)
            raise
        return kernels

    def _environment(self) -> dict[str, str]:
        """What kernels on this machine are given: the secret, and the exo_lab that runs here, also from a checkout."""
        paths = [str(Path(exo_lab.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        return {TOKEN_VARIABLE: self._token, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}

    def _become(self, made: _Set, orders: list[WorkerOrder], deadline: float) -> None:
        """Have each engine become a node. Code goes as an execute request: nothing is pickled."""
        also = (made.controller,) if made.controller is not None and orders[0].holder else ()
        waiting: list[tuple[WorkerOrder, int, Any]] = []
        for order, engine_id in zip(orders, made.client.ids, strict=True):
            text = msgspec.json.encode(msgspec.structs.replace(order, also=also)).decode()
            code = f"from exo_lab.launch.worker import become as _exo_become\nprint(_exo_become({text!r}))"
            waiting.append((order, engine_id, made.client[engine_id].execute(code, silent=False, block=False)))
        for order, engine_id, result in waiting:
            try:
                result.get(timeout=max(0.1, deadline - time.monotonic()))
                # What it printed travels on a channel of its own and may come after the reply.
                result.wait_for_output(max(0.1, deadline - time.monotonic()))
                report = msgspec.json.decode(result.stdout.strip().splitlines()[-1], type=WorkerReport)
            except Exception as exc:
                raise NodeError(f"kernel {order.name} did not become a node: {exc}") from exc
            made.nodes[order.name] = (engine_id, report)

    def _await(self, cluster: Cluster, made: _Set, deadline: float) -> None:
        """Wait until this node has met all of them."""
        wanted = {report.id for _, report in made.nodes.values()}
        while True:
            met = {node.device.id for node in cluster.nodes() if node.liveness == "alive"}
            if wanted <= met:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                missing = ", ".join(name for name, (_, report) in made.nodes.items() if report.id not in met)
                raise NodeError(f"{missing} started but did not join in time. See %exo status for what is wrong.")
            with contextlib.suppress(NodeError):
                cluster.wait_for(len(met) + 1, min(left, 1.0))

    # -- the end -----------------------------------------------------------------------------------------

    def stop(self, names: Sequence[str] | None = None) -> int:
        """End kernels by node name, all if None. Returns how many.

        Raises:
            ConfigError: a name that was not started here.
        """
        if names is not None:
            for name in names:
                self._set_of(name)
        count = 0
        for made in list(self._sets):
            mine = [name for name in made.nodes if names is None or name in names]
            count += len(mine)
            if len(mine) == len(made.nodes):
                self._sets.remove(made)
                self._end(made)
                continue
            self._goodbye(made, mine)
            for name in mine:
                engine_id, _ = made.nodes.pop(name)
                made.client.shutdown([engine_id], block=False)
        return count

    def _end(self, made: _Set) -> None:
        """End one set, whatever state it is in: in order as far as that goes, by force where it does not."""
        processes = made.processes()
        with contextlib.ExitStack() as last:
            if made.folder is not None:
                last.callback(made.folder.cleanup)
            for process in processes:
                last.callback(process.kill)
            last.callback(_in_order, made.cluster.stop_cluster_sync)
            if made.client is not None:
                last.callback(_in_order, made.client.close)
                _in_order(lambda: self._goodbye(made, list(made.nodes)))

    def _goodbye(self, made: _Set, names: Sequence[str]) -> None:
        """Let each of these nodes that is still there leave in order, so that the others need not wait to notice."""
        code = "import exo_lab.cluster as _c\n(_c.current() and _c.current().close())"
        there = set(made.client.ids)
        wanted = [made.nodes[name][0] for name in names if made.nodes[name][0] in there]
        results = [made.client[engine_id].execute(code, silent=True, block=False) for engine_id in wanted]
        for result in results:
            with contextlib.suppress(TimeoutError):
                result.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        """End all of them. Idempotent."""
        self.stop()


def _in_order(step: Callable[[], object]) -> None:
    """Take one step of the end; whatever ipyparallel stumbles over, the others follow."""
    try:
        step()
    except Exception:
        log.warning("ipyparallel did not stop in order", exc_info=True)
