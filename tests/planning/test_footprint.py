"""What a model takes in memory: by kind of storage, device, engine and dtype; and that engines do take it."""

from __future__ import annotations

import msgspec
import pytest

from exo_lab.core.device import Device
from exo_lab.core.errors import DoesNotFit
from exo_lab.core.shard import Shard
from exo_lab.engines import native, native_matrix, quant
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import Costs
from exo_lab.planning.footprint import EIGHT_BITS, FOUR_BITS, KEPT, KEPT_ROWS, footprint_of
from exo_lab.planning.known_models import config_of
from tests.planning.clusters import device, problem
from tests.tiny import TinySource, tiny_config, tiny_source

GIB = 1 << 30
CPU, GPU = device("cpu", computes_on="cpu"), device("gpu", computes_on="cuda:0")
NUMPY = device("numpy", computes_on="cpu", engines=("numpy", "torch"))
PLAIN = tiny_config(
    "llama", hidden_size=256, intermediate_size=512, head_dim=64, vocab_size=320, n_layers=2, tied_embeddings=False
)


def mixed() -> TinySource:
    """As a Q4_K_M file is: some matrices of six bits among those of four."""
    four, six = tiny_source(PLAIN, seed=3, kind="Q4_K"), tiny_source(PLAIN, seed=3, kind="Q6_K")
    weights = {
        name: six.weights[name] if "ffn_down" in name or name == "output.weight" else weight
        for name, weight in four.weights.items()
    }
    kinds = (("Q4_K", 0), ("Q6_K", 0))
    config = msgspec.structs.replace(
        four.config,
        layer_bytes=tuple(
            sum(one.stored.nbytes for one in weights.values() if one.name.startswith(f"blk.{layer}."))
            for layer in range(PLAIN.n_layers)
        ),
        layer_kinds=tuple(
            tuple((kind, sum(_weights(one) for one in weights.values() if _of(one, kind, layer))) for kind, _ in kinds)
            for layer in range(PLAIN.n_layers)
        ),
        head_bytes=six.config.head_bytes,
        head_kind="Q6_K",
    )
    return TinySource(config, weights)


def _weights(one) -> int:
    return one.shape[0] * one.shape[1]


def _of(one, kind: str, layer: int) -> bool:
    return one.kind == kind and one.name.startswith(f"blk.{layer}.") and len(one.shape) == 2


SOURCES = {
    kind: tiny_source(PLAIN, seed=3, kind=kind)
    for kind in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
} | {"Q4_K_M": mixed(), "odd vocabulary": tiny_source(msgspec.structs.replace(PLAIN, vocab_size=321), kind="Q4_0")}


def taken(engine, source, shard) -> int:
    """What an engine says that it holds."""
    try:
        return engine.load(source, shard).weight_bytes
    finally:
        engine.close()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_torch_engine_takes_the_memory_that_is_planned_for(kind, dtype):
    if native.state().library is None:
        pytest.skip(native.state().why_not)
    source = SOURCES[kind]
    for span in ((0, 2), (0, 1), (1, 2)):
        planned = footprint_of(source.config, CPU, dtype).weights(*span)
        engine = TorchEngine(dtype=dtype, device="cpu")
        # The engine counts its matrices; norms are planned for as they are stored.
        norms = (2 * (span[1] - span[0]) + (span[1] == 2)) * 4 * PLAIN.hidden_size
        assert taken(engine, source, Shard(model="tiny", start=span[0], end=span[1], n_layers=2)) == planned - norms


@pytest.mark.parametrize("kind", SOURCES)
def test_the_numpy_engine_takes_the_memory_that_is_planned_for(kind):
    source = SOURCES[kind]
    planned = footprint_of(source.config, NUMPY)
    assert footprint_of(source.config, CPU, engine="numpy") == planned
    assert taken(NumpyEngine(), source, Shard(model="tiny", start=0, end=2, n_layers=2)) == planned.weights(0, 2)


def test_a_gpu_widens_every_kind_and_float32_files_stay_float32():
    elements = PLAIN.flops_per_token_per_layer // 2
    norms = 2 * 4 * PLAIN.hidden_size
    for kind, source in SOURCES.items():
        held = footprint_of(source.config, GPU)
        assert held.layers == ((4 if kind == "F32" else 2) * elements + norms,) * 2, kind
        assert held.cached == PLAIN.kv_bytes_per_token_per_layer * (2 if kind == "F32" else 1)


def test_planning_keeps_the_kinds_and_layouts_that_the_engine_keeps():
    assert KEPT.keys() == quant.CONVERTERS.keys()
    assert KEPT_ROWS == native_matrix.ROWS
    per_block = native_matrix.ROWS * native_matrix.GROUP
    assert {4: FOUR_BITS * per_block, 8: EIGHT_BITS * per_block} == native_matrix._BLOCK_BYTES


def test_who_does_not_say_where_it_computes_is_taken_to_hold_the_file_as_it_is():
    config = SOURCES["Q6_K"].config
    assert footprint_of(config, Device(id="x", name="x")).layers == config.layer_bytes
    assert footprint_of(msgspec.structs.replace(config, layer_kinds=()), GPU).layers == config.layer_bytes


def test_an_8b_model_of_four_bits_does_not_fit_a_gpu_of_12_gib_and_does_fit_a_processor_with_as_much():
    config = config_of("Llama 3.1 8B", "Q4_0")
    with pytest.raises(DoesNotFit, match=r"needs 15\.\d GiB .* offers 12\.0 GiB"):
        choose(problem([device("gpu", 12 * GIB, computes_on="cuda:0")], config=config), "optimal")
    choose(problem([device("cpu", 12 * GIB, computes_on="cpu")], config=config), "optimal")


def test_a_device_that_widens_weights_is_given_fewer_layers_and_is_slower_for_it():
    config = config_of("Llama 3.1 8B", "Q4_0")
    both = [device("cpu", 8 * GIB, computes_on="cpu"), device("gpu", 6 * GIB, computes_on="cuda:0")]
    made = problem(both, [("cpu", "gpu", 1e-3, 1e9)], config=config)
    plan = choose(made, "ring-memory-weighted")
    layers = {one: len(shard) for one, shard in zip(plan.devices, plan.shards, strict=True)}
    assert sum(layers.values()) == 32
    assert layers["gpu"] < round(32 * 6 / 14)  # its share of the memory
    costs = Costs(made, both)
    assert costs.layer_s(1)[0] > 3 * costs.layer_s(0)[0]
    for one, shard in zip(plan.devices, plan.shards, strict=True):
        member = made.device(one)
        assert made.shard_memory_bytes(member, shard.start, shard.end) <= made.room_bytes(member)
