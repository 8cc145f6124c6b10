"""What fits: described devices, the rules of thumb beside exact figures, longest contexts, and one more device."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError, PlanError
from exo_lab.core.topology import topology
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.planning.described import described, linked
from exo_lab.planning.known_models import config_of
from exo_lab.planning.problem import Problem
from exo_lab.planning.rules import NETWORK_BYTES_PER_S, memory_rule, network_rule
from exo_lab.planning.scenarios import REFERENCE_SCENARIOS
from exo_lab.planning.sizing import holds, most_context, size_up
from exo_lab.telemetry.chip_table import chip_table
from tests.planning.problems import random_problem

GIB = 1 << 30
QUANTS = ("BF16", "Q8_0", "Q4_0")


def task(text="M3 8GB x2, RTX 4070 12GB", model="Llama 3.1 8B", context=4096, rate=None, **fields):
    """A problem on described devices."""
    devices = described(text, chip_table())
    return Problem(config=config_of(model), topology=linked(devices, "wifi", rate), context_tokens=context, **fields)


def sized(problem, quants=QUANTS, **fields):
    """All quantisations of the problem's model."""
    return size_up(problem, [config_of(problem.config.name, one) for one in quants], **fields)


# -- devices in words ----------------------------------------------------------------------------------------


def test_devices_are_read_from_words():
    devices = described("MacBook Air: M3 8GB x2, 1 x RTX 4070 12GB, Pixel: ? 8GB, RTX 4090", chip_table())
    assert [one.name for one in devices] == ["MacBook Air #1", "MacBook Air #2", "RTX 4070", "Pixel", "RTX 4090"]
    assert [one.memory_bytes // GIB for one in devices] == [8, 8, 12, 8, 24]
    assert devices[0].flops.fp32 == 3.55
    assert devices[3].flops.fp32 == 0.0
    assert len({one.id for one in devices}) == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no device is named"),
        (" , ,", "no device is named"),
        ("M3 8GB x0", "0 devices are not possible"),
        ("M3 8GB x2000", "1 to 1024 in all"),
        ("M3", "does not say how much memory"),
        ("M3 -8GB", "has no 'M3 -8GB'"),
        ("M3 0GB", "has no memory"),
        ("Abacus 8GB", "has no 'Abacus'"),
        ("?", "does not say how much memory"),
    ],
)
def test_what_is_no_device_is_refused_with_what_would_be(text, says):
    with pytest.raises(ConfigError, match=says):
        described(text, chip_table())


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="M3RTX4070 8GBx2,:?-.", max_size=40))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ConfigError):
        assert described(text, chip_table())


@pytest.mark.parametrize(("name", "true_gb"), [("laptops", 36), ("phones", 42)])
def test_the_reference_scenarios_say_what_their_memory_really_adds_up_to(name, true_gb):
    scenario = REFERENCE_SCENARIOS[name]
    memory = sum(one.memory_bytes for one in described(scenario.devices, chip_table()))
    assert memory == true_gb * GIB
    assert f"adds its memory up to {true_gb - 8} GB; it is {true_gb} GB" in scenario.remark(memory)


@pytest.mark.parametrize("name", REFERENCE_SCENARIOS)
def test_the_models_of_the_reference_scenarios_fit_on_their_devices(name):
    scenario = REFERENCE_SCENARIOS[name]
    made = sized(task(scenario.devices, scenario.model))
    assert made.best is not None
    assert all(rule.kept for rule in made.rules)


# -- what fits -----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(1, 5), layers=st.integers(1, 8))
def test_holds_agrees_with_the_exact_planner_where_layers_are_alike_and_never_promises_too_much(seed, devices, layers):
    problem = random_problem(seed, devices, layers, "decode")
    try:
        choose(problem, "optimal")
        fits = True
    except PlanError:
        fits = False
    if len(set(problem.config.layer_bytes)) == 1:
        assert holds(problem) == fits
    else:
        assert fits or not holds(problem)


def test_the_longest_context_fits_and_one_token_more_does_not():
    problem = task("M3 8GB")
    longest = most_context(problem)
    assert 0 < longest < problem.config.context_length
    choose(msgspec.structs.replace(problem, context_tokens=longest), "optimal")
    with pytest.raises(PlanError, match="short"):
        choose(msgspec.structs.replace(problem, context_tokens=longest + 1), "optimal")


def test_the_finest_quantisation_that_fits_is_the_best_and_others_say_what_is_short():
    made = sized(task("M3 8GB x2"))
    assert [choice.fits for choice in made.choices] == [False, True, True]
    assert made.best == 1
    assert "short" in made.choices[0].short
    assert made.choices[0].plan is None
    best = made.choices[1]
    assert best.plan is not None
    problem = msgspec.structs.replace(task("M3 8GB x2"), config=config_of("Llama 3.1 8B", "Q8_0"))
    assert best.prediction == predict(problem, best.plan)


def test_nothing_fits_and_forcing_it_gives_a_plan_that_still_says_so():
    small = task("? 1GB x2", "Llama 3.1 70B")
    made = sized(small)
    assert made.best is None
    assert [choice.most_context for choice in made.choices] == [0, 0, 0]
    forced = sized(msgspec.structs.replace(small, force=True))
    assert forced.best is None
    assert all(choice.plan is not None and not choice.fits for choice in forced.choices)


def test_devices_without_memory_and_devices_that_no_link_joins_say_what_is_short():
    blank = [msgspec.structs.replace(one, memory_bytes=0) for one in task().devices]
    made = sized(msgspec.structs.replace(task(), topology=linked(blank, "wifi")), ["Q4_0"])
    assert made.best is None
    assert "offer 0 bytes of memory, 5.2 GiB short" in made.choices[0].short
    apart = described("M3 3GB x2, M2 3GB x2", chip_table())
    pairs = linked(apart[:2], "wifi"), linked(apart[2:], "wifi")
    made = sized(msgspec.structs.replace(task(), topology=pairs[0].merge(pairs[1])), ["Q8_0"])
    assert made.best is None
    assert "There is no link from them to" in made.choices[0].short
    negative = [msgspec.structs.replace(one, memory_bytes=-1) for one in apart]
    with pytest.raises(ConfigError, match="-1 bytes of memory; that must be 0 or more"):
        sized(msgspec.structs.replace(task(), topology=linked(negative, "wifi")))


def test_no_device_and_no_quantisation_are_errors():
    with pytest.raises(ConfigError, match="no device to plan for"):
        sized(msgspec.structs.replace(task(), topology=topology()))
    with pytest.raises(ConfigError, match="no quantisation"):
        size_up(task(), [])


# -- rules of thumb ------------------------------------------------------------------------------------------


def test_the_memory_rule_is_broken_where_the_exact_figure_still_fits():
    made = sized(task("RTX 4090", context=512), ["Q8_0"])
    (memory, network) = made.rules
    assert made.best == 0
    assert not memory.kept
    assert "twice the model, 29.9 GiB; there are 24.0 GiB" in memory.text
    assert network.kept
    assert "alone and no network" in network.text


def test_the_memory_rule_turns_at_twice_the_model():
    problem = task("RTX 4070 12GB")
    device = problem.devices[0]
    twice = 2 * problem.footprint(device).weights(0, problem.config.n_layers)
    for memory, kept in ((twice, True), (twice - 1, False)):
        one = msgspec.structs.replace(device, memory_bytes=memory)
        assert memory_rule(msgspec.structs.replace(problem, topology=linked([one], "wifi"))).kept is kept


@pytest.mark.parametrize(("rate", "kept"), [(NETWORK_BYTES_PER_S, True), (NETWORK_BYTES_PER_S * 0.99, False)])
def test_the_network_rule_turns_at_100_mbit(rate, kept):
    problem = task("M3 8GB x2", rate=rate)
    problem = msgspec.structs.replace(problem, config=config_of("Llama 3.1 8B", "Q8_0"))
    plan = choose(problem, "optimal")
    (rule,) = network_rule(problem, plan)
    assert rule.kept is kept
    assert "predicted" in rule.text
    assert "(as described)" in rule.text  # nobody measured it


def test_a_context_beyond_what_the_model_is_made_for_is_said():
    made = sized(task("RTX 4090", "Llama 2 7B", context=5000))
    said = next(rule for rule in made.rules if rule.name == "context")
    assert not said.kept
    assert "made for 4096 tokens; 5000 were asked for" in said.text


# -- one more device -----------------------------------------------------------------------------------------


def test_one_more_device_buys_a_finer_quantisation():
    made = sized(task("M3 8GB x2"))
    (more,) = made.more
    assert more.device.chip == "Apple M3"
    assert more.best is not None
    assert more.best.config.quantisation == "BF16"
    assert more.same is not None
    assert more.same.config.quantisation == "Q8_0"
    assert more.same.most_context > made.choices[1].most_context


def test_one_more_device_is_tried_for_each_kind_and_may_be_what_makes_it_fit():
    made = sized(task("? 2GB, M3 3GB", context=1024))
    assert made.best is None
    assert [one.device.memory_bytes // GIB for one in made.more] == [3, 2]
    assert [one.best is not None for one in made.more] == [True, True]
