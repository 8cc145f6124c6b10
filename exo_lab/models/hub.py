"""Models of the Hugging Face hub, through its own library: `HF_ENDPOINT`, `HF_HOME`, tokens, offline mode as usual.

Only weights in GGUF or safetensors and the JSON files beside them are fetched: never pickles, never code.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.models.locate import CachedModel, Progress

CONFIGURATION = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)


def fetch_from_hub(name: str, progress: Progress | None = None) -> Path:
    """A hub model's file (GGUF) or folder (safetensors), from the hub's cache or the hub.

    Args:
        name: `org/repo` or `org/repo:file.gguf`.
        progress: called before and after each file.

    Raises:
        ModelNotFound: the hub cannot be reached, has no such model, or has nothing in it that we read.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repository, _, file = name.partition(":")
    try:
        if file:
            return _file(repository, file, progress)
        try:
            names = huggingface_hub.HfApi().list_repo_files(repository)
        except (OfflineModeIsEnabled, HfHubHTTPError, OSError):
            kept = _kept(repository)
            if kept is None:
                raise
            return kept
        return _whole(repository, names, progress)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as exc:
        raise ModelNotFound(
            f"{name} is not in the hub's cache on this machine, and the hub could not give it: {exc} "
            "Look at the spelling and the network (HF_ENDPOINT, HF_HUB_OFFLINE), or give a path."
        ) from exc


def _whole(repository: str, names: Sequence[str], progress: Progress | None) -> Path:
    weights = [one for one in names if one.endswith(".safetensors") and "/" not in one]
    ggufs = [one for one in names if one.endswith(".gguf")]
    if weights and "config.json" in names:
        wanted = [one for one in names if one in CONFIGURATION or one.endswith(".safetensors.index.json")] + weights
        paths = [_file(repository, one, progress, i, len(wanted)) for i, one in enumerate(wanted)]
        return paths[0].parent
    if len(ggufs) == 1:
        return _file(repository, ggufs[0], progress)
    if ggufs:
        some = ", ".join(sorted(ggufs)[:8])
        raise ModelNotFound(f"{repository} holds {len(ggufs)} GGUF files; name one, {repository}:FILE. It has {some}")
    raise ModelNotFound(
        f"{repository} holds neither safetensors with a config.json nor a GGUF file; only those are read"
    )


def _file(repository: str, name: str, progress: Progress | None, index: int = 0, count: int = 1) -> Path:
    import huggingface_hub

    if progress:
        progress(index, count, f"fetching {repository}/{name}")
    path = Path(huggingface_hub.hf_hub_download(repository, name))
    if progress:
        progress(index + 1, count, f"{repository}/{name} is here")
    return path


def _kept(repository: str) -> Path | None:
    """A complete folder, or the one GGUF file, of this model in the hub's cache."""
    return next((model.path for model in hub_models() if model.name.partition(":")[0] == repository), None)


def hub_models() -> tuple[CachedModel, ...]:
    """Models in the hub's cache that can be opened without the network."""
    import huggingface_hub
    from huggingface_hub.errors import CacheNotFound

    found: list[CachedModel] = []
    with contextlib.suppress(CacheNotFound):
        for repository in sorted(huggingface_hub.scan_cache_dir().repos, key=lambda one: one.repo_id):
            for revision in repository.revisions:
                found += _in_snapshot(repository.repo_id, revision)
    return tuple(found)


def _in_snapshot(repository: str, revision: Any) -> list[CachedModel]:
    from exo_lab.models.locate import CachedModel

    folder = Path(revision.snapshot_path)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if weights and (folder / "config.json").exists():
        return [CachedModel(repository, folder, weights, "safetensors")]
    ggufs = sorted(folder.glob("*.gguf"))
    return [CachedModel(f"{repository}:{path.name}", path, path.stat().st_size, "GGUF") for path in ggufs]
