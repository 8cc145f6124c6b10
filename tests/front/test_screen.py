"""Where things are drawn: one output of a cell, at most ten times a second, or a terminal."""

from __future__ import annotations

import io

import pytest

from exo_lab.front.message_view import MessageView
from exo_lab.front.progress_view import Board
from exo_lab.front.screen import CellScreen, TerminalScreen
from exo_lab.front.views import GenerationView
from tests.front import scenes


class Published:
    def __init__(self) -> None:
        self.calls: list[tuple[dict, dict, bool]] = []

    def __call__(self, data, metadata, *, transient, update) -> None:
        self.calls.append((data, transient, update))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def answer(text: str, **changes) -> GenerationView:
    return GenerationView(text, scenes.stats(**changes), scenes.devices())


def test_a_cell_is_drawn_at_most_ten_times_a_second_and_always_at_the_end():
    published, clock = Published(), Clock()
    screen = CellScreen(published, clock)
    made = []
    for step in range(1000):  # one token a millisecond
        clock.now = 100.0 + step / 1000
        screen.offer(lambda step=step: made.append(step) or answer(str(step), finish=None))
    assert len(published.calls) <= 11
    assert len(made) == len(published.calls)  # what is not shown is not even made
    screen.finish(answer("the end"))
    assert "the end" in published.calls[-1][0]["text/plain"]
    screen.offer(lambda: answer("too late"))
    assert "the end" in published.calls[-1][0]["text/plain"]


def test_the_first_picture_makes_an_output_and_all_others_change_it():
    published, clock = Published(), Clock()
    screen = CellScreen(published, clock)
    for step in range(3):
        clock.now += 1
        screen.offer(lambda step=step: MessageView(str(step)))
    screen.finish(MessageView("end"))
    assert [update for _, _, update in published.calls] == [False, True, True, True]
    assert len({transient["display_id"] for _, transient, _ in published.calls}) == 1


def test_finishing_without_an_offer_still_makes_an_output():
    published = Published()
    CellScreen(published).finish(MessageView("end"))
    assert [update for _, _, update in published.calls] == [False]


def test_progress_shows_every_node_with_bytes_and_without_a_total_no_share_is_made_up():
    published, clock = Published(), Clock()
    board = Board(CellScreen(published, clock), "loading m")
    clock.now += 1
    board.report("kernel-1", 1 << 20, 4 << 20, "layers")
    board.report("kernel-2", 1 << 20, 0, "layers")
    shown = board.view()
    assert "1.00 MiB of 4.00 MiB" in shown.text()
    assert 'value="0.250"' in shown.html()
    assert shown.html().count("value=") == 1
    assert "kernel-1 25%, kernel-2" in shown.line()


@pytest.mark.parametrize(("done", "total", "share"), [(5, 4, 1.0), (-1, 4, 0.0), (2, 4, 0.5), (1, 0, None)])
def test_a_share_stays_within_its_bounds_whatever_a_node_reports(done, total, share):
    board = Board(CellScreen(Published()), "x")
    board.report("n", done, total, "")
    assert board.view().reports[0].share == share


def test_a_terminal_writes_on_and_keeps_figures_out_of_the_answer():
    out, err = io.StringIO(), io.StringIO()
    screen = TerminalScreen(out, err)
    for text in ("The", "The capital", "The capital is\x1b[31m"):
        screen.offer(lambda text=text: answer(text, finish=None))
    screen.finish(answer("The capital is\x1b[31m Paris", notices=("kernel-2 was lost",)))
    assert out.getvalue() == "The capital is\ufffd[31m Paris\n"
    assert "kernel-2 was lost" in err.getvalue()
    assert "tok/s" in err.getvalue()


def test_progress_in_a_terminal_overwrites_one_line_and_cleans_up_after_itself():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, err = io.StringIO(), Terminal()
    screen = TerminalScreen(out, err)
    Board(screen, "loading m")
    screen.finish(MessageView("loaded"))
    assert "loading m" in err.getvalue()
    assert "\n" not in err.getvalue()
    assert err.getvalue().endswith("\r")
    assert out.getvalue() == "loaded\n"


def test_progress_that_broke_off_leaves_the_word_to_the_error():
    out, err = io.StringIO(), io.StringIO()
    screen = TerminalScreen(out, err)
    screen.finish(Board(screen, "loading m").view("failed"))
    assert out.getvalue() + err.getvalue() == ""


def test_progress_that_goes_into_a_file_is_left_out():
    err = io.StringIO()
    Board(TerminalScreen(io.StringIO(), err), "loading m").report("n", 1, 2, "x")
    assert err.getvalue() == ""
