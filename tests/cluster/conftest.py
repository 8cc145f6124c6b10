"""What tests of clusters share: a tiny model's file, and a secret."""

from __future__ import annotations

import pytest

from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config, write_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """The path of a tiny seeded model."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(path, tiny_config())
    return str(path)


@pytest.fixture(scope="module")
def token() -> str:
    """A secret of this module's own."""
    return new_token()
