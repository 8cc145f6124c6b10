"""In pieces of what size a plan takes a prompt: by the cost model where that is asked for, and always the plan's."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from exo_lab.core.errors import BadPlan, ConfigError
from exo_lab.core.pace import Measured
from exo_lab.planning.choose import choose
from exo_lab.planning.chunks import SIZES, SMALL_CHUNK, usual_chunk, with_chunk
from exo_lab.planning.cost import predict
from exo_lab.planning.known_models import config_of
from exo_lab.planning.problem import PREFILL_CHUNK
from tests.planning.clusters import device, problem


def ring(nodes, prompt, weights_s=1e-4, latency_s=1e-5):
    """So many equal devices: 10 us a position and layer of a prompt, `weights_s` to read a layer's weights."""
    names = "abcd"[:nodes]
    paces = Measured(layer_s=weights_s, prefill_layer_s=1e-5, overhead_s=1e-5, head_s=0.0)
    links = [(a, b, latency_s, 1e9) for a, b in itertools.pairwise(names)]
    made = problem(
        [device(name) for name in names],
        links,
        measured=tuple((name, paces) for name in names),
        order=tuple(names),
        prompt_tokens=prompt,
    )
    return made, choose(made, "manual", [8 // nodes] * nodes)


def test_one_node_keeps_whole_chunks_and_a_ring_gets_pieces_that_fill_it():
    made, plan = ring(1, 256)
    assert with_chunk(made, plan, "auto") == plan
    made, plan = ring(2, 256)
    chosen = with_chunk(made, plan, "auto")
    assert chosen.chunk < PREFILL_CHUNK
    assert "pieces of" in chosen.why[-1]
    best = min(predict(made, msgspec.structs.replace(plan, chunk=size)).ttft_s for size in SIZES)
    assert predict(made, chosen).ttft_s == best < predict(made, plan).ttft_s


def test_small_pieces_are_usual_where_quantised_weights_stay_so_on_processors():
    four, sixteen = (config_of("Llama 3.1 8B", kind) for kind in ("Q4_0", "BF16"))
    processors = [device(name, computes_on="cpu") for name in "ab"]
    assert usual_chunk(four, "auto", "auto", processors) == SMALL_CHUNK
    assert usual_chunk(sixteen, "auto", "auto", processors) == PREFILL_CHUNK
    assert usual_chunk(four, "bfloat16", "auto", processors) == PREFILL_CHUNK
    assert usual_chunk(four, "auto", "numpy", processors) == PREFILL_CHUNK
    for other in (device("c", computes_on="cuda:0"), device("c")):
        assert usual_chunk(four, "auto", "auto", [*processors, other]) == PREFILL_CHUNK


def test_who_says_nothing_gets_the_usual_pieces_and_no_remark():
    made, plan = ring(2, 256)
    usual = with_chunk(msgspec.structs.replace(made, chunk=SMALL_CHUNK), plan, None)
    assert (usual.chunk, usual.why) == (SMALL_CHUNK, plan.why)


def test_the_more_reading_weights_costs_the_larger_the_pieces():
    sizes = []
    for weights_s in (0.0, 2e-4, 1e-3, 1e-2):
        made, plan = ring(2, 256, weights_s)
        sizes.append(with_chunk(made, plan, "auto").chunk)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == PREFILL_CHUNK


def test_a_piece_reads_the_weights_once_whatever_its_size():
    made, plan = ring(1, 256)
    whole, half = (predict(made, msgspec.structs.replace(plan, chunk=size)) for size in (128, 64))
    assert whole.chunk_s[0] == pytest.approx(8 * 128e-5 + 1e-5)
    assert half.chunk_s[0] == pytest.approx(8 * (64e-5 + 1e-4 / 2) + 1e-5)


def test_what_was_asked_for_is_taken_and_what_cannot_be_is_refused():
    made, plan = ring(2, 256)
    assert with_chunk(made, plan, 32).chunk == 32
    assert with_chunk(made, plan, PREFILL_CHUNK) == plan
    for wrong in (0, 15, 129):
        with pytest.raises(ConfigError, match="not possible"):
            with_chunk(made, plan, wrong)
        with pytest.raises(BadPlan, match="chunks"):
            msgspec.structs.replace(plan, chunk=wrong)
