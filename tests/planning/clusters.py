"""Small clusters by hand for tests of planning: figures so round that results can be reckoned in the head."""

from __future__ import annotations

from exo_lab.core.device import Device, Flops
from exo_lab.core.model import ModelConfig
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.planning.problem import Problem

MIB = 2**20


def model(layers: int = 8, layer_bytes: int = 10 * MIB, ends_bytes: int = 0) -> ModelConfig:
    """Layers of equal size, whose compute is next to nothing."""
    return ModelConfig(
        name="round",
        architecture="llama",
        n_layers=layers,
        hidden_size=16,
        intermediate_size=16,
        n_heads=1,
        n_kv_heads=1,
        head_dim=16,
        vocab_size=16,
        context_length=4096,
        layer_bytes=(layer_bytes,) * layers,
        embedding_bytes=ends_bytes,
        head_bytes=ends_bytes,
    )


def device(name: str, memory_bytes: int = 1000 * MIB, bandwidth: float = 1e9, **fields: object) -> Device:
    """A device whose id is its name."""
    return Device(
        **{
            "id": name,
            "name": name,
            "memory_bytes": memory_bytes,
            "memory_bandwidth_bytes_per_s": bandwidth,
            "flops": Flops(fp32=100.0),
            **fields,
        }
    )


def problem(devices, links=(), config=None, **fields) -> Problem:
    """A problem with no margin and a context of one token, so that memory is weights and working space only.

    `links` are (a, b, latency_s, bandwidth_bytes_per_s).
    """
    edges = [
        link(a, b, kind="ethernet", latency_s=latency, bandwidth_bytes_per_s=rate) for a, b, latency, rate in links
    ]
    return Problem(
        **{
            "config": config or model(),
            "topology": topology([Sighting(device=one) for one in devices], edges),
            "context_tokens": 1,
            "prompt_tokens": 1,
            "memory_margin": 0.0,
            **fields,
        }
    )
