"""A node without a model's file gets exactly its layers from other nodes, and what they send is checked."""

from __future__ import annotations

import asyncio
from contextlib import closing

import numpy as np
import pytest

from exo_lab.core.errors import CorruptModel
from exo_lab.models.open import open_file
from tests.node.clusters import MODEL
from tests.node.lending import MADE, lending


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
