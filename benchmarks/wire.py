"""Lower precision on the wire: bytes, error against float32, and what it saves on a slow link, which is emulated.

Errors are those of one engine cut in two, on English text: logits of every position, perplexity, the most likely token
(given the same text so far), and answers that were generated greedily. Times are those of two kernels of one thread
with an emulated link between them (`%exo up --emulate-link`), round by round.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import interleave, median, ratio, report
from benchmarks.ring import DECODE_TOKENS, MODEL, Rings, prompt_of
from exo_lab.cluster import Cluster
from exo_lab.core.shard import Shard
from exo_lab.core.wire import WIRES, row_bytes
from exo_lab.engines import convert, wire
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.engines.decoder import TorchEngine
from exo_lab.models.open import open_model, open_tokenizer
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.core.tensor import Tensor
    from exo_lab.core.wire import Wire

TEXT = Path(__file__).parents[1] / "tests" / "data" / "alice.txt"
TEXT_TOKENS = 512
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 8, 24, 48
LINK = "5ms,20Mbit"
PREFILL = 256
REPEATS = 3


class Halves:
    """The model cut in two, with something between the halves."""

    def __init__(self) -> None:
        source = open_model(MODEL)
        self.hidden_size, layers = source.config.hidden_size, source.config.n_layers
        self._halves = (TorchEngine(threads=1), TorchEngine(threads=1))
        for engine, start, end in zip(self._halves, (0, layers // 2), (layers // 2, layers), strict=True):
            engine.load(source, Shard(model=source.config.name, start=start, end=end, n_layers=layers))
        source.close()

    def step(self, ids: Sequence[int], position: int, between: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Logits (n, vocab) of positions [position, position + n)."""
        first, second = self._halves
        hidden = first.forward("bench", convert.tokens(tuple(ids)), position)
        assert hidden is not None
        logits = second.forward("bench", between(hidden), position, "all")
        assert logits is not None
        return convert.to_numpy(logits)

    def text(self, ids: Sequence[int], between: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Logits of every position of a text."""
        chunks = range(0, len(ids), PREFILL_CHUNK)
        return np.concatenate([self.step(ids[at : at + PREFILL_CHUNK], at, between) for at in chunks])

    def greedy(self, prompt: Sequence[int], between: Callable[[Tensor], Tensor]) -> list[int]:
        """The most likely tokens after a prompt, one after the other."""
        said = [int(self.step(prompt, 0, between)[-1].argmax())]
        while len(said) < ANSWER_TOKENS:
            said.append(int(self.step(said[-1:], len(prompt) + len(said) - 1, between)[-1].argmax()))
        return said


def perplexity(logits: np.ndarray, ids: Sequence[int]) -> float:
    """Of a text, given the logits of each of its positions."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(np.exp(-logprobs[np.arange(len(ids) - 1), ids[1:]].mean()))


def errors() -> dict[str, dict[str, float]]:
    """How far each precision is from float32."""
    halves, ids = Halves(), open_tokenizer(MODEL).encode(TEXT.read_text(encoding="utf-8"))
    text = ids[:TEXT_TOKENS]
    starts = range(TEXT_TOKENS, TEXT_TOKENS + PROMPTS * PROMPT_TOKENS, PROMPT_TOKENS)
    prompts = [ids[at : at + PROMPT_TOKENS] for at in starts]
    exact = halves.text(text, lambda hidden: hidden)
    answers = [halves.greedy(prompt, lambda hidden: hidden) for prompt in prompts]
    found: dict[str, dict[str, float]] = {}
    for precision in WIRES:

        def between(hidden: Tensor, precision: Wire = precision) -> Tensor:
            return wire.rounded(hidden, precision)

        logits = halves.text(text, between)
        same = [_same(halves.greedy(prompt, between), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        found[precision] = {
            "bytes_a_position": row_bytes(halves.hidden_size, precision),
            "logit_rms_error": float(np.sqrt(((logits - exact) ** 2).mean())),
            "logit_rms": float(np.sqrt((exact**2).mean())),
            "perplexity": perplexity(logits, text),
            "most_likely_agree": float((logits.argmax(1) == exact.argmax(1)).mean()),
            "greedy_tokens_before_the_first_difference": float(np.mean(same)),
            "greedy_answers_that_are_the_same": float(np.mean([count == ANSWER_TOKENS for count in same])),
        }
    return found


def _same(ours: list[int], theirs: list[int]) -> int:
    """How many tokens are the same before the first that differs."""
    return next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(theirs))


class Linked(Rings):
    """Two kernels with an emulated link between them, and a plan for each precision."""

    def use(self, nodes: int, precision: str = "") -> None:
        """Load the plan with that precision; a plan that is loaded stays."""
        if precision and precision != self.loaded:
            devices = [f"kernel-{i + 1}" for i in range(nodes)]
            self.cluster.load(MODEL, strategy="uniform", devices=devices, wire=precision)
            self.loaded = precision


def times(repeats: int, link: str) -> dict[str, Any]:
    """Seconds to the first token of a prompt, and tokens a second, over an emulated link."""
    with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
        cluster.up(1, threads=1)
        cluster.up(1, threads=1, emulate_link=link)
        rings, prompt = Linked(cluster), prompt_of(cluster, PREFILL)

        def prefill(precision: str) -> float:
            rings.use(2, precision)
            return rings.prefill_s(2, prompt)

        def decode(precision: str) -> float:
            rings.use(2, precision)
            return rings.decode(2)["rate"]

        cases = {f"prefill {one}": lambda one=one: prefill(one) for one in WIRES}
        cases |= {f"decode {one}": lambda one=one: decode(one) for one in WIRES}
        measured = interleave(cases, repeats)
        chosen = cluster.plan(
            MODEL, strategy="uniform", devices=["kernel-1", "kernel-2"], wire="auto"
        ).plan.wire_out_of(0)
    return {"link": link, "auto": chosen, "measured": measured}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--link", default=LINK, help="what is emulated between the two kernels")
    args = parser.parse_args()
    data: dict[str, Any] = {"repeats": args.repeats, "errors": errors(), "times": times(args.repeats, args.link)}
    exact, measured = data["errors"]["float32"], data["times"]["measured"]
    rows: list[list[str]] = []
    for precision in WIRES:
        error = data["errors"][precision]
        prefills, decodes = measured[f"prefill {precision}"], measured[f"decode {precision}"]
        rows.append(
            [
                precision,
                f"{error['bytes_a_position']:.0f}",
                f"{error['logit_rms_error'] / error['logit_rms']:.4f}",
                f"{error['perplexity'] / exact['perplexity'] - 1:+.2%}",
                f"{error['most_likely_agree']:.1%}",
                f"{error['greedy_tokens_before_the_first_difference']:.0f} of {ANSWER_TOKENS}",
                f"{median(prefills) * 1e3:.0f}",
                f"{ratio(measured['prefill float32'], prefills):.2f}",
                f"{median(decodes):.1f}",
                f"{ratio(decodes, measured['decode float32']):.2f}",
            ]
        )
    header = ["wire", "bytes", "error", "perplexity", "most likely", "greedy"]
    header += [f"prefill {PREFILL}, ms", "gain", f"decode {DECODE_TOKENS}, tok/s", "gain"]
    title = f"{MODEL}, ring of 2 kernels of one thread, emulated link {args.link} (auto takes {data['times']['auto']})"
    report("wire", title, header, rows, data)


if __name__ == "__main__":
    main()
