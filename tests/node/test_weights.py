"""A node without a model's file gets exactly its layers from other nodes, and what they send is checked."""

from __future__ import annotations

import asyncio
import errno
import shutil
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import CorruptModel, DoesNotFit, ExoError, ModelError, ModelNotFound, NodeError
from exo_lab.core.messages import ModelRef
from exo_lab.core.weights_messages import MAX_READ_BYTES, CheckWeights, FindWeights, ReadWeights, WeightBytes
from exo_lab.models.gguf_header import read_header
from exo_lab.models.open import open_file
from exo_lab.models.store import ModelStore
from exo_lab.node import holders, planner
from tests.node.clusters import MODEL, tokens_of, until
from tests.node.lending import MADE, lenders, lending


@pytest.mark.parametrize("form", MADE)
def test_a_node_without_the_file_gets_its_layers_from_one_that_has_it_and_nothing_more(tmp_path, form):
    async def check():
        path = MADE[form](tmp_path / "files")
        seen: list[tuple[str, int, int, str]] = []
        async with lending(path, tmp_path) as here:
            made = here.made
            await here.add("n0", path)
            await here.add("n1")
            await made.all_met()
            await made.load((2, 2), progress=lambda *report: seen.append(report))
            assert await made.answer() == made.expected()
            partial = here.partial(1)
            wanted = set(here.names(2, 4))
            assert {name for name in here.names(0, 4) if not partial.missing([name])} == wanted
            with closing(open_file(path, MODEL)) as source, closing(partial.open(MODEL)) as mine:
                for name in wanted:
                    assert np.array_equal(mine.weight(name).raw(), source.weight(name).raw())
                with pytest.raises(CorruptModel, match=r"tensor blk\.0\.attn_q\.weight of tiny has not been fetched"):
                    mine.weight("blk.0.attn_q.weight")
            assert here.partial(0) is None
            told = [report for report in seen if report[0] == "n1" and report[3].startswith("from peers")]
            assert told
            count = len(wanted)
            assert f"from peers: {count} of {count} tensors" in told[-1][3]
            assert told[-1][3].endswith("MB from n0")

    asyncio.run(check())


def tokens_after_loading(path, folder, *, counts, who_has, prompt=(5, 6, 7)):
    """What a cluster says whose node i has the file where `who_has[i]`, and what the uncut model says."""

    async def run():
        async with lending(path, folder) as here:
            for i, has in enumerate(who_has):
                await here.add(f"n{i}", path if has else None)
            await here.made.all_met()
            await here.made.load(counts)
            return await here.made.answer(prompt=prompt), here.made.expected(prompt=prompt)

    return asyncio.run(run())


@settings(max_examples=8, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    holder=st.integers(0, 2),
    form=st.sampled_from(sorted(MADE)),
)
def test_any_cut_of_fetched_tensors_gives_the_tokens_of_the_uncut_model(tmp_path_factory, cuts, holder, form):
    folder = tmp_path_factory.mktemp("law")
    path = MADE[form](folder / "files")
    counts = [*cuts, 4 - sum(cuts)] if sum(cuts) < 4 else [4 - cuts[0], cuts[0]]
    counts = [count for count in counts if count]
    said, wanted = tokens_after_loading(path, folder, counts=counts, who_has=[i == holder for i in range(3)])
    assert said == wanted


def test_several_holders_each_with_a_part_make_a_whole_together(tmp_path):
    async def check():
        async with lenders(tmp_path, have=1, lack=3) as here:
            made = here.made
            await made.load((1, 1, 2))  # n1 and n2 have a part each now
            await made.load((1, 1, 2), (1, 0, 2))  # and n1 another one
            made.cut_off(0)
            await until(lambda: len(made[3].members.alive()) == 2, "the one with the file is gone")
            before = here.lent(1), here.lent(2)
            await made.load((4,), (3,), by=3)
            assert here.lent(1) > before[0]
            assert here.lent(2) > before[1]
            assert await made.answer(3) == made.expected()

    asyncio.run(check())


def test_what_nobody_has_any_more_is_an_error_that_says_so_and_what_came_is_kept(tmp_path):
    async def check():
        async with lenders(tmp_path, have=1, lack=2) as here:
            made = here.made
            await made.load((2, 2), (0, 1))
            made.cut_off(0)
            await until(lambda: len(made[2].members.alive()) == 1, "the one with the file is gone")
            with pytest.raises(ModelNotFound, match=r"no hub.*could not give \d+ of \d+ tensors.*what came is kept"):
                await made.load((4,), (2,), by=2)
            assert not here.partial(2).missing(here.names(2, 4))
            with pytest.raises(ModelNotFound, match=r"no model 'tiny' on this machine"):
                await planner.load(made[1], made.plan((4,), (1,)), ModelRef(name=MODEL, digest="0" * 64))

    asyncio.run(check())


def test_after_repartition_a_node_fetches_only_what_it_lacks(tmp_path):
    async def check():
        async with lenders(tmp_path, have=1, lack=1) as here:
            made = here.made
            await made.load((2, 2))
            first = here.lent(0)
            await made.load((1, 3))
            more = here.lent(0) - first
            assert more == made.source.config.layer_bytes[1]
            await made.load((2, 2))
            await made.load((3, 1))
            assert here.lent(0) == first + more
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_holder_that_dies_in_the_middle_is_replaced_by_another(tmp_path):
    async def check():
        async with lenders(tmp_path, have=2, lack=1) as here:
            made = here.made
            await made[2].borrower.outline(MODEL)
            lender, asked = made[1].lender, []
            answer = lender.answer

            async def dying(question):
                asked.append(question)
                if isinstance(question, ReadWeights) and len(asked) > 6:
                    made.kill(1)
                return await answer(question)

            lender.answer = dying
            made[0].lender.answer = after(lambda: len(asked) > 6, made[0].lender.answer)
            await made.load((4,), (2,), by=2)
            assert len(asked) > 6
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def after(condition, answer):
    """An answer that waits for something before it gives bytes of tensors."""

    async def waiting(question):
        if isinstance(question, ReadWeights):
            await until(condition, "the other node is asked")
        return await answer(question)

    return waiting


def test_a_slow_holder_is_relieved_of_what_it_is_at(tmp_path):
    async def check():
        async with lenders(tmp_path, have=2, lack=1) as here:
            made = here.made
            lender, over = made[1].lender, asyncio.Event()
            answer = lender.answer

            async def stuck(question):
                if isinstance(question, ReadWeights):
                    await over.wait()
                return await answer(question)

            await here.made[2].borrower.outline(MODEL)
            lender.answer = stuck
            await asyncio.wait_for(made.load((4,), (2,), by=2), holders.READ_TIMEOUT_S - 0.5)
            over.set()
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def flipping(answer, what):
    """Answers with the first byte of what it sends flipped, for questions like `what`."""

    async def lying(question):
        reply = await answer(question)
        if what(question):
            return WeightBytes(data=bytes([reply.data[0] ^ 1]) + reply.data[1:])
        return reply

    return lying


def test_a_holder_that_sends_a_flipped_byte_is_refused_by_name_and_another_is_used(tmp_path):
    async def check():
        async with lenders(tmp_path, have=2, lack=1) as here:
            made = here.made
            await made[2].borrower.outline(MODEL)
            header = here.partial(2).image().files[0].header
            lies = []

            def about_tensors(question):
                lie = isinstance(question, ReadWeights) and question.ranges[0][0] >= header
                lies.append(lie)
                return lie

            made[1].lender.answer = flipping(made[1].lender.answer, about_tensors)
            made[0].lender.answer = after(lambda: any(lies), made[0].lender.answer)
            await made.load((4,), (2,), by=2)
            (problem,) = made[2].problems.values()
            assert problem.startswith("No weights are taken from n1: it sent bytes of ")
            assert "do not have the checksum which it tells" in problem
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def test_a_header_that_does_not_make_the_digest_is_refused_and_another_nodes_is_used(tmp_path):
    async def check():
        async with lenders(tmp_path, have=2, lack=1) as here:
            made = here.made
            header = made[0].parts.store.whole(MODEL).files[0].header
            for liar in (0, 1):
                if made[2].parts.store.folder.exists():
                    shutil.rmtree(made[2].parts.store.folder)
                    made[2].parts.store._partials.clear()
                true = made[liar].lender.answer
                made[liar].lender.answer = flipping(
                    true, lambda question: isinstance(question, ReadWeights) and question.ranges[0][0] >= header
                )
                assert await made[2].borrower.outline(MODEL) == made.source.config.digest
                made[liar].lender.answer = true
            for node in made.nodes[:2]:
                node.lender.answer = flipping(node.lender.answer, lambda question: isinstance(question, ReadWeights))
            shutil.rmtree(made[2].parts.store.folder)
            made[2].parts.store._partials.clear()
            with pytest.raises(CorruptModel, match=r"no node gave a sound header of tiny\. n\d: .*; n\d: "):
                await made[2].borrower.outline(MODEL)
            assert not list(made[2].parts.store.folder.iterdir())

    asyncio.run(check())


def test_two_holders_with_different_bytes_are_an_error_that_names_both(tmp_path):
    async def check():
        path = MADE["gguf"](tmp_path / "files")
        other = damaged_copy(path, tmp_path / "other.gguf")
        async with lending(path, tmp_path) as here:
            made = here.made
            for name, own in (("n0", path), ("n1", other), ("n2", None)):
                await here.add(name, own)
            await made.all_met()
            with pytest.raises(CorruptModel, match=r"n[01] and n[01] have different bytes of blk\.0\.attn_q\.weight"):
                await made.load((4,), (2,), by=2)

    asyncio.run(check())


def damaged_copy(path, other):
    """A copy with one byte of a tensor flipped where the digest does not look."""
    shutil.copy(path, other)
    where = read_header(path).tensors["blk.0.attn_q.weight"]
    with other.open("r+b") as file:
        file.seek(where.offset + 100)
        byte = file.read(1)[0]
        file.seek(where.offset + 100)
        file.write(bytes([byte ^ 1]))
    assert read_header(other).digest == read_header(path).digest
    return other


def test_what_came_before_an_interruption_is_not_fetched_again_and_damage_is_found(tmp_path):
    async def check():
        async with lenders(tmp_path, have=1, lack=1) as here:
            made = here.made
            await made[1].borrower.outline(MODEL)
            answer = made[0].lender.answer
            kept = here.partial(1)

            async def stopping(question):
                if isinstance(question, ReadWeights) and len(kept._have()) >= 5:
                    raise NodeError("not now")
                return await answer(question)

            made[0].lender.answer = stopping
            loading = asyncio.create_task(made.load((4,), (1,), by=1))
            await until(lambda: len(kept._have()) >= 5, "some tensors are here")
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            made[0].lender.answer = answer

            # As after a new start: nothing in memory, and one of the tensors was damaged on the disk meanwhile.
            digest = made.source.config.digest
            again = ModelStore(made[1].parts.store.folder, lambda name: None)
            names = here.names(0, 4)
            missing = {piece.name for piece in again.partial(digest).missing(names)}
            here_now = [kept.piece(name) for name in names if name not in missing]
            assert len(here_now) >= 5
            with (again.folder / digest / "model.gguf").open("r+b") as file:
                # One byte that the digest looks at, as an interrupted fetch may leave it, and one that it does not.
                for at in (kept.piece(sorted(missing)[0]).start, here_now[0].start + 100):
                    file.seek(at)
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 1]))
            made[1].parts.store._partials.clear()
            before = here.lent(0)
            await made.load((4,), (1,), by=1)
            wanted = sum(kept.piece(name).nbytes for name in missing) + here_now[0].nbytes
            assert here.lent(0) - before == wanted
            assert await made.answer() == made.expected()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (FindWeights(name="/etc/passwd"), "nothing of that model"),
        (FindWeights(name="tiny", digest="1" * 64), "nothing of that model"),
        (ReadWeights(digest="1" * 64, file=0, ranges=((0, 10),)), "nothing of that model"),
        (ReadWeights(digest="", file=0, ranges=((0, 10),)), "nothing of that model"),
        (ReadWeights(digest="D", file=1, ranges=((0, 10),)), "the model has 1 files, not 2"),
        (ReadWeights(digest="D", file=0, ranges=()), "bytes of weights are given at once"),
        (ReadWeights(digest="D", file=0, ranges=((0, MAX_READ_BYTES + 1),)), "bytes of weights are given at once"),
        (ReadWeights(digest="D", file=0, ranges=((10, 0),)), "has no bytes 10 to 0"),
        (ReadWeights(digest="D", file=0, ranges=((0, 400_000), (400_000, 0))), "has no bytes"),
        (ReadWeights(digest="D", file=0, ranges=((1 << 49, (1 << 49) + 1),)), "has no bytes"),
        (CheckWeights(digest="D", file=0, range=(0, 10)), "checksums are given of tensors"),
        (CheckWeights(digest="D", file=0, range=(0, 1 << 49)), "has no bytes"),
    ],
)
def test_a_question_for_what_is_not_a_models_is_refused(tmp_path, question, says):
    async def check():
        async with lenders(tmp_path, have=1, lack=1) as here:
            made = here.made
            ask, address = made[1].parts.control.request, made[0].card.control
            await ask(address, FindWeights(name=MODEL), timeout_s=9)
            real = made.source.config.digest
            if getattr(question, "digest", "") == "D":
                question_ = msgspec.structs.replace(question, digest=real)
            else:
                question_ = question
            with pytest.raises(ExoError, match=says):
                await ask(address, question_, timeout_s=9)

    asyncio.run(check())


def test_of_a_part_nothing_is_given_that_is_not_there(tmp_path):
    async def check():
        async with lenders(tmp_path, have=1, lack=1) as here:
            made = here.made
            await made.load((2, 2))
            ask, address = made[0].parts.control.request, made[1].card.control
            digest, partial = made.source.config.digest, here.partial(1)
            held, lacking = partial.piece("blk.3.attn_q.weight"), partial.piece("blk.0.attn_q.weight")
            for piece, given in ((held, True), (lacking, False)):
                for question in (
                    ReadWeights(digest=digest, file=0, ranges=((piece.start + 64, piece.end - 64),)),
                    CheckWeights(digest=digest, file=0, range=(piece.start, piece.end)),
                ):
                    if given:
                        await ask(address, question, timeout_s=9)
                    else:
                        with pytest.raises(ModelNotFound, match="has no bytes"):
                            await ask(address, question, timeout_s=9)

    asyncio.run(check())


def test_two_models_of_one_name_never_mix(tmp_path):
    async def check():
        path = MADE["gguf"](tmp_path / "files")
        other = MADE["gguf"](tmp_path / "others", seed=1)
        async with lending(path, tmp_path) as here:
            made = here.made
            for name, own in (("n0", path), ("n1", other), ("n2", None)):
                await here.add(name, own)
            await made.all_met()
            with pytest.raises(
                ModelNotFound, match=r"different models called tiny: n[01] has \w{12}; n[01] has \w{12}"
            ):
                await made[2].borrower.outline(MODEL)
            # Who has another of that name takes the right one from who has it.
            await made.load((2, 1, 1))
            assert here.lent(1) == 0
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_disk_that_is_full_is_an_error_that_says_where_and_what_to_do(tmp_path, monkeypatch):
    async def check():
        async with lenders(tmp_path, have=1, lack=1) as here:
            made = here.made
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
                with pytest.raises(ModelError, match=r"take \d\.\d MB, .* has room for 0\.0 MB.*EXO_LAB_CACHE"):
                    await made.load((2, 2))

            def refuse(*args):
                raise OSError(errno.ENOSPC, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(here.partial(1)._files[0].path.__class__, "open", refusing_writes(refuse))
                with pytest.raises(ModelError, match=r"could not be written into .*No space left on device.*EXO_LAB"):
                    await made.load((2, 2))
            await made.load((2, 2))
            assert await made.answer() == made.expected()

    asyncio.run(check())


def refusing_writes(refuse):
    """`Path.open` that refuses where a file would be changed in place."""
    true = Path.open

    def opened(self, mode="r", *args, **options):
        return refuse() if mode == "r+b" else true(self, mode, *args, **options)

    return opened


def test_a_shard_that_does_not_fit_is_refused_before_anything_is_fetched(tmp_path):
    async def check():
        path = MADE["gguf"](tmp_path / "files")
        async with lending(path, tmp_path) as here:
            made = here.made
            await here.add("n0", path)
            await here.add("n1", memory_bytes=1000, emulated="memory")
            await made.all_met()
            with pytest.raises(DoesNotFit, match=r"has 0\.0 MiB, its layers of tiny need .*Give it fewer layers"):
                await made.load((2, 2))
            assert len(here.partial(1).missing(here.names(2, 4))) == len(here.names(2, 4))

    asyncio.run(check())


def test_two_stores_of_one_machine_wait_for_each_other_and_share_what_came(tmp_path):
    async def check():
        path = MADE["gguf"](tmp_path / "files")
        async with lending(path, tmp_path) as here:
            made = here.made
            await here.add("n0", path)
            for name in ("n1", "n2"):
                await made.add(name, store=ModelStore(tmp_path / "shared", lambda asked: None))
            await made.all_met()
            await asyncio.gather(made.load((4,), (1,), by=1), made.load((4,), (2,), by=2))
            header = here.partial(1).image().files[0].header
            once = made.source.config.total_bytes + 2 * header
            assert here.lent(0) + here.lent(1) + here.lent(2) < once + 100_000
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_node_that_gives_weights_goes_on_answering_meanwhile(tmp_path):
    async def check():
        async with lenders(tmp_path, have=1, lack=1) as here:
            made = here.made
            plan = await made.load((4,), (0,))
            made.gates["n0"].close_before(4)
            asked = made.ask(0)
            await until(made.gates["n0"].reached.is_set, "an answer is being computed")
            await made.load((4,), (1,), by=1)
            assert not asked.over.is_set()
            assert made[0].plans[MODEL] != plan
            made.gates["n0"].open()
            assert await tokens_of(asked) == made.expected() == await made.answer(1)

    asyncio.run(check())
