"""Models as a cluster's user names them: their shape and their tokenizer, looked up once per set of weights."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError, ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.weights import WeightSource
    from exo_lab.models.store import ModelStore
    from exo_lab.models.tokenizer import Tokenizer
    from exo_lab.node.node import Node


def config_of(model: str, digest: str | None, store: ModelStore | None = None) -> ModelConfig:
    """The shape of a model. With a digest it is cached: same weights, same shape.

    Args:
        model: a name, a path or a hub id.
        digest: of its weights; None: of those that the name leads to.
        store: what is on this machine, in part too; looked into first, if the digest is known.
    """
    return _read_config(model) if digest is None else _cached_config(model, digest, store)


def _read_config(model: str) -> ModelConfig:
    from exo_lab.models.open import open_model

    return _closed(open_model(model))


def _closed(source: WeightSource) -> ModelConfig:
    try:
        return source.config
    finally:
        source.close()


@functools.lru_cache(maxsize=32)
def _cached_config(model: str, digest: str, store: ModelStore | None) -> ModelConfig:
    here = None if store is None else store.open(model, digest)
    config = _read_config(model) if here is None else _closed(here)
    if config.digest != digest:
        raise ConfigError(
            f"this machine has another {model} than the cluster (digest {config.digest[:12]}, the cluster's is "
            f"{digest[:12]}). Put the same file here, or ask from another node."
        )
    return config


def tokenizer_of(node: Node, model: ModelRef) -> Tokenizer:
    """The tokenizer of a model that a plan names; ModelNotFound if it is not on this machine."""
    return _cached_tokenizer(node.names.to_look_up(model.name), model, node.parts.store)


@functools.lru_cache(maxsize=8)
def _cached_tokenizer(name_here: str, model: ModelRef, store: ModelStore | None) -> Tokenizer:
    found = None if store is None else store.tokenizer(name_here, model.digest, model.name)
    if found is None:
        raise ModelNotFound(f"this machine has no tokenizer of {model.name}. Put its files here, or load it again.")
    return found


def encode(
    tokenizer: Tokenizer, prompt: str | Sequence[Mapping[str, str]], raw: bool, system: str | None
) -> tuple[str, list[int]]:
    """The text that the model sees, and its tokens."""
    if raw:
        if not isinstance(prompt, str) or system is not None:
            raise ConfigError("raw takes a plain string and no system message; leave raw out to chat")
        return prompt, tokenizer.encode(prompt)
    messages: list[Mapping[str, str]] = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return tokenizer.conversation(messages)
