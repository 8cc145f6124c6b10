"""The options of the verbs of those who run a cluster: `topology`, `network`, `monitor`, `diagnose`."""

from __future__ import annotations

from exo_lab.front.option import option

JSON = option("--json", action="store_true", help="as JSON, for programs: sizes in bytes, times in seconds")

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
