"""Records of runs: an answer with what it does not know of itself."""

from __future__ import annotations

import functools
import platform
from importlib import metadata
from typing import TYPE_CHECKING

import msgspec

from exo_lab import __version__
from exo_lab.core.record import RunRecord, run_device, run_tokens, sealed

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.generation import Generation
    from exo_lab.node.node import Node
    from exo_lab.node.session import Request

LIBRARIES = ("torch", "numpy", "pyzmq")  # that a run depends on


class Recorder:
    """Makes records of one request. Knows the devices that were there when it was made, and those that came since."""

    def __init__(self, node: Node, request: Request, digest: str, stop: tuple[str, ...]) -> None:
        self._node, self._request, self._digest, self._stop = node, request, digest, stop
        self._devices = self._known()

    def __call__(self, answer: Generation) -> RunRecord:
        """The record of what has come so far."""
        request = self._request
        plan, devices = request.plan, {**self._devices, **self._known()}
        return sealed(
            RunRecord(
                made_at_s=answer.began_at_s,
                digest=self._digest,
                versions=versions(),
                plan=plan,
                devices=tuple(run_device(devices[id_]) for id_ in plan.devices if id_ in devices),
                sampling=msgspec.structs.replace(request.spec.sampling, stop=self._stop),
                prompt=answer.prompt,
                prompt_tokens=request.prompt,
                text=answer.text,
                tokens=run_tokens(answer.tokens),
                finish=answer.finish,
                total_s=answer.stats.total_s,
                prompt_tokens_reused=request.reused,
                notices=answer.notices,
            )
        )

    def _known(self) -> dict[str, Device]:
        return {device.id: device for device in self._node.topology.devices}


@functools.cache
def versions() -> dict[str, str]:
    """What this process runs with, by name. Of libraries that are not installed, nothing."""
    found = {
        "exo_lab": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
    }
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
