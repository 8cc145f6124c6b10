"""The options of the verbs of those who run a cluster: `topology`, `network`, `alerts`, `monitor`, `diagnose`."""

from __future__ import annotations

from exo_lab.front.option import duration, names_list, option

JSON = option("--json", action="store_true", help="as JSON, for programs: sizes in bytes, times in seconds")

SENSORS = option(
    "--sensors",
    metavar="NAME=S,...",
    help="seconds between readings of compute, memory, network, device; 0: never, off: none (default: 5, 3, 1, 10)",
)
THRESHOLDS = option(
    "--thresholds",
    metavar="NAME=N,...",
    help="alerts above: compute and memory (percent), latency (ms), temperature (°C); 0: none (default: 90,85,100,80)",
)
ALERTS = (
    option("--ack", metavar="ID", help="acknowledge this alert: it is known, and stays until it is over"),
    JSON,
)
TOPOLOGY = (
    option("what", nargs="?", choices=("show",), metavar="show", help="this moment: a tree, or the form asked for"),
    option("--table", action="store_true", help="as text, two tables and not a tree"),
    JSON,
    option("--svg", metavar="FILE", words="file", help="write a drawing, which is right in light and dark"),
)
NETWORK = (
    option("what", choices=("test",), metavar="test", help="test every way between two nodes, one after the other"),
    option("--target", default="all", metavar="NODE", words="node", help="ways from and to this node (default: all)"),
    option("--while-busy", action="store_true", help="also on nodes that compute answers, which it slows down"),
    JSON,
)
EXPORT = (
    option(
        "--prometheus",
        metavar="PORT",
        help="serve metrics of all nodes to Prometheus: a port of 127.0.0.1, 0: any, or ADDRESS:PORT; off: no more",
    ),
    option(
        "--otlp",
        metavar="URL",
        help="send a trace of every answer of this process to an OpenTelemetry collector; off: no more",
    ),
)
SERVE = (
    option(
        "--prometheus",
        metavar="PORT",
        default="9464",
        help="a port of 127.0.0.1, 0: any, or ADDRESS:PORT (default: 9464)",
    ),
)
RECORD = option("--record", metavar="FILE", words="file", help="write the run's record to this file, for replay")
RECORD_HERE = option(
    "--record",
    nargs="?",
    const="",
    metavar="FILE",
    words="file",
    help="write the run's record to this file, for replay; without a file it goes into the output's metadata",
)
REPLAY = (
    option(
        "name",
        nargs="?",
        metavar="RUN",
        words="file",
        help="a file that --record wrote, a notebook, or a variable that holds an answer (default: the last one)",
    ),
    option("--devices", type=names_list, metavar="NODE,...", words="node", help="have these nodes load it first"),
)
MONITOR = (
    option("--interval", type=duration, default=1.0, metavar="TIME", help="between two looks: 1s, 500ms (default: 1s)"),
    option("--for", dest="for_s", type=duration, metavar="TIME", help="end after so long: 30s, 10m (default: Ctrl+C)"),
    option(
        "--record",
        metavar="FILE",
        words="file",
        help="also write every look to this file: JSON lines, or CSV as .csv; in a notebook, off ends that",
    ),
)
DIAGNOSE = (
    option("--output", metavar="FILE", words="file", default="exo-lab-report.html", help="where it goes (HTML)"),
    option("--last", type=duration, default=3600.0, metavar="TIME", help="how far back figures go (default: 1h)"),
    option("--network", action="store_true", help="test the network first; some seconds for each pair of nodes"),
)
