"""Records of runs, and running them again: any cut says the same, and what is no record is refused with a reason."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.core.record import MAX_BYTES, Replayed, RunRecord, decode, encode, sealed
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config, write_gguf

WITHIN_S = 30.0
PROMPT = "the cat sat"
CUTS = (["left"], ["right"], ["left", "right"], ["right", "left"])


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    folders = [tmp_path_factory.mktemp("models") for _ in range(2)]
    for seed, folder in enumerate(folders):
        write_gguf(folder / "tiny.gguf", tiny_config(), seed=seed)
    return [str(folder / "tiny.gguf") for folder in folders]


@pytest.fixture(scope="module")
def left(models):
    """One of two nodes of this process, the other of which is emulated."""
    token = new_token()
    one = Cluster(NodeOptions(name="left", engine="numpy"), token)
    other = Cluster(NodeOptions(name="right", engine="numpy", slowdown=1.1), token)
    with one, other:
        one.wait_for(2, WITHIN_S)
        other.wait_for(2, WITHIN_S)
        yield one


@pytest.fixture(scope="module")
def record(left, models) -> RunRecord:
    left.load(models[0], devices=["left", "right"], context=64)
    sampling = {"temperature": 0.9, "seed": 7, "max_tokens": 12, "logprobs": 2, "stop": ("zzzz",)}
    return left.generate(PROMPT, raw=True, **sampling).result().record()


@pytest.mark.parametrize("cut", CUTS, ids="-".join)
def test_a_run_again_on_any_cut_gives_the_same_tokens(left, record, cut):
    again = Replayed(then=record, now=left.replay(record, devices=cut).result().record())
    assert again.first_difference is None
    assert again.now.sampling == record.sampling
    names = {device.id: device.name for device in again.now.devices}
    assert not again.now.notices
    assert [names[device] for device in again.now.plan.devices] == cut


def test_a_replay_elsewhere_takes_the_prompt_in_the_same_pieces_and_rounds_where_it_was_rounded(left, models, record):
    sampling = {"max_tokens": 8, "temperature": 0.0}
    left.load(models[0], devices=["left", "right"], context=64, chunk=16, wire="int8")
    then = left.generate(PROMPT * 7, raw=True, **sampling).result().record()
    left.load(models[0], devices=["left", "right"], context=100)
    now = left.replay(then, devices=["right"]).result().record()
    assert len(then.prompt_tokens) > 16
    assert (now.plan.chunk, now.plan.roundings) == (16, then.plan.roundings)
    assert then.plan.roundings != ()
    assert now.plan.context_tokens == 100
    assert Replayed(then=then, now=now).first_difference is None


def test_a_record_says_what_ran_where_and_with_what(left, record):
    assert record.prompt == PROMPT
    assert record.sampling.seed == 7
    assert record.sampling.stop == ("zzzz",)
    assert len(record.tokens) == 12
    assert record.text == "".join(one.text for one in record.tokens)
    assert {device.name: bool(device.emulated) for device in record.devices} == {"left": False, "right": True}
    assert {timing.node for one in record.tokens for timing in one.timings} == set(record.plan.devices)
    assert {"exo_lab", "python", "numpy", "torch", "system"} <= record.versions.keys()
    assert record.total_s >= record.tokens[-1].at_s >= record.ttft_s > 0
    assert record.digest == left.models()[0].config.digest


def test_a_record_is_read_as_it_was_written(record):
    assert decode(encode(record)) == record


def test_whole_numbers_written_without_a_point_are_the_same_record(record):
    """JavaScript writes 1.0 as 1."""
    whole = sealed(msgspec.structs.replace(record, total_s=3.0))
    assert decode(encode(whole).replace('"total_s":3.0', '"total_s":3')) == whole


def changed(record: RunRecord, **fields) -> str:
    """JSON of a record with other fields, as somebody edits it: the checksum is computed anew."""
    return encode(sealed(msgspec.structs.replace(record, **fields)))


def test_a_record_that_was_edited_is_refused(record):
    text = encode(record)
    edits = (('"seed":7', '"seed":8'), ('"the cat sat"', '"the dog sat"'), ('"max_tokens":12', '"max_tokens":99'))
    for old, new in edits:
        assert old in text
        with pytest.raises(ConfigError, match="damaged or edited"):
            decode(text.replace(old, new))


def test_what_cannot_be_is_refused_although_its_checksum_fits(record):
    token = record.tokens[0]
    for text, reason in (
        (changed(record, prompt_tokens=()), "no tokens"),
        (changed(record, prompt_tokens=(-1,)), "tokens that cannot be"),
        (changed(record, tokens=record.tokens * 2), "longer than max_tokens"),
        (changed(record, total_s=-1.0), "times that cannot be"),
        (changed(record, tokens=(msgspec.structs.replace(token, at_s=-1.0),)), "times that cannot be"),
        (changed(record, version=1), "version 1"),
        (changed(record, format="other"), "'other'"),
    ):
        with pytest.raises(ConfigError, match=reason):
            decode(text)


def test_a_plan_with_a_hole_and_fields_that_there_are_not_are_refused(record):
    made = json.loads(encode(record))
    made["plan"]["shards"][0]["start"] = 1
    with pytest.raises(ConfigError, match="no run record"):
        decode(json.dumps(made))
    with pytest.raises(ConfigError, match="unknown field"):
        decode(json.dumps({**json.loads(encode(record)), "code": "import os"}))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", "\x80", "[" * 100_000, " " * (MAX_BYTES + 1)])
def test_what_is_no_record_at_all_is_refused(text):
    with pytest.raises(ConfigError, match="no run record"):
        decode(text)


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_no_byte_of_a_record_can_be_changed_unseen(record, at, byte):
    text = bytearray(encode(record).encode())
    text[int(at * len(text))] = byte
    try:
        read = decode(bytes(text))
    except ConfigError:
        return
    assert read == record  # white space, or the same byte


def test_other_weights_of_the_same_name_are_named_and_nothing_runs(left, record, models):
    left.unload()
    try:
        with pytest.raises(ConfigError, match="loaded is nothing"):
            left.replay(record)
        left.load(models[1], devices=["left"], context=64)
        with pytest.raises(ConfigError, match=f"other weights .* the record's is {record.digest[:12]}"):
            left.replay(record)
        left.unload()
    finally:
        left.load(models[0], devices=["left", "right"], context=64)


def test_tokens_that_the_model_has_not_are_refused_before_anything_is_sent(left, record):
    forged = decode(changed(record, prompt_tokens=(1 << 30,)))
    with pytest.raises(ConfigError, match="not made by a run of these weights"):
        left.replay(forged)


def test_a_name_in_a_record_is_never_opened(left, record, tmp_path):
    """A record may come from anybody: what it calls its model is told, and not looked for."""
    trap = tmp_path / "trap.gguf"
    plan = msgspec.convert(
        json.loads(msgspec.json.encode(record.plan).replace(record.plan.model.encode(), str(trap).encode())),
        type(record.plan),
    )
    forged = decode(changed(record, plan=plan, digest="0" * 64))
    with pytest.raises(ExoError, match="loaded is"):
        left.replay(forged, devices=["left"])


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
@settings(max_examples=80, deadline=None)
def test_the_first_difference_is_where_the_tokens_part(record, then, now):
    def of(ids):
        return msgspec.structs.replace(
            record, tokens=tuple(msgspec.structs.replace(record.tokens[0], token=one) for one in ids)
        )

    found = Replayed(then=of(then), now=of(now)).first_difference
    if found is None:
        assert then == now
    else:
        assert then[:found] == now[:found]
        assert then[found : found + 1] != now[found : found + 1]
