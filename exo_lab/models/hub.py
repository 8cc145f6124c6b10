"""Models of the Hugging Face hub, through its own library: `HF_ENDPOINT`, `HF_HOME`, tokens, offline mode as usual.

Only weights in GGUF or safetensors, the JSON files beside them and the chat template are fetched: never pickles, never
code. What is here already is used as it is, without asking the hub; delete it there (`hf cache rm`) to get a newer one.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import CorruptModel, ExoError, ModelNotFound
from exo_lab.models.safetensors_ import INDEX, SINGLE, indexed_files, read_json, weight_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exo_lab.core.weights_messages import FileKind
    from exo_lab.models.locate import Progress

CONFIGURATION: tuple[FileKind, ...] = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
TIMEOUT_S = 20.0


def fetch_from_hub(name: str, progress: Progress | None = None, offline: bool | None = None) -> Path:
    """A hub model's file (GGUF) or folder (safetensors), from the hub's cache or else from the hub.

    Args:
        name: `org/repo` or `org/repo:file.gguf`.
        progress: called while files are fetched.
        offline: do not ask the hub; None: as `HF_HUB_OFFLINE` says.

    Raises:
        ModelNotFound: the hub cannot be reached, has no such model, or has nothing in it that we read.
    """
    from huggingface_hub import constants

    repository, _, file = name.partition(":")
    kept = _kept(repository, file)
    if kept is not None:
        return kept
    if constants.HF_HUB_OFFLINE if offline is None else offline:
        loose = _only_gguf(repository)
        if loose is not None:
            return loose
        raise ModelNotFound(
            f"{name} is not complete in the hub's cache ({constants.HF_HUB_CACHE}), and this is offline mode. "
            "Fetch it while online, or give a path."
        )
    try:
        return _Download(repository, progress).run(file)
    except ExoError:
        raise
    except Exception as exc:  # the library lets its HTTP library's errors through; which one depends on its version
        raise ModelNotFound(
            f"{name} is not in the hub's cache on this machine, and {constants.ENDPOINT} could not give it: "
            f"{type(exc).__name__}: {exc} Look at the spelling and the network (HF_ENDPOINT, HF_TOKEN), or give a path."
        ) from exc


class _Download:
    def __init__(self, repository: str, progress: Progress | None) -> None:
        self.repository, self.progress = repository, progress
        self.done = self.total = 0

    def run(self, file: str) -> Path:
        """Fetch one file, or what makes the repository's model."""
        import huggingface_hub

        info = huggingface_hub.HfApi().model_info(self.repository, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
        if file:
            return self.fetch([file], sizes)[0]
        weights = [name for name in sizes if name.endswith(".safetensors") and "/" not in name]
        if weights and "config.json" in sizes:
            # Weights last: once they are there, so is the rest.
            beside = self.fetch([name for name in (*CONFIGURATION, INDEX) if name in sizes], sizes)
            if INDEX in sizes:
                weights = indexed_files(read_json(beside[0].parent / INDEX), f"{self.repository}/{INDEX}")
            elif SINGLE in weights:
                weights = [SINGLE]
            paths = beside + self.fetch(weights, sizes)
            folders = {path.parent for path in paths}
            if len(folders) > 1:
                raise ModelNotFound(f"{self.repository} changed while it was fetched. Fetch it again.")
            return folders.pop()
        return self.fetch([_the_one([name for name in sizes if name.endswith(".gguf")], self.repository)], sizes)[0]

    def fetch(self, names: Sequence[str], sizes: dict[str, int]) -> list[Path]:
        import huggingface_hub

        self.total += sum(sizes.get(name, 0) for name in names)
        download: Any = huggingface_hub.hf_hub_download
        # Older versions of the library show progress as they like.
        watched = "tqdm_class" in inspect.signature(download).parameters
        paths: list[Path] = []
        for name in names:
            before = self.done
            extra = {"tqdm_class": _bar(self, f"fetching {self.repository}/{name}")} if watched else {}
            paths.append(Path(download(self.repository, name, **extra)))
            self.done = before + sizes.get(name, 0)
            self.report(f"{self.repository}/{name} is here")
        return paths

    def report(self, what: str) -> None:
        if self.progress:
            self.progress(min(self.done, self.total), self.total, what)


def _bar(download: _Download, what: str) -> type:
    """A progress bar that draws nothing and tells us how far it is."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *_: object, **options: Any) -> None:
            super().__init__(disable=True)
            download.done += options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            download.done += int(n or 0)
            download.report(what)

    return Bar


def _the_one(ggufs: Sequence[str], repository: str) -> str:
    if len(ggufs) == 1:
        return ggufs[0]
    if ggufs:
        some = ", ".join(sorted(ggufs)[:8])
        raise ModelNotFound(f"{repository} holds {len(ggufs)} GGUF files; name one, {repository}:FILE. It has {some}")
    raise ModelNotFound(
        f"{repository} holds neither safetensors with a config.json nor a GGUF file; only those are read"
    )


# -- the hub's cache: models--ORG--NAME/refs/main names the folder below snapshots/ --------------------------


def _snapshot(folder: Path) -> Path | None:
    """What the branch `main` of a cached repository was when it was last looked at."""
    ref = folder / "refs" / "main"
    if not ref.is_file():
        return None
    snapshot = folder / "snapshots" / ref.read_text().strip()
    return snapshot if snapshot.is_dir() else None


def _snapshot_of(repository: str) -> Path | None:
    from huggingface_hub import constants

    return _snapshot(Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}")


def _kept(repository: str, file: str) -> Path | None:
    """The file, or the complete folder of safetensors, if the cache has it."""
    snapshot = _snapshot_of(repository)
    if snapshot is None:
        return None
    if file:
        return snapshot / file if (snapshot / file).is_file() else None
    return snapshot if _complete(snapshot) and (snapshot / "tokenizer.json").is_file() else None


def _only_gguf(repository: str) -> Path | None:
    """The one GGUF file of a repository that the cache has. Only where the hub cannot be asked which ones there are."""
    snapshot = _snapshot_of(repository)
    ggufs = list(snapshot.rglob("*.gguf")) if snapshot else []
    return ggufs[0] if len(ggufs) == 1 else None


def _complete(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and bool(weight_files(folder))
    except CorruptModel:
        return False


def hub_models() -> Iterator[tuple[str, Path, int, str]]:
    """(name, path, bytes, format) of every model in the hub's cache that can be opened without the network."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        snapshot = _snapshot(folder)
        if snapshot is None:
            continue
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        if _complete(snapshot):
            yield name, snapshot, sum(path.stat().st_size for path in weight_files(snapshot)), "safetensors"
        for path in sorted(snapshot.rglob("*.gguf")):
            yield f"{name}:{path.relative_to(snapshot).as_posix()}", path, path.stat().st_size, "GGUF"
