"""The page of verbs and options is what the parsers say."""

from __future__ import annotations

from pathlib import Path

from exo_lab.front.options import VERBS
from exo_lab.front.reference import markdown

PAGE = Path(__file__).parents[2] / "docs" / "magics.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: python -m exo_lab.front.reference > docs/magics.md"


def test_every_option_of_every_verb_is_on_the_page():
    text = markdown()
    for verb in VERBS:
        for option in verb.options:
            assert option.flags[-1] in text or option.settings["metavar"] in text


def test_every_table_row_has_two_cells():
    for line in markdown().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 3, line
