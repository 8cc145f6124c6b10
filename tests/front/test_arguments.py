"""The table of verbs, and the parsers that are built from it."""

from __future__ import annotations

import pytest

from exo_lab.core.sampling import SamplingParams
from exo_lab.front.arguments import HelpWanted, UsageProblem, cell_parser, parser, peers, sampling, split
from exo_lab.front.options import SAMPLING, VERBS, unescape, verbs


@pytest.mark.parametrize("where", ["cell", "shell"])
def test_every_verb_has_help_that_names_its_options(where, capsys):
    for verb in verbs(where):
        with pytest.raises(HelpWanted) as caught:
            parser(where).parse_args([verb.name, "-h"])
        for option in verb.options:
            assert all(flag in str(caught.value) for flag in option.flags if flag.startswith("-"))
    assert capsys.readouterr() == ("", "")  # a parser prints nothing


def test_every_option_says_what_it_does_and_every_verb_is_somewhere():
    for verb in VERBS:
        assert verb.summary
        assert verb.where
        assert all(option.settings["help"] for option in verb.options)


def test_every_sampling_parameter_can_be_given_and_keeps_its_meaning():
    flags = {option.flags[-1].lstrip("-").replace("-", "_") for option in SAMPLING}
    assert set(SamplingParams.__struct_fields__) <= flags
    line = "--max-tokens 1 --temperature 2 --top-k 3 --top-p 0.4 --min-p 0.5 --repetition-penalty 6 --seed 7 "
    given = sampling(
        cell_parser().parse_args(split(line + "--speculate 3 --prefix-cache off --logprobs 8 --stop a --stop 'b c'"))
    )
    assert SamplingParams(**given) == SamplingParams(
        max_tokens=1,
        temperature=2.0,
        top_k=3,
        top_p=0.4,
        min_p=0.5,
        repetition_penalty=6.0,
        seed=7,
        speculate=3,
        prefix_cache=False,
        logprobs=8,
        stop=("a", "b c"),
    )
    assert sampling(cell_parser().parse_args([])) == {}


def test_options_are_not_guessed_from_their_beginnings():
    with pytest.raises(UsageProblem, match="--temp"):
        cell_parser().parse_args(["--temp", "1"])


@pytest.mark.parametrize("text", ["up --memory 64", "up --slow fast", "connect --memory much", "up --memory 1MB,,x"])
def test_a_value_that_is_none_is_named(text):
    with pytest.raises(UsageProblem) as caught:
        parser("cell").parse_args(split(text))
    assert "--memory" in str(caught.value) or "--slow" in str(caught.value)


def test_peers_are_a_file_or_endpoints():
    assert peers(None) is None
    assert peers("my peers.toml") == "my peers.toml"
    assert peers("tcp://a:1, tcp://b:2") == ("tcp://a:1", "tcp://b:2")


def test_escapes_on_one_line_mean_what_they_mean_in_python():
    assert unescape(r"a\nb\tc\\n") == "a\nb\tc\\n"
