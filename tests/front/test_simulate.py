"""The verb `simulate`: what was asked for is what is simulated, and mistakes are told before anything takes long."""

from __future__ import annotations

import pytest

from exo_lab.core.errors import ConfigError, DoesNotFit, NotConnected
from exo_lab.front.arguments import parser, split
from exo_lab.front.cli import main
from exo_lab.front.desk import Defaults, Desk
from exo_lab.front.screen import TerminalScreen
from exo_lab.front.verbs_simulate import simulate
from tests.front.fakes import FakeBackend

PAPER = "'Llama 3.1 8B' --devices 'M3 8GB x2' --network ethernet --strategy uniform"


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


def ask(backend, line):
    """What `%exo simulate ...` returns."""
    defaults = Defaults("smollm2-135m", "ring-memory-weighted", 16, 0.0, 1.0)
    return simulate(Desk(backend, defaults, TerminalScreen), parser("cell").parse_args(split(f"simulate {line}")))


def test_requests_are_as_many_and_as_long_as_asked_for(backend):
    made = ask(backend, f"{PAPER} --requests 3 --every 0.5 --answer 7 --at-once 2").made
    assert [len(session.token_s) for session in made.sessions] == [7, 7, 7]
    assert [session.asked_s for session in made.sessions] == [0.0, 0.5, 1.0]
    last = made.sessions[2].started_s
    assert last == min(session.token_s[-1] for session in made.sessions[:2])  # until then there is no place for it


def test_a_failure_and_a_slow_down_happen_when_they_were_asked_for(backend):
    made = ask(backend, f"{PAPER} --answer 20 --fail 'M3 #2@1.5' --slow 'M3 #1@0.5:2' --notice 0.3").made
    assert [(event.at_s, event.device) for event in made.events[:2]] == [(0.5, "001-m3-1"), (1.5, "001-m3-2")]
    assert made.events[2].at_s == pytest.approx(1.8)
    assert made.plans[-1][1].devices == ("001-m3-1",)


def test_in_a_shell_it_needs_no_cluster_and_says_that_nothing_ran(backend, capsys):
    assert main(["simulate", "--preset", "phones", "--answer", "4"], backend) == 0
    shown = capsys.readouterr().out
    assert backend.made == []
    assert "simulated (predicted, nothing ran): 1 request" in shown
    assert "iPad Air" in shown


def test_in_a_cell_it_draws_and_simulates_the_cluster_there_is(backend):
    with pytest.raises(NotConnected):
        ask(backend, "'SmolLM2 135M'")
    backend.connect()
    view = ask(backend, "'SmolLM2 135M' --context 512 --answer 5 --fail kernel-2@100")
    assert "<svg" in view.html()
    assert "kernel-1" in view.text()
    assert "kernel-2 is emulated" in view.text()
    assert "kernel-2 is emulated" in view.html()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ("--fail nobody@1", ConfigError, "there is no 'nobody'; there are M3 #1, M3 #2"),
        ("--fail 'M3 #1'", ConfigError, "is not NODE@SECONDS"),
        ("--fail 'M3 #1@soon'", ConfigError, "is not NODE@SECONDS"),
        ("--fail 'M3 #1@-1'", ConfigError, "at_s must be 0 or more"),
        ("--slow 'M3 #1@1'", ConfigError, "is not NODE@SECONDS:FACTOR"),
        ("--slow 'M3 #1@1:0'", ConfigError, "factor must be above 0"),
        ("--requests 0", ConfigError, "--requests must be 1 or more"),
        ("--requests 1000000", ConfigError, "are the most here"),
        ("--answer 0", ConfigError, "answer_tokens must be 1 or more"),
        ("--context 100 --prompt 90 --answer 20", ConfigError, "10 short"),
        ("--jitter nan", ConfigError, "jitter must be 0 or more and finite"),
        ("--strategy magic", ConfigError, "no strategy 'magic'"),
        ("--quant Q1", ConfigError, "no quantisation"),
        ("--quant F32", DoesNotFit, "short"),
    ],
)
def test_bad_input_says_what_is_wrong(backend, options, error, says):
    with pytest.raises(error, match=says):
        ask(backend, f"{PAPER} {options}")
