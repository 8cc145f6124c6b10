"""`%exo` and `%%exo`, typed into a shell. The cluster is scripted; generations, views and parsing are the real ones."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

import exo_lab
from exo_lab.core.errors import ConfigError, DoesNotFit, NodeLost, NotConnected
from exo_lab.front.options import verbs
from exo_lab.front.verbs import HANDLERS
from exo_lab.front.views import NodesView, PlanView, StatusView
from exo_lab.transport.keys import check_token


def test_every_verb_of_a_cell_is_carried_out_by_something():
    assert {verb.name for verb in verbs("cell")} == {*HANDLERS, "ask", "help"}


# -- asking


def test_a_cell_streams_an_answer_into_one_output_with_its_figures_and_its_plan(run, cluster):
    ran = run("%%exo\nWhat is the capital of France?")
    assert ran.error is None
    assert cluster.options_of("generate")["prompt"] == "What is the capital of France?"
    ids = {output["transient"]["display_id"] for output in ran.outputs}
    assert len(ids) == 1
    assert [output["update"] for output in ran.outputs] == [False] + [True] * (len(ran.outputs) - 1)
    for shown in (ran.html(), ran.text()):
        assert "The capital of France is Paris." in shown
        assert "tok/s" in shown
        assert "first token after" in shown
        assert "kernel-2" in shown
    assert ran.value is None


def test_what_was_said_in_options_reaches_the_cluster_and_nothing_else_does(run, cluster):
    run(
        "%%exo --temperature 0.7 --top-k 5 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.1 --seed 3 --max-tokens 4 "
        r'--stop "\n" --stop END --logprobs 2 --timeout 9 --system "Be brief." --model smollm2-135m' + "\nHi"
    )
    assert cluster.options_of("generate") == {
        "prompt": "Hi",
        "model": "smollm2-135m",
        "raw": False,
        "system": "Be brief.",
        "timeout_s": 9.0,
        "draft": None,
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "seed": 3,
        "max_tokens": 4,
        "stop": ("\n", "END"),
        "logprobs": 2,
    }
    run("%%exo --raw\nOnce upon")
    assert cluster.options_of("generate") == {
        "prompt": "Once upon",
        "model": None,
        "raw": True,
        "system": None,
        "timeout_s": 120.0,
        "draft": None,
        "temperature": 0.0,
        "max_tokens": 256,
    }


def test_alternatives_are_listed_when_they_were_asked_for(run, cluster):
    assert "Token by token" not in run("%%exo\nHi").html()
    shown = run("%%exo --logprobs 2\nHi").html()
    assert "Token by token" in shown
    assert "90.5%" in shown  # exp(-0.1)


def test_an_answer_is_kept_under_a_name_with_everything_that_is_known_of_it(run, cluster, shell):
    run("%%exo -o answer\nHi")
    answer = shell.user_ns["answer"]
    assert answer is cluster.last
    assert answer.text == "The capital of France is Paris."
    assert answer.stats.prompt_tokens == 3
    bundle, _ = shell.display_formatter.format(answer)
    assert "Paris" in bundle["text/html"]
    assert "kernel-3" in bundle["text/plain"]


def test_only_a_variables_name_can_keep_an_answer(run, cluster):
    ran = run("%%exo -o a.b\nHi")
    assert isinstance(ran.error, UsageError)
    assert not cluster.requests


def test_variables_are_put_into_the_prompt_by_name(run, cluster, shell):
    shell.user_ns["city"] = {"name": "Paris"}
    run('%%exo\nTell me about {city["name"]} as {{JSON}}.')
    assert cluster.options_of("generate")["prompt"] == "Tell me about Paris as {JSON}."
    run("%%exo -o answer\nHi")
    run("%%exo\nTranslate: {answer}")
    assert cluster.options_of("generate")["prompt"] == "Translate: The capital of France is Paris."


def test_a_name_that_does_not_exist_is_said_and_nothing_is_sent(run, cluster):
    ran = run("%%exo\nTell me about {nowhere}.")
    assert isinstance(ran.error, UsageError)
    assert "nowhere" in str(ran.error)
    assert "{{" in str(ran.error)
    assert not cluster.requests


@pytest.mark.parametrize("prompt", ["f(x", 'say """', "$HOME {x}", "a;", "  indented", "(;"])
def test_a_literal_prompt_arrives_as_it_was_typed(run, cluster, prompt):
    ran = run(f"%%exo --literal\n{prompt}")
    assert ran.error is None
    assert cluster.options_of("generate")["prompt"] == prompt


def test_a_question_fits_on_a_line(run, cluster):
    ran = run('%exo ask "What is (this?" --max-tokens 3')
    assert ran.error is None
    assert cluster.options_of("generate")["prompt"] == "What is (this?"
    assert "The capital of" in ran.text()
    assert "max_tokens" in ran.text()


def test_in_a_terminal_the_answer_is_written_on_and_nothing_is_drawn(run, cluster, shell):
    shell.magics_manager.registry["ExoMagics"].display = "terminal"
    ran = run("%%exo\nHi")
    assert ran.stdout == "The capital of France is Paris.\n"
    assert "tok/s" in ran.stderr
    assert ran.outputs == []
    assert "loaded" in run("%exo load").stdout


def test_without_a_cluster_a_cell_says_how_to_get_one_and_starts_nothing(run, shell, backend):
    ran = run("%%exo\nHi")
    assert isinstance(ran.error, NotConnected)
    assert "%exo connect" in ran.stdout
    assert backend.made == []


def test_without_a_model_a_cell_says_how_to_load_one(run, shell, backend):
    backend.connect()
    ran = run("%%exo\nHi")
    assert isinstance(ran.error, ConfigError)
    assert "%exo load" in ran.stdout


def test_what_breaks_an_answer_off_is_shown_under_what_had_come(run, cluster):
    cluster.script.error = NodeLost("node kernel-2 went away after 7 tokens")
    ran = run("%%exo\nHi")
    assert isinstance(ran.error, NodeLost)
    assert "The capital of France is Paris." in ran.html()
    assert "kernel-2 went away" in ran.html()
    assert "failed" in ran.html()


def test_an_error_that_speaks_of_ids_is_told_with_names(run, cluster):
    cluster.script.error = NodeLost(f"node {cluster.members[1].id} is gone [reported by node {'ab' * 6}]")
    ran = run("%%exo\nHi")
    for shown in (ran.html(), ran.text(), ran.stdout):
        assert "node kernel-2 is gone" in shown
        assert "abababababab" in shown  # nobody that is known


# -- errors


def test_our_errors_take_one_block_and_still_fail_the_cell(run, cluster):
    cluster.fail_with = DoesNotFit("smollm2-135m needs 77 MiB; the nodes offer 12 MiB. Add a node.")
    ran = run("%exo load")
    assert isinstance(ran.error, DoesNotFit)
    assert "DoesNotFit" in ran.stdout
    assert "Add a node." in ran.stdout
    assert "Traceback" not in ran.stdout
    assert "verbs.py" not in ran.stdout
    assert len(ran.stdout.splitlines()) == 1


def test_where_an_error_came_from_can_be_asked_for(run, cluster, shell):
    run("%config ExoMagics.tracebacks = True")
    try:
        cluster.fail_with = DoesNotFit("no")
        assert "fakes.py" in run("%exo load").stdout
    finally:
        run("%config ExoMagics.tracebacks = False")


def test_an_error_of_somebody_else_keeps_its_traceback(run, cluster):
    cluster.fail_with = RuntimeError("a bug")
    assert "fakes.py" in run("%exo load").stdout


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%exo lod", "invalid choice: 'lod'"),
        ("%exo up three", "'three' is not a whole number"),
        ("%exo up --memory 64", "64MB"),
        ("%exo load --frobnicate", "--frobnicate"),
        ("%exo plan 'unclosed", "quotation"),
        ("%%exo --temperature hot\nHi", "'hot' is not a number"),
        ("%%exo Hi\nHi", "unrecognized arguments: Hi"),
        ("%exo help nothing", "nothing"),
    ],
)
def test_a_slip_of_the_pen_is_a_usage_error_that_says_what_is_wrong(run, cluster, cell, said):
    ran = run(cell)
    assert isinstance(ran.error, UsageError)
    assert said in str(ran.error)
    assert "--help" in str(ran.error) or "quotation" in str(ran.error)


# -- verbs


def test_connect_makes_a_node_with_the_options_that_were_given(run, backend):
    ran = run("%exo connect --name desk --lan --port 5000 --memory 96MB --slow 2 --peers tcp://a:1,tcp://b:2")
    assert ran.error is None
    options = backend.made[0].options
    assert options["name"] == "desk"
    assert options["lan"] is True
    assert options["memory"] == 96_000_000
    assert options["slow"] == 2.0
    assert options["peers"] == ("tcp://a:1", "tcp://b:2")
    assert "desk" in ran.stdout


def test_a_cluster_apart_has_a_secret_of_its_own_and_says_so(run, backend):
    said = run("%exo connect --apart").stdout
    assert "A cluster apart" in said
    first = check_token(backend.made[0].options["token"])
    assert first not in said
    assert "apart" in str(run("%exo connect --apart").error)
    run("%exo disconnect")
    run("%exo connect --apart")
    assert backend.made[1].options["token"] != first
    run("%exo disconnect")
    run("%exo connect")
    assert "token" not in backend.made[2].options


def test_connecting_again_shows_the_cluster_but_does_not_pretend_to_change_the_node(run, backend):
    run("%exo connect")
    assert isinstance(run("%exo connect").value, StatusView)
    ran = run("%exo connect --lan --slow 3")
    assert isinstance(ran.error, ConfigError)
    assert "lan, slow" in str(ran.error)
    assert len(backend.made) == 1


def test_disconnect_leaves_and_is_harmless_twice(run, backend):
    run("%exo connect")
    assert "has left" in run("%exo disconnect").stdout
    assert backend.made[0].closed
    assert run("%exo disconnect").error is None


def test_up_takes_its_lists_and_shows_the_nodes_in_the_output_that_showed_progress(run, cluster):
    ran = run("%exo up 3 --memory 64MB,96MB,1GiB --slow 1,1,2 --names a,b,c --threads 1 --timeout 60")
    options = cluster.options_of("up")
    assert options["count"] == 3
    assert options["memory"] == (64_000_000, 96_000_000, 1024**3)
    assert options["slow"] == (1.0, 1.0, 2.0)
    assert options["names"] == ("a", "b", "c")
    assert options["engines"] == "local"
    assert options["timeout_s"] == 60.0
    assert "kernel-3" in ran.html()
    assert len({output["transient"]["display_id"] for output in ran.outputs}) == 1


def test_fail_rehearses_a_loss_and_kills_where_nothing_else_is_said(run, cluster):
    assert "killed" in run("%exo fail kernel-2").stdout
    assert cluster.options_of("fail") == {"name": "kernel-2", "how": "kill"}
    assert "frozen" in run("%exo fail kernel-2 --how freeze").stdout
    assert "goes on" in run("%exo fail kernel-2 --how thaw").stdout


def test_down_ends_all_or_those_that_are_named(run, cluster):
    assert "3 kernels ended" in run("%exo down").stdout
    assert cluster.options_of("down")["names"] is None
    assert "2 kernels ended" in run("%exo down a b").stdout
    assert cluster.options_of("down")["names"] == ["a", "b"]


def test_looking_returns_what_is_seen_so_that_it_can_be_kept_or_silenced(run, cluster, shell):
    assert isinstance(run("%exo status").value, StatusView)
    assert isinstance(run("%exo nodes").value, NodesView)
    assert isinstance(run("%exo plan").value, PlanView)
    assert run("%exo nodes;").value is None
    run("view = %exo nodes")
    assert isinstance(shell.user_ns["view"], NodesView)


def test_plan_and_load_share_their_options(run, cluster):
    line = "big --strategy uniform --devices b,a --layers 10,20 --dtype float32 --engine numpy --context 99 "
    line += "--prompt 64 --objective prefill --mix decode=100,prefill=1 --force --wire int8"
    wanted = {
        "model": "big",
        "strategy": "uniform",
        "devices": ("b", "a"),
        "layers": (10, 20),
        "dtype": "float32",
        "engine": "numpy",
        "context": 99,
        "prompt": 64,
        "objective": "prefill",
        "mix": {"decode": 100.0, "prefill": 1.0},
        "force": True,
        "wire": "int8",
    }
    for verb, asked in (("plan", "explain"), ("load", "load")):
        assert run(f"%exo {verb} {line}").error is None
        assert cluster.options_of(asked) == wanted | ({"compare": False} if verb == "plan" else {})


def test_load_shows_progress_and_then_the_plan_in_the_same_output(run, backend, shell):
    backend.connect()
    ran = run("%exo load")
    assert "loading smollm2-135m" in ran.text(0)
    assert "loaded" in ran.text()
    assert "strategy ring-memory-weighted" in ran.text()
    assert len({output["transient"]["display_id"] for output in ran.outputs}) == 1


def test_move_hands_layers_over_and_shows_the_plan(run, cluster):
    run("%exo load")
    ran = run("%exo move 10-14 kernel-1")
    assert "moving layers 10-14 to kernel-1" in ran.text(0)
    assert "loaded" in ran.text()
    assert cluster.options_of("move") == {"layers": "10-14", "node": "kernel-1", "model": None}


def test_unload_says_what_is_gone(run, cluster):
    assert "smollm2-135m" in run("%exo unload").stdout
    assert isinstance(run("%exo unload").error, ConfigError)


def test_defaults_are_traits(run, cluster, shell):
    magics = shell.magics_manager.registry["ExoMagics"]
    before = {name: getattr(magics, name) for name in ("model", "max_tokens", "temperature", "strategy", "timeout_s")}
    try:
        for setting in (
            "model = 'other'",
            "max_tokens = 7",
            "temperature = 0.5",
            "strategy = 'uniform'",
            "timeout_s = 3",
        ):
            assert run(f"%config ExoMagics.{setting}").error is None
        run("%%exo\nHi")
        asked = cluster.options_of("generate")
        assert (asked["max_tokens"], asked["temperature"], asked["timeout_s"]) == (7, 0.5, 3.0)
        assert asked["model"] is None  # one model is loaded: that one
        run("%exo plan")
        assert cluster.options_of("explain")["model"] == "other"
        assert cluster.options_of("explain")["strategy"] == "uniform"
        run("%%exo --temperature 0\nHi")
        assert cluster.options_of("generate")["temperature"] == 0.0
    finally:
        for name, value in before.items():
            setattr(magics, name, value)


def test_help_names_every_verb_and_one_verb_every_option(run, shell):
    shown = run("%exo help").stdout
    assert run("%exo").stdout == shown
    for verb in verbs("cell"):
        assert verb.name in shown
        one = run(f"%exo {verb.name} --help").stdout
        for option in verb.options:
            assert option.flags[-1] in one or option.settings["metavar"] in one
    assert "--literal" in run("%%exo --help\nx").stdout


# -- the extension


def test_python_shows_what_the_magics_show(run, cluster, shell):
    shell.user_ns["view"] = cluster
    assert "layers held" in run("view.status()").stdout
    assert "a proposal" in run("view.plan('m')").stdout


def test_loading_twice_changes_nothing_and_unloading_takes_everything_back(shell, backend):
    magics = shell.magics_manager.registry["ExoMagics"]
    exo_lab.load_ipython_extension(shell)
    assert shell.magics_manager.registry["ExoMagics"] is magics
    made = backend.connect()
    exo_lab.unload_ipython_extension(shell)
    assert made.closed
    assert shell.find_line_magic("exo") is None
    assert shell.find_cell_magic("exo") is None
    assert magics not in shell.configurables
    assert "%exo" not in shell.strdispatchers["complete_command"].strs
    bundle, _ = shell.display_formatter.format(made.status())
    assert "text/html" not in bundle
    exo_lab.unload_ipython_extension(shell)  # harmless
    exo_lab.load_ipython_extension(shell)
    assert shell.find_cell_magic("exo") is not None
