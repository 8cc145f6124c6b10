"""The TypeScript side knows the Python side as it is now: generated files are up to date, versions agree."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from exo_lab import __version__
from exo_lab.front import panel_messages as messages

LABEXTENSION = Path(__file__).parents[2] / "labextension"
TOOL = LABEXTENSION / "tools" / "generate_types.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("generate_types", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_types_ts_is_what_the_structs_generate_today(tool):
    assert tool.TYPES.read_text(encoding="utf-8") == tool.types_text(), f"run python {TOOL}"


def test_the_fixtures_are_what_the_ported_functions_say_today(tool):
    assert tool.FIXTURES.read_text(encoding="utf-8") == tool.fixtures_text(), f"run python {TOOL}"


def test_every_message_of_the_protocol_is_declared(tool):
    text = tool.types_text()
    for union in tool.UNIONS.values():
        for message in union.__args__:
            assert re.search(rf"export interface {message.__name__} {{\n  readonly type: '[a-z-]+';", text)


def test_a_field_that_may_be_left_out_is_optional_only_in_what_the_front_end_sends(tool):
    text = tool.types_text()
    assert "readonly strategy?: string;" in text  # PlanChange
    assert "readonly load: number | null;" in text  # NodeStatus: always there, maybe null


def test_the_npm_package_has_the_version_of_the_python_package():
    package = json.loads((LABEXTENSION / "package.json").read_text())
    assert package["version"] == __version__
    lock = json.loads((LABEXTENSION / "package-lock.json").read_text())
    assert lock["version"] == __version__


def test_the_lockfile_names_no_registry_of_one_developer():
    lock = json.loads((LABEXTENSION / "package-lock.json").read_text())
    resolved = [entry["resolved"] for entry in lock["packages"].values() if "resolved" in entry]
    assert all(url.startswith("https://registry.npmjs.org/") for url in resolved)
    assert any("integrity" in entry for entry in lock["packages"].values())


def test_the_protocol_names_are_those_that_the_front_end_opens(tool):
    text = tool.types_text()
    assert f"export const TARGET = '{messages.TARGET}';" in text
    assert f"export const PANEL_PROTOCOL = {messages.PANEL_PROTOCOL};" in text


def test_the_launcher_has_a_card_for_every_lesson():
    source = (LABEXTENSION / "src" / "commands.ts").read_text()
    cards = dict(re.findall(r"'(\d\d-[a-z-]+)': '([^']+)'", source))
    lessons = {
        path.stem: "".join(json.loads(path.read_text())["cells"][0]["source"]).splitlines()[0].lstrip("# ")
        for path in (LABEXTENSION.parent / "notebooks").glob("*.ipynb")
    }
    assert cards.keys() == lessons.keys()
    for name, card in cards.items():
        assert lessons[name].startswith(card)
