"""A draft model as a user names it: found, checked against the model that it guesses for, and loaded on this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError, DoesNotFit
from exo_lab.core.shard import Shard
from exo_lab.node.draft import Draft

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig
    from exo_lab.models.tokenizer import Tokenizer
    from exo_lab.node.node import Node


def load_draft(node: Node, name: str, model: ModelConfig, tokenizer: Tokenizer) -> Draft:
    """Load a whole model on this node, to guess for another.

    Args:
        node: this one.
        name: of the draft model: a name, a path or a hub id.
        model: that it guesses for.
        tokenizer: of that.

    Raises:
        ConfigError: it has other tokens.
        DoesNotFit: there is not enough memory here.
        ModelError: it cannot be found or run.
    """
    from exo_lab.models.open import open_tokenizer

    others = open_tokenizer(name).vocabulary
    if others != tokenizer.vocabulary:
        differ = sum(others.get(text) != number for text, number in tokenizer.vocabulary.items())
        raise ConfigError(
            f"{name} cannot draft for {model.name}: a draft needs the same tokenizer, and {differ} of the "
            f"{len(tokenizer.vocabulary)} tokens are others there. Take a smaller model of the same family."
        )
    source = node.parts.open_model(name)
    try:
        config = source.config
        free = node.memory_available_bytes()
        if config.total_bytes > free:
            raise DoesNotFit(
                f"the draft {name} needs {config.total_bytes / 2**20:.0f} MiB here, {free / 2**20:.0f} MiB are free. "
                "Take a smaller one, or ask from another node."
            )
        engine = node.parts.make_engine("auto", "auto")
        engine.load(source, Shard(model=config.name, start=0, end=config.n_layers, n_layers=config.n_layers))
        return Draft(engine, model.vocab_size, config.context_length)
    finally:
        source.close()
