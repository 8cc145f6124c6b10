"""What tests of models share: the real model's tokenizer, twice. Transformers takes seconds to convert it."""

from __future__ import annotations

from typing import Any

import pytest

from exo_lab.models.open import open_tokenizer
from exo_lab.models.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def both(real_model) -> tuple[Tokenizer, Any]:
    """SmolLM2's tokenizer, ours and Transformers' own conversion of the same file."""
    from transformers import AutoTokenizer

    return open_tokenizer(str(real_model)), AutoTokenizer.from_pretrained(real_model.parent, gguf_file=real_model.name)
