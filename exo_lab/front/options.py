"""Every verb and option of `%exo`, `%%exo` and `exo-lab`, said once: parsers, help, completion and docs come from here.

To add a verb: a line in `VERBS`, and what it does in `verbs` (or in `cli` for what only the shell has). Values are
converted here; what they mean is checked where they are used.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from exo_lab.core.wire import WIRE_CHOICES
from exo_lab.front.option import (
    Option,
    Words,
    integer,
    integer_or_auto,
    list_of,
    names_list,
    number,
    option,
    size,
    switch,
    unescape,
    weights,
)
from exo_lab.front.options_operating import (
    ALERTS,
    DIAGNOSE,
    EXPORT,
    MONITOR,
    NETWORK,
    RECORD,
    RECORD_HERE,
    REPLAY,
    SENSORS,
    SERVE,
    THRESHOLDS,
    TOPOLOGY,
)
from exo_lab.front.options_planning import FIT, SIMULATE

__all__ = ["Option", "Words", "names_list", "unescape"]

Where = Literal["cell", "shell"]


class Verb(NamedTuple):
    """One verb. `where`: in cells, in the shell, or both."""

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    where: tuple[Where, ...] = ("cell", "shell")


# -- options -----------------------------------------------------------------------------------------------

ENGINE = option("--engine", choices=("auto", "torch", "numpy"), default="auto", help="what computes (default: auto)")
THREADS = option("--threads", type=integer, metavar="N", help="CPU threads for computing")
OUT = option("-o", "--out", metavar="NAME", help="keep the answer, with all its figures, in this variable")
WAIT = option("--wait", type=number, default=2.0, metavar="SECONDS", help="how long to look for nodes (default: 2)")
LAN = option("--lan", action="store_true", help="listen on every interface, so that other machines can join")
PEERS = option("--peers", metavar="FILE", words="file", help="peers file (TOML), or endpoints: tcp://host:port,...")
DISCOVERY = option(
    "--discovery",
    type=names_list,
    metavar="WAY,...",
    help="ways of finding others: loopback, udp, mdns, tailscale (default: loopback; with --lan udp and mdns too)",
)
JOINING = (LAN, PEERS, DISCOVERY, WAIT)

EMULATE_LINK = option(
    "--emulate-link",
    metavar="LINK",
    help="emulate a slower network for what answers are made of: 20ms, 100Mbit, or 20ms,100Mbit",
)

APART = option(
    "--apart",
    action="store_true",
    help="a cluster of its own, with a secret of its own: of what this kernel starts, and nothing else",
)
CONNECT = (
    option("--name", metavar="NAME", help="what the node is called (default: the machine's name)"),
    LAN,
    option("--bind", metavar="ADDRESS", help="listen on this address only"),
    option("--port", type=integer, default=0, metavar="PORT", help="control port; data uses the next one"),
    PEERS,
    DISCOVERY,
    option("--memory", type=size, default=0, metavar="SIZE", help="emulate a device with so much memory: 96MB"),
    option("--slow", type=number, default=1.0, metavar="FACTOR", help="emulate a device slower by this factor"),
    EMULATE_LINK,
    THREADS,
    ENGINE,
    option(
        "--power",
        choices=("low", "normal", "auto"),
        default="auto",
        help="low saves a battery: few pings, so that a loss is noticed later; auto: low if on battery (default)",
    ),
    option(
        "--rebalance",
        choices=("auto", "ask", "never"),
        default="ask",
        help="if nodes come, go or change pace and another plan is better: load it, say so, or nothing (default: ask)",
    ),
    SENSORS,
    THRESHOLDS,
)
UP = (
    option("count", nargs="?", type=integer, default=3, metavar="N", help="how many kernels (default: 3)"),
    option("--memory", type=list_of(size), metavar="SIZE,...", help="emulated memory, one a kernel: 64MB,96MB"),
    option("--slow", type=list_of(number), metavar="FACTOR,...", help="emulated slowness, one a kernel: 1,1,2"),
    EMULATE_LINK,
    option("--names", type=names_list, metavar="NAME,...", help="node names, one a kernel"),
    THREADS,
    option("--engines", default="local", metavar="WHERE", help="local, or an ipyparallel launcher: ssh, slurm, ..."),
    option("--profile", metavar="NAME", help="the ipyparallel profile that configures that launcher"),
    ENGINE,
    option("--timeout", type=number, default=120.0, metavar="SECONDS", help="for all of them to be there"),
)
PLAN = (
    option("model", nargs="?", metavar="MODEL", words="model", help="a name, a path or a hub id"),
    option("--strategy", metavar="NAME", words="strategy", help="how layers are shared out"),
    option("--devices", type=names_list, metavar="NODE,...", words="node", help="these nodes, in ring order"),
    option("--layers", type=list_of(integer), metavar="N,...", help="layers by hand, one count a node"),
    option("--dtype", choices=("auto", "float32", "bfloat16", "quantised"), default="auto", help="what weights become"),
    ENGINE,
    option("--context", type=integer, default=2048, metavar="TOKENS", help="prompt and answer that memory must hold"),
    option("--prompt", type=integer, metavar="TOKENS", help="length of a typical prompt (default: 512)"),
    option(
        "--objective",
        choices=("decode", "throughput", "prefill"),
        default="decode",
        help="what the strategy optimal makes small: a token, one of many requests, the time to the first one",
    ),
    option("--mix", type=weights, metavar="NAME=W,...", help="a weighted sum of these: decode=100,prefill=1"),
    option("--force", action="store_true", help="also if the memory check says that it does not fit"),
    option(
        "--wire",
        choices=WIRE_CHOICES,
        default="float32",
        help="precision of hidden states between nodes; auto: bfloat16 on slow links (default: float32, exact)",
    ),
    option("--chunk", type=integer_or_auto, metavar="TOKENS", help="pieces in which prompts run, or auto"),
)
EXPLAIN = option("--explain", action="store_true", help="also every number with its origin, and what was rejected")
SAMPLING = (
    option("-m", "--model", metavar="MODEL", words="model", help="which of the loaded models"),
    option("--raw", action="store_true", help="complete the text as it is, without the chat template"),
    option("--system", metavar="TEXT", help="a system message before the prompt"),
    option("--max-tokens", type=integer, metavar="N", help="longest answer"),
    option("--temperature", type=number, metavar="T", help="0 always takes the most likely token"),
    option("--top-k", type=integer, metavar="K", help="of the K most likely tokens only; 0: of all"),
    option("--top-p", type=number, metavar="P", help="of the most likely tokens that make up P"),
    option("--min-p", type=number, metavar="P", help="of tokens at least P times as likely as the best"),
    option("--repetition-penalty", type=number, metavar="R", help="above 1: against repeating"),
    option("--seed", type=integer, metavar="N", help="another seed, another answer; the same one, the same"),
    option("--stop", action="append", type=unescape, metavar="TEXT", help="end before this text; may be repeated"),
    option("--speculate", type=integer, metavar="N", help="guess up to N tokens a step, 0: none (default: as it pays)"),
    option("--draft", metavar="MODEL", words="model", help="a small model with the same tokenizer that guesses ahead"),
    option("--prefix-cache", type=switch, metavar="on|off", help="reuse what a prompt before began with (default: on)"),
    option("--logprobs", type=integer, metavar="N", help="report the N most likely tokens at each place"),
    option("--timeout", type=number, metavar="SECONDS", help="longest wait for one token"),
)
LITERAL = option("--literal", action="store_true", help="take { and } in the prompt as they are")
MODEL = option("model", nargs="?", metavar="MODEL", words="model", help="which one; not needed if there is one")

CELL_OPTIONS = (*SAMPLING, LITERAL, OUT, RECORD_HERE)

VERBS: tuple[Verb, ...] = (
    Verb("connect", "make this kernel a node of the cluster", (*CONNECT, APART), ("cell",)),
    Verb("disconnect", "leave the cluster; kernels that were started here are ended", (), ("cell",)),
    Verb("up", "start kernels as nodes: on this machine, over SSH, on Slurm", UP, ("cell",)),
    Verb(
        "down",
        "end kernels that up started",
        (option("names", nargs="*", metavar="NODE", words="node", help="which ones (default: all)"),),
        ("cell",),
    ),
    Verb(
        "fail",
        "rehearse a loss: kill or freeze a kernel that up started, or thaw a frozen one",
        (
            option("name", metavar="NODE", words="node", help="which one"),
            option("--how", choices=("kill", "freeze", "thaw"), default="kill", help="what happens (default: kill)"),
        ),
        ("cell",),
    ),
    Verb("node", "run a node until it is stopped", CONNECT, ("shell",)),
    Verb("status", "everything at a glance: nodes, models, what is wrong"),
    Verb("nodes", "the nodes: who is alive, what they have, what they hold"),
    Verb("doctor", "why nodes find each other or do not, step by step, and what to do"),
    Verb(
        "plan",
        "what load would do: who gets which layers, what it gives, and why. Loads nothing",
        (*PLAN, EXPLAIN),
    ),
    Verb("fit", "what fits, at which quantisation and context, and what one more device buys. Loads nothing", FIT),
    Verb(
        "simulate",
        "requests on a plan, event by event, with failures: figures and a Gantt chart. Nothing runs",
        SIMULATE,
    ),
    Verb("load", "cut a model over the nodes and have each load its layers", PLAN),
    Verb(
        "move",
        "have a node hold these layers from now on; answers that are being made go along",
        (
            option("layers", metavar="LAYERS", help="10-14 (both included), 10:15 (the last not), or 10"),
            option("node", metavar="NODE", words="node", help="who gets them: a name or an id"),
            option("-m", "--model", metavar="MODEL", words="model", help="which of the loaded models"),
        ),
    ),
    Verb("unload", "have every node forget a model", (MODEL,)),
    Verb(
        "models",
        "models on this machine, and those that are loaded",
        (option("--fetch", metavar="MODEL", words="model", help="bring a model to this machine"),),
    ),
    Verb("topology", "devices, links and who holds what; without `show`, live in JupyterLab", TOPOLOGY),
    Verb("network", "latency, bandwidth and loss between nodes, and what they mean for tokens a second", NETWORK),
    Verb("monitor", "nodes, links, tokens a second and alerts, live; in Jupyter the charts of telemetry", MONITOR),
    Verb("export", "metrics for Prometheus, traces for OpenTelemetry; without options: what is on", EXPORT, ("cell",)),
    Verb("export", "serve metrics of all nodes to Prometheus, until it is stopped", SERVE, ("shell",)),
    Verb("alerts", "what is too much on which node, and what is predicted to become so", ALERTS),
    Verb("diagnose", "everything about the cluster in one HTML file, without a network and without secrets", DIAGNOSE),
    Verb("placement", "who holds which layers; boundaries move in JupyterLab, a picture elsewhere", (), ("cell",)),
    Verb(
        "telemetry",
        "tokens a second, stage times, memory, load and links over time; live in Jupyter, a picture elsewhere",
        (
            option("--every", type=number, default=0.5, metavar="SECONDS", help="between looks (default: 0.5)"),
            option("--csv", metavar="FILE", words="file", help="write what is remembered to this file; show nothing"),
        ),
        ("cell",),
    ),
    Verb(
        "heatmap",
        "where the time of an answer went: layer by token, computing, node and wire",
        (
            option("name", nargs="?", metavar="NAME", help="a variable that holds an answer (default: the last one)"),
            option("--last", type=integer, metavar="N", help="only the latest N tokens"),
            option("--csv", metavar="FILE", words="file", help="also write the figures to this file"),
        ),
        ("cell",),
    ),
    Verb(
        "ask",
        "ask a loaded model; the answer streams",
        (
            option(
                "prompt", nargs="+", metavar="PROMPT", help="what to say; in a shell, - reads it from standard input"
            ),
            *SAMPLING,
            RECORD,
        ),
    ),
    Verb("replay", "run a recorded run again, with the same seed, and show what differs", REPLAY),
    Verb(
        "token",
        "the cluster's secret: where it is kept, and a fingerprint to compare",
        (
            option("--show", action="store_true", help="print the secret itself: who has it is in"),
            option("--new", action="store_true", help="make a new one; nodes with the old one are left outside"),
            option("--join", action="store_true", help="take over another cluster's: asks for it, and shows nothing"),
        ),
    ),
    Verb("demo", "three kernels, a real model cut over them, an answer", (), ("shell",)),
    Verb(
        "help",
        "this, or all about one verb",
        (option("verb", nargs="?", metavar="VERB", words="verb", help="which one"),),
        ("cell",),
    ),
)
ON_PAPER = ("fit", "simulate")
# In the shell these first join the cluster, those on paper unless their devices are described.
LOOKING = (
    *("status", "nodes", "alerts", "export", "topology", "network", "monitor", "diagnose", "doctor"),
    *("plan", *ON_PAPER, "load", "move", "unload", "ask", "replay"),
)  # fmt: skip


def verbs(where: Where) -> tuple[Verb, ...]:
    """The verbs that there are in cells, or in the shell."""
    return tuple(
        verb._replace(options=(*verb.options, *JOINING)) if where == "shell" and verb.name in LOOKING
        else verb._replace(options=(*verb.options, OUT)) if where == "cell" and verb.name == "ask"
        else verb
        for verb in VERBS
        if where in verb.where
    )  # fmt: skip
