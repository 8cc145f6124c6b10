"""The options of the verbs that plan on paper: `fit` and `simulate`."""

from __future__ import annotations

from exo_lab.front.option import integer, names_list, number, option

_MODEL = option(
    "model", nargs="?", metavar="MODEL", words="model", help="one on this machine, or such as 'Llama 3.1 8B'"
)
_PAPER = (
    option("--devices", metavar="DEVICES", help="in words: 'M3 8GB x2, RTX 4070 12GB' (default: the cluster's)"),
    option("--network", metavar="NETWORK", help="between these: ethernet, 100Mbit, ... (default: wifi)"),
    option("--preset", choices=("laptops", "phones"), help="a reference scenario: its devices and its model"),
    option("--context", type=integer, default=4096, metavar="TOKENS", help="prompt and answer (default: 4096)"),
    option("--prompt", type=integer, metavar="TOKENS", help="length of a typical prompt (default: 512)"),
)
FIT = (
    _MODEL,
    *_PAPER,
    option("--quant", type=names_list, metavar="NAME,...", help="only these: BF16,Q8_0,Q6_K,Q5_0,Q4_0,F32"),
    option("--force", action="store_true", help="plan it even if it does not fit"),
)
SIMULATE = (
    _MODEL,
    *_PAPER,
    option("--quant", metavar="NAME", help="weights as: BF16, Q8_0, Q6_K, Q5_0, Q4_0 (default), F32"),
    option("--strategy", metavar="NAME", words="strategy", help="how layers are shared out, now and after a failure"),
    option("--requests", type=integer, default=1, metavar="N", help="how many (default: 1)"),
    option("--every", type=number, default=0.0, metavar="SECONDS", help="between them (default: 0, all at once)"),
    option("--at-once", type=integer, metavar="N", help="served at the same time (default: all)"),
    option("--answer", type=integer, default=64, metavar="TOKENS", help="length of an answer (default: 64)"),
    option("--fail", type=names_list, metavar="NODE@S,...", help="nodes that are gone after so many seconds"),
    option("--slow", type=names_list, metavar="NODE@S:F,...", help="nodes that are slower by F after so many seconds"),
    option("--notice", type=number, metavar="SECONDS", help="until a failure is noticed (default: 1.5)"),
    option("--jitter", type=number, default=0.0, metavar="SHARE", help="mean delay of frames, as a share of latency"),
    option("--seed", type=integer, default=0, metavar="N", help="decides the jitter (default: 0)"),
)
