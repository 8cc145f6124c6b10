"""What the server extension says, as frozen structs: the JSON of every route, and TypeScript's types. Pure."""

from __future__ import annotations

import msgspec

from exo_lab.node.doctor import Finding

SERVER_PROTOCOL = 1
SERVER_BASE = "exo-lab/api"  # below the server's base URL


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers. `protocol` rises when the shape of an answer changes."""

    version: str
    python: str
    protocol: int = SERVER_PROTOCOL


class KnownNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that this machine knows of without asking anybody.

    `source` is the loopback registry or the peers file; `running` is null where nobody here can tell. `pid`: of a
    process of this machine.
    """

    name: str
    address: str
    source: str
    running: bool | None = None
    pid: int | None = None


class NodesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Known nodes, by source and name. `problems` are sentences: a file that cannot be read, a mistake in it."""

    nodes: tuple[KnownNode, ...] = ()
    problems: tuple[str, ...] = ()


class CachedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that this machine can open without the network."""

    name: str
    size_bytes: int
    about: str = ""


class ModelsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Models in the cache; `fetchable` are names that `%exo models --fetch` knows and that are not here yet."""

    models: tuple[CachedModel, ...] = ()
    fetchable: tuple[str, ...] = ()


class DoctorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the doctor found on the server's machine, step by step. It joins nothing."""

    findings: tuple[Finding, ...] = ()


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """A lesson as it comes with exo_lab. `name` is its file's without a suffix, `notebook` its JSON."""

    name: str
    title: str
    notebook: str


class LessonsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every lesson, in order; none if they were not installed."""

    lessons: tuple[Lesson, ...] = ()


class BokehAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """BokehJS of the server's own Bokeh, which need not be the kernel's: `version` tells."""

    version: str
    script: str


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="facts"):
    """What the web socket pushes: at once, and whenever nodes or models change."""

    version: VersionAnswer
    nodes: NodesAnswer
    models: ModelsAnswer
