"""The verb `fit`: sizing advice in a shell and in a cell, for a cluster, for described devices, for the presets."""

from __future__ import annotations

import pytest

from exo_lab.core.errors import ConfigError, ModelNotFound, NotConnected
from exo_lab.front.arguments import parser, split
from exo_lab.front.cli import main
from exo_lab.front.desk import Defaults, Desk
from exo_lab.front.options import VERBS
from exo_lab.front.screen import TerminalScreen
from exo_lab.front.verbs_fit import configs_of, fit
from exo_lab.planning.known_models import QUANTISATIONS
from exo_lab.planning.scenarios import REFERENCE_SCENARIOS
from tests.front.fakes import FakeBackend
from tests.tiny import write_gguf


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


def ask(backend, line):
    """What `%exo fit ...` returns."""
    defaults = Defaults("smollm2-135m", "optimal", 16, 0.0, 1.0)
    return fit(Desk(backend, defaults, TerminalScreen), parser("cell").parse_args(split(f"fit {line}")))


@pytest.mark.parametrize(("preset", "stated", "true"), [("laptops", 28, 36), ("phones", 34, 42)])
def test_a_preset_needs_no_cluster_and_says_the_true_sum_of_its_memory(backend, capsys, preset, stated, true):
    assert main(["fit", "--preset", preset], backend) == 0
    shown = capsys.readouterr().out
    assert backend.made == []
    assert f"adds its memory up to {stated} GB; it is {true} GB" in shown
    assert REFERENCE_SCENARIOS[preset].model in shown
    assert "predicted" in shown
    assert "2 x memory (kept)" in shown
    assert "100 Mbit/s (kept)" in shown


def test_described_devices_and_a_slow_network_are_warned_of(backend):
    view = ask(backend, "'Llama 3.1 8B' --devices 'M3 8GB x2' --network 50Mbit --quant q8_0")
    (warning,) = view.warnings()
    assert warning.startswith("100 Mbit/s:")
    assert "50 Mbit/s" in warning
    assert "One more like M3 (8.00 GiB) buys" in view.text()
    assert "<table" in view.html()


def test_of_many_devices_those_that_are_used_are_listed(backend):
    text = ask(backend, "'Llama 3.1 8B' --devices 'M3 8GB x100' --quant BF16").text()
    assert "devices more are left out" in text
    assert len(text.splitlines()) < 40


def test_what_does_not_fit_says_what_is_short_and_force_plans_it_all_the_same(backend):
    line = "'Llama 3.1 70B' --devices 'M3 8GB' --quant Q4_0"
    view = ask(backend, line)
    assert "does not fit on 1 device on paper" in view.title()
    assert "short" in view.warnings()[0]
    assert "nothing is loaded" not in view.text()
    forced = ask(backend, f"{line} --force")
    assert forced.warnings()[0].startswith("Forced")
    assert "no, forced" in forced.text()
    assert "a proposal, nothing is loaded" in forced.text()


def test_the_clusters_own_devices_are_asked_where_none_are_described(backend):
    with pytest.raises(NotConnected):
        ask(backend, "'SmolLM2 135M'")
    backend.connect()
    view = ask(backend, "'SmolLM2 135M' --context 512")
    assert not view.on_paper
    assert "fits on 3 devices: as BF16" in view.title()
    with pytest.raises(ConfigError, match="--network is for devices that --devices describes"):
        ask(backend, "'SmolLM2 135M' --network wifi")


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("nobody-has-this --devices 'M3 8GB'", ModelNotFound, "nothing is fetched"),
        ("org/nobody-has-this --devices 'M3 8GB'", ModelNotFound, "nothing is fetched"),
        ("'Mistral 7B' --devices ','", ConfigError, "no device is named"),
        ("'Mistral 7B' --devices 'M3 8GB' --network string", ConfigError, "is no network"),
        ("'Mistral 7B' --devices 'M3 8GB' --network 0Mbit", ConfigError, "is no network"),
        ("'Mistral 7B' --devices 'M3 8GB' --quant Q1", ConfigError, "no quantisation 'Q1'"),
        ("'Mistral 7B' --devices 'M3 8GB' --quant ,", ConfigError, "no quantisation is asked for"),
        ("'Mistral 7B' --devices 'M3 8GB' --context -1", ConfigError, "context_tokens must be 1 or more"),
        ("'Mistral 7B' --devices 'M3 8GB' --context 0", ConfigError, "context_tokens must be 1 or more"),
    ],
)
def test_bad_input_says_what_would_be_right(backend, line, error, says):
    with pytest.raises(error, match=says):
        ask(backend, line)


def test_a_models_file_is_sized_as_it_is_stored_and_as_what_was_asked_for(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    (stored,) = configs_of(str(path), None)
    assert stored.layer_bytes
    assert [one.quantisation for one in configs_of(str(path), ("q4_0", "BF16"))] == ["BF16", "Q4_0"]


def test_what_help_says_is_what_there_is():
    verb = next(verb for verb in VERBS if verb.name == "fit")
    settings = {option.flags[-1]: option.settings for option in verb.options}
    assert set(settings["--preset"]["choices"]) == set(REFERENCE_SCENARIOS)
    assert all(name in settings["--quant"]["help"] for name in QUANTISATIONS)
