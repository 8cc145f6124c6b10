"""`monitor`: one look as a value, looks one after the other, as a page, as lines, and in a file."""

from __future__ import annotations

import csv
import io
import json
import threading

import msgspec
import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.core.messages import Stats
from exo_lab.core.telemetry import Alert, Forecast
from exo_lab.core.topology import link
from exo_lab.front.cli import main
from exo_lab.front.frame import Frame, frame
from exo_lab.front.monitor import Watch, run
from exo_lab.front.monitor_live import drawing
from exo_lab.front.monitor_view import BARS, MonitorView, sparkline
from exo_lab.front.recording import Recording
from tests.front import scenes
from tests.front.test_cli import ShellBackend
from tests.front.test_topology_view import shell

ME = f"{99:012x}"
A, B, C = (member.id for member in scenes.devices())
ALERT = Alert(id="1-1", node=A, quantity="memory", value=0.91, threshold=0.85, since_s=88.0)
FORECAST = Forecast(
    node=B, quantity="latency", about=C, value=0.05, threshold=0.1, made_at_s=99.0, lead_s=45.0, soonest_s=30.0
)


def counted(tokens: int, requests: int = 1) -> Stats:
    return Stats(sessions=requests, counters={"tokens": tokens})


def seen(at_s: float = 100.0, tokens: int = 0, before: Frame | None = None, **changes) -> Frame:
    status = scenes.status(alerts=(ALERT,), forecasts=(FORECAST,), **{"nodes": shell(scenes.devices()), **changes})
    links = [link(B, A, kind="wifi", latency_s=0.002), link(A, ME, kind="loopback")]
    counters = {A: counted(0), C: counted(tokens)}
    return frame(at_s, status, counters, links, before=before)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_look_has_every_node_but_the_one_that_looks_and_what_was_not_measured_is_not_there():
    now = seen()
    assert [node.name for node in now.nodes] == ["kernel-1", "kernel-2", "kernel-3"]
    first, second, _ = now.nodes
    assert first.layers == "emb, 0–12"  # noqa: RUF001 - an en dash is meant
    assert (first.requests, second.requests) == (1, None)
    assert first.memory == pytest.approx(1 - 6000 / 8192)
    assert first.compute is None
    assert [(one.a, one.b) for one in now.links] == [(A, B)]
    assert now.tokens_per_s is None


def test_the_rate_is_of_all_answers_since_the_look_before():
    first = seen(100.0, 500)
    assert seen(102.0, 530, first).tokens_per_s == pytest.approx(15.0)
    assert seen(102.0, 0, first).tokens_per_s == pytest.approx(0.0)  # kernel-3 was started anew
    assert seen(99.0, 530, first).tokens_per_s is None  # the clock was set back


def test_a_line_says_all_of_it_without_anything_that_steers_a_terminal():
    evil = scenes.device(1, name="\x1b[2Jevil\n")
    first = seen(nodes=shell((evil, *scenes.devices()[1:])))
    line = MonitorView([first, seen(101.0, 20, first, nodes=shell((evil, *scenes.devices()[1:])))]).text()
    assert "\n" not in line
    assert "\x1b" not in line
    assert "20.0 tok/s" in line
    assert "load 25 %, memory 27 %, 1 request" in line
    assert "is at 91 %, above 85 % for 13 s (alert 1-1)" in line
    assert "latency from kernel-2 to kernel-3 reaches 100 ms in about 45 s (predicted" in line
    assert "from 30 s on" in line


def test_a_terminal_gets_one_page_that_is_drawn_again_and_is_left_in_order():
    out = Terminal()
    first = seen()
    with drawing(out) as draw:
        draw(first, "")
        draw(seen(101.0, 20, first), "recording: 2 looks in m.jsonl")
    shown = out.getvalue()
    assert "kernel-2" in shown
    assert "emulated" in shown
    assert "recording: 2 looks" in shown
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is there again
    assert "\x1b[2K" in shown  # drawn over


def test_nobody_in_reach_is_said():
    alone = frame(1.0, scenes.status(nodes=shell(())), {})
    assert "exo-lab node" in MonitorView([alone]).text()
    out = Terminal()
    with drawing(out) as draw:
        draw(alone, "")
    assert "exo-lab node" in out.getvalue()


def test_a_small_line_has_a_character_a_look():
    assert sparkline([0.0, None, 0.5, 1.0], top=1.0) == f"{BARS[0]} {BARS[4]}{BARS[7]}"
    assert sparkline([0.0, 0.0]) == BARS[0] * 2
    assert sparkline([None]) == " "
    assert sparkline([5.0, 10.0], top=1.0) == BARS[-1] * 2


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bell:
    """An event whose waiting moves a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.rung = clock, False

    def is_set(self) -> bool:
        return self.rung

    def wait(self, timeout: float) -> bool:
        self.clock.now += timeout
        return self.rung


def test_looks_come_at_their_interval_and_end_in_time():
    clock, at = Clock(), []
    run(seen, lambda one: at.append(clock.now), every_s=1.0, for_s=5.0, over=Bell(clock), clock=clock)
    assert at == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_look_that_takes_long_delays_the_next_one_and_no_other():
    clock, at = Clock(), []

    def look() -> Frame:
        at.append(clock.now)
        clock.now += 2.5 if len(at) == 1 else 0.1
        return seen()

    run(look, lambda one: None, every_s=1.0, for_s=5.0, over=Bell(clock), clock=clock)
    assert at == [0.0, 2.5, 3.5, 4.5]


def test_whoever_rings_ends_it():
    over = threading.Event()
    run(seen, lambda one: over.set(), every_s=3600.0, over=over)


def test_json_lines_are_frames_and_every_line_is_there_at_once(tmp_path):
    path = tmp_path / "m.jsonl"
    with Recording(str(path)) as recording:
        for at_s in (1.0, 2.0):
            recording.add(seen(at_s))
            last = path.read_text().splitlines()[-1]
            assert msgspec.json.decode(last, type=Frame) == seen(at_s)
    assert recording.said().startswith("2 looks in")


def test_csv_has_a_line_a_node_and_no_formula(tmp_path):
    path = tmp_path / "m.csv"
    evil = scenes.device(1, name="=HYPERLINK(1)")
    with Recording(str(path)) as recording:
        assert path.read_text().startswith("at_s,tokens_per_s,id,")
        recording.add(seen())
        recording.add(seen(nodes=shell((evil,))))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 4
    assert rows[0]["alerts"] == "memory"
    assert rows[1]["tokens"] == ""
    assert rows[3]["name"] == "'=HYPERLINK(1)"


def test_a_file_that_cannot_be_written_is_said_before_anything_is_looked_at(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        Recording(str(tmp_path / "no" / "file"))


# -- the verb ------------------------------------------------------------------------------------------------


def test_the_shell_prints_a_line_a_look_and_records_them(capsys, tmp_path):
    path = tmp_path / "m.jsonl"
    assert main(["monitor", "--interval", "250ms", "--for", "600ms", "--record", str(path)], ShellBackend()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # three looks, and what was recorded
    assert "tok/s" in lines[1]
    assert "3 looks in" in lines[-1]
    assert len(path.read_text().splitlines()) == 3


def test_ctrl_c_ends_it_as_it_should(capsys, monkeypatch, tmp_path):
    def interrupted(self: Watch) -> Frame:
        if self._before is None:
            self._before = seen()
            return self._before
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "look", interrupted)
    path = tmp_path / "m.jsonl"
    assert main(["monitor", "--interval", "250ms", "--record", str(path)], ShellBackend()) == 0
    shown = capsys.readouterr()
    assert "1 look in" in shown.out
    assert shown.err == ""
    assert json.loads(path.read_text())["at_s"] == 100.0


@pytest.mark.parametrize("option", ["--interval 0.1s", "--interval soon", "--for -3"])
def test_times_that_cannot_be_are_refused(option, capsys):
    assert main(["monitor", *option.split()], ShellBackend()) in (1, 2)
    assert "exo-lab" in capsys.readouterr().err
