"""Finding out what the server extension says: files and this machine, no kernel and no other machine.

Every function here blocks; `errands` runs them off the server's loop. Nothing is started, joined or fetched.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path

import exo_lab
from exo_lab import __version__
from exo_lab.core.errors import ConfigError
from exo_lab.front.server.answers import (
    BokehAnswer,
    CachedModel,
    DoctorAnswer,
    KnownNode,
    Lesson,
    LessonsAnswer,
    ModelsAnswer,
    NodesAnswer,
    ServerFacts,
    VersionAnswer,
)

BOKEHJS = ("bokeh", "bokeh-widgets")


def version() -> VersionAnswer:
    """Who answers."""
    return VersionAnswer(version=__version__, python=platform.python_version())


def nodes(peers: Path | None = None) -> NodesAnswer:
    """Nodes in the loopback registry and in a peers file.

    Args:
        peers: the file; None if there is none.
    """
    from exo_lab.discovery.loopback import SOURCE, registered, registry_path

    found: list[KnownNode] = []
    problems: list[str] = []
    try:
        found += [
            KnownNode(name=one.name, address=one.control, source=SOURCE, running=True, pid=one.pid)
            for one in registered()
        ]
    except OSError as exc:
        problems.append(f"the loopback registry {registry_path()} cannot be read: {exc}. Check who owns it.")
    if peers is not None:
        listed, mistakes = _listed(peers)
        found += listed
        problems += mistakes
    return NodesAnswer(nodes=tuple(sorted(found, key=lambda one: (one.source, one.name))), problems=tuple(problems))


def _listed(path: Path) -> tuple[list[KnownNode], tuple[str, ...]]:
    from exo_lab.discovery.manual import MAX_FILE_BYTES, parse_peers

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES} bytes")
        made = parse_peers(raw.decode(), path.name)
    except (OSError, UnicodeDecodeError) as exc:
        return [], (f"{path} cannot be read: {exc}. Write one [peers.NAME] table a peer there.",)
    except ConfigError as exc:
        return [], (str(exc),)
    return [KnownNode(name=one.name, address=one.address, source=path.name) for one in made.found], made.mistakes


def models() -> ModelsAnswer:
    """Models that are in the cache, and known ones that are not."""
    from exo_lab.models.locate import WHEELS, cached_models

    here = cached_models()
    names = {one.name for one in here}
    return ModelsAnswer(
        models=tuple(CachedModel(name=one.name, size_bytes=one.nbytes, about=one.about) for one in here),
        fetchable=tuple(one.name for one in WHEELS.values() if one.name not in names),
    )


def doctor() -> DoctorAnswer:
    """What the doctor says of this machine. Takes seconds."""
    from exo_lab.cluster import checkup

    return DoctorAnswer(findings=checkup())


def facts(peers: Path | None = None) -> ServerFacts:
    """What is cheap enough to be looked at again and again."""
    return ServerFacts(version=version(), nodes=nodes(peers), models=models())


def lessons() -> LessonsAnswer:
    """The notebooks that came with exo_lab: in the package, or beside it in a checkout."""
    package = Path(exo_lab.__file__).parent
    folder = next((one for one in (package / "lessons", package.parent / "notebooks") if one.is_dir()), None)
    found: list[Lesson] = []
    for path in sorted(folder.glob("[0-9]*.ipynb")) if folder else ():
        text = path.read_text(encoding="utf-8")
        first = "".join(json.loads(text)["cells"][0]["source"]).splitlines()[0]
        found.append(Lesson(name=path.stem, title=first.lstrip("# "), notebook=text))
    return LessonsAnswer(lessons=tuple(found))


def bokeh() -> BokehAnswer:
    """BokehJS with its controls, from the server's own Bokeh, which is not imported. Empty if there is none."""
    found = importlib.util.find_spec("bokeh")
    if found is None or found.origin is None:
        return BokehAnswer(version="", script="")
    folder = Path(found.origin).parent / "server" / "static" / "js"
    parts = [(folder / f"{name}.min.js").read_text(encoding="utf-8") for name in BOKEHJS]
    return BokehAnswer(version=importlib.metadata.version("bokeh"), script="\n".join(parts))
