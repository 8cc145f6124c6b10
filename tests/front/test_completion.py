"""Tab on a `%exo` line."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter

from exo_lab.front.completion import complete
from exo_lab.front.options import CELL_OPTIONS, verbs

KNOWN = {"node": ["kernel-1", "kernel-2"], "model": ["smollm2-135m"], "strategy": ["uniform"], "file": ["peers.toml"]}


def words(kind):
    return KNOWN[kind]


def test_first_comes_a_verb():
    assert set(complete("%exo ", words)) == {*(verb.name for verb in verbs("cell")), "--help"}
    assert "status" in complete("%exo sta", words)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("%exo load ", "smollm2-135m"),
        ("%exo load smollm2-135m --str", "--strategy"),
        ("%exo load --strategy ", "uniform"),
        ("%exo plan --devices kern", "kernel-2"),
        ("%exo plan --devices kernel-1,ker", "kernel-2"),
        ("%exo down ", "kernel-1"),
        ("%exo down kernel-1 ", "kernel-2"),
        ("%exo connect --peers ", "peers.toml"),
        ("%exo plan --dtype ", "bfloat16"),
        ("%exo help ", "unload"),
        ("%exo token --", "--show"),
        ("%%exo ", "--temperature"),
        ("%%exo --raw --mo", "--model"),
        ("%%exo -m ", "smollm2-135m"),
        ("%exo ask hello --", "--seed"),
    ],
)
def test_then_what_fits_there(line, wanted):
    assert wanted in complete(line, words)


def test_a_value_is_not_mixed_with_options():
    assert complete("%exo plan --dtype ", words) == ["auto", "float32", "bfloat16", "quantised"]
    assert complete("%%exo --seed ", words) == []


def test_every_option_is_offered():
    offered = complete("%%exo ", words)
    for option in CELL_OPTIONS:
        assert option.flags[-1] in offered
    for verb in verbs("cell"):
        offered = complete(f"%exo {verb.name} ", words)
        assert all(option.flags[-1] in offered for option in verb.options if option.flags[-1].startswith("-"))


@pytest.mark.parametrize("line", ["", "%exo", "%exo nonsense ", "%exo  "])
def test_lines_that_lead_nowhere_are_harmless(line):
    assert isinstance(complete(line, words), list)


def completions(shell, line: str) -> list[str]:
    with provisionalcompleter():  # as ipykernel asks
        return [line[: found.start] + found.text for found in shell.Completer.completions(line, len(line))]


def test_in_a_shell_verbs_nodes_models_and_strategies_are_offered(shell, cluster):
    assert "%exo status" in completions(shell, "%exo st")
    assert "%exo down kernel-2" in completions(shell, "%exo down ker")
    assert "%exo plan --devices kernel-1,kernel-2" in completions(shell, "%exo plan --devices kernel-1,ker")
    assert "%exo load smollm2-135m" in completions(shell, "%exo load smo")
    assert "%exo load --strategy ring-memory-weighted" in completions(shell, "%exo load --strategy ri")
    assert "%%exo --temperature" in completions(shell, "%%exo --temp")


def test_in_a_shell_without_a_cluster_nothing_is_started_to_complete(shell, backend):
    completions(shell, "%exo down ker")
    assert backend.made == []
