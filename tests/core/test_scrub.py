"""What is private is taken out of texts and of values, wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.scrub import scrub, scrubbed
from exo_lab.core.status import NodeStatus
from tests.front import scenes

WORDS = {"/home/anna": "~", "anna": "(user)", "s3cr3t+/==": "(removed)"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/anna/models/a.gguf is not there", "~/models/a.gguf is not there"),
        ("anna-laptop of anna", "(user)-laptop of (user)"),
        ("bananna annabel joanna", "bananna annabel joanna"),  # other words
        ("token s3cr3t+/== x", "token (removed) x"),
        ("", ""),
    ],
)
def test_words_go_longer_ones_first_and_parts_of_others_stay(text, clean):
    assert scrub(text, WORDS) == clean


def test_words_too_short_to_be_private_stay():
    assert scrub("a or b", {"a": "x", "or": "y"}) == "a or b"


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_secret_never_survives(before, after):
    assert "s3cr3t+/==" not in scrub(f"{before}s3cr3t+/=={after}", WORDS)


def test_every_text_of_a_value_is_scrubbed_and_its_figures_stay():
    (node,) = scenes.nodes((scenes.device(1, name="anna-laptop", chip="/home/anna"),))[1:]
    found = scrubbed(node, WORDS)
    assert isinstance(found, NodeStatus)
    assert (found.device.name, found.device.chip) == ("(user)-laptop", "~")
    assert found.device.memory_bytes == node.device.memory_bytes
