"""A Llama-3-8B-shaped random model on one GPU: one stage and two stages on it, beside Transformers, in one run.

`python -m benchmarks.gpu` needs a GPU with room for the model twice (two stages and Transformers: about 32 GiB in
bfloat16). `--device cpu --small` runs a small shape anywhere; it shows that the script works and says nothing of speed.
Four-bit weights are not measured: exo_lab keeps them quantised on CPUs only, and the table says so.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from benchmarks.contestants.transformers_ import forward
from benchmarks.measure import REPEATS, interleave, median, ratio, report
from benchmarks.random_model import RandomSource
from exo_lab.core.model import ModelConfig
from exo_lab.core.shard import Shard
from exo_lab.engines import convert
from exo_lab.engines.decoder import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Callable

LLAMA_3_8B = ModelConfig(
    name="llama-3-8b-shaped", architecture="llama", n_layers=32, hidden_size=4096, intermediate_size=14336, n_heads=32,
    n_kv_heads=8, head_dim=128, vocab_size=128256, context_length=8192, rope_theta=500_000.0,
)  # fmt: skip
SMALL = msgspec.structs.replace(
    LLAMA_3_8B, name="small", n_layers=4, hidden_size=64, intermediate_size=128, n_heads=4, n_kv_heads=2, head_dim=16,
    vocab_size=256,
)  # fmt: skip
PROMPT, ANSWER = 512, 64
BUFFER_BYTES = 1 << 30  # copied to measure the memory


class Stages:
    """The model cut evenly over engines on one device."""

    def __init__(self, source: RandomSource, count: int, device: str) -> None:
        layers = source.config.n_layers
        cuts = [round(layers * stage / count) for stage in range(count + 1)]
        self.engines = [TorchEngine(dtype="bfloat16", device=device) for _ in range(count)]
        for stage, engine in enumerate(self.engines):
            engine.load(source, Shard(model="random", start=cuts[stage], end=cuts[stage + 1], n_layers=layers))

    def step(self, ids: list[int], position: int) -> int:
        """The likeliest token after these; hidden states cross between stages as bytes, as they do over a wire."""
        x = convert.tokens(ids)
        for engine in self.engines:
            out = engine.forward("s", x, position, "last")
            assert out is not None
            x = out
        return int(convert.to_numpy(x)[0].argmax())

    def decode(self, prompt: int, answer: int) -> float:
        """Tokens a second after a prompt."""
        for engine in self.engines:
            engine.drop("s")
        token = self.step([1] * prompt, 0)
        began = time.perf_counter()
        for position in range(prompt, prompt + answer):
            token = self.step([token], position)
        return answer / (time.perf_counter() - began)


def transformers_decode(config: ModelConfig, device: str) -> Callable[[int, int], float]:
    """Transformers with a model of the same shape and random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, intermediate_size=config.intermediate_size,
        num_hidden_layers=config.n_layers, num_attention_heads=config.n_heads, num_key_value_heads=config.n_kv_heads,
        max_position_embeddings=config.context_length,
    )  # fmt: skip
    with torch.device(device):
        model: Any = LlamaForCausalLM(shape).to(dtype=torch.bfloat16)  # pyright: ignore
    model.eval()

    @torch.inference_mode()
    def decode(prompt: int, answer: int) -> float:
        ids = torch.ones(1, prompt, dtype=torch.long, device=device)
        logits, cache = forward(model, ids)
        began = time.perf_counter()
        for _ in range(answer):
            logits, cache = forward(model, logits[:, -1:].argmax(-1), cache)
        logits[:, -1:].argmax(-1).item()  # waits for the device
        return answer / (time.perf_counter() - began)

    return decode


def bandwidth_bytes_per_s(device: str, nbytes: int) -> float:
    """Read and written bytes a second of a copy on the device: median of several."""
    source = torch.ones(nbytes // 4, device=device)
    target = torch.empty_like(source)
    times: list[float] = []
    for _ in range(8):
        _wait(device)
        began = time.perf_counter()
        target.copy_(source)
        _wait(device)
        times.append(time.perf_counter() - began)
    return 2 * nbytes / statistics.median(times)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(
    config: ModelConfig, device: str, repeats: int, prompt: int = PROMPT, answer: int = ANSWER
) -> dict[str, Any]:
    """All figures. See the module's text."""
    source = RandomSource(config)
    one, two = Stages(source, 1, device), Stages(source, 2, device)
    theirs = transformers_decode(config, device)
    rates = interleave(
        {
            "exo, 1 stage": lambda: one.decode(prompt, answer),
            "exo, 2 stages": lambda: two.decode(prompt, answer),
            "Transformers": lambda: theirs(prompt, answer),
        },
        repeats,
    )
    config = source.config
    # A token reads every weight but the embedding's, of which it reads a row.
    read = config.total_bytes - (0 if config.tied_embeddings else config.embedding_bytes)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return {
        "model": config.name,
        "device": name,
        "repeats": repeats,
        "prompt_tokens": prompt,
        "answer_tokens": answer,
        "bytes_per_token": read,
        "bandwidth_bytes_per_s": bandwidth_bytes_per_s(device, BUFFER_BYTES if device != "cpu" else 1 << 26),
        "rates": rates,
    }


def main() -> None:
    """Measure, print, write JSON; without a GPU say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("gpu: there is no GPU here; nothing was measured. A small shape runs anywhere: --device cpu --small")
        return
    data = measure(SMALL if args.small else LLAMA_3_8B, args.device, args.repeats)
    theirs = data["rates"]["Transformers"]
    rows = [
        [name, f"{median(values):.1f}", f"{ratio(values, theirs):.2f}",
         f"{median(values) * data['bytes_per_token'] / data['bandwidth_bytes_per_s']:.0%}"]
        for name, values in data["rates"].items()
    ]  # fmt: skip
    title = f"{data['model']}, bfloat16, {data['device']} (medians of {args.repeats}); int4: on CPUs only"
    report(
        "gpu" if args.device.startswith("cuda") else "gpu_on_cpu",
        title,
        ["one device", "decode tok/s", "/ Transformers", "of memory bandwidth"],
        rows,
        data,
    )


if __name__ == "__main__":
    main()
