"""`network test` as people see it: matrices of every way, sizes, predictions; and the verb in a cell."""

from __future__ import annotations

import io
import json
import re
from xml.etree import ElementTree

import msgspec
import pytest

from exo_lab.core.probe import NetworkReport
from exo_lab.front.heat_matrix import Cell, shares
from exo_lab.front.network_view import NetworkView
from exo_lab.front.screen import print_view
from tests.front import scenes


def view(**changes) -> NetworkView:
    return NetworkView(scenes.network_report(**changes), scenes.devices())


def test_the_text_has_every_way_what_is_lost_and_what_it_means():
    text = view().text()
    assert re.search(r"1 kernel-1 +- +1.00 ms / 1.00 ms +no echo / 100% lost", text)
    assert "2.00 ms / 2.00 ms, 1% lost" in text
    assert "419 MB/s" in text  # 4 MiB in the 10 ms that they take longer
    assert "frames of 2.00 KiB" in text  # where larger ones were not sent
    assert "smollm2-135m: predicted 142 tok/s with what was measured, 151 tok/s before" in text
    assert "kernel-2 is emulated: memory 96 MB, 2x slower" in text
    assert "! kernel-3 did not test: node kernel-3 is computing answers" in text
    assert "kernel-2 to kernel-1: ended after 6 s" in text
    assert re.search(r"kernel-1 to kernel-2 +1.86 MB/s +381 MB/s +0 of 112", text)


def test_html_has_a_cell_for_every_pair_and_says_all_of_it_to_a_screen_reader():
    drawn = view().html()
    first, second = re.findall(r"<svg.*?</svg>", drawn)
    for svg in (first, second):
        assert len(list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect"))) == 9
    assert "kernel-1 to kernel-2 1.00 ms / 1.00 ms" in first
    assert "142 tok/s" in drawn
    assert "kernel-2 is emulated" in drawn


def test_json_is_the_report():
    told = json.loads(view().json())
    assert msgspec.convert(told, NetworkReport) == scenes.network_report()
    assert told["nodes"][scenes.device(1).id] == "kernel-1"


def test_a_terminal_gets_colours_and_a_pipe_does_not():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    print_view(view(), terminal)
    print_view(view(), pipe)
    assert "predicted 142 tok/s" in terminal.getvalue()
    assert "┃" in terminal.getvalue()
    assert pipe.getvalue() == view().text() + "\n"


def test_strengths_go_by_orders_of_magnitude_from_the_lowest_to_the_highest():
    cells = [[Cell("a", "", 1.0), Cell("b", "", 10.0)], [Cell("c", "", 100.0), Cell("-", "", None)]]
    assert shares(cells) == [[0.0, pytest.approx(0.5)], [1.0, None]]
    assert shares([[Cell("a", "", 3.0)]]) == [[0.5]]
    assert shares([[Cell("-", "", None)]]) == [[None]]


def test_a_report_without_answers_is_still_a_page():
    empty = view(probes=(), effects=())
    assert "did not test" in empty.text()
    assert "<svg" in empty.html()


def test_the_verb_shows_its_report_and_names_what_cannot_be_tested(run, cluster):
    found = run("%exo network test --target kernel-1 --while-busy")
    assert found.error is None
    assert cluster.options_of("network_test") == {"target": "kernel-1", "while_busy": True}
    assert "ways between" in found.outputs[-1]["data"]["text/plain"]
    assert json.loads(run("%exo network test --json").outputs[-1]["data"]["text/plain"])["at_s"] == 1.0
    assert "--help" in str(run("%exo network").error)
