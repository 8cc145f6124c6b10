"""Who asks need not have the model's file: its shape, its tokenizer and its layers come from a node that has it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ModelNotFound
from exo_lab.models.store import ModelStore
from exo_lab.node.build import build
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.node.lending import MADE, not_here

WITHIN_S = 30.0
ASKED = {"raw": True, "max_tokens": 12}


@pytest.mark.parametrize("form", MADE)
def test_who_asks_needs_no_file_of_the_model(tmp_path, form):
    path, token = MADE[form](tmp_path / "files"), new_token()

    def joined(stack: ExitStack, name: str, here: bool) -> Cluster:
        options = NodeOptions(name=name, engine="numpy")
        store = ModelStore(tmp_path / name, lambda asked: path if here and asked == "tiny" else None)
        parts = build(options, token)._replace(store=store, open_model=not_here)
        return stack.enter_context(Cluster(options, token, parts))

    with ExitStack() as stack:
        asker = joined(stack, "asker", here=False)
        holder = joined(stack, "holder", here=True)
        other = joined(stack, "other", here=False)
        for cluster in (asker, holder, other):
            cluster.wait_for(3, WITHIN_S)
        holder.load("tiny", devices=["holder"], context=64)
        whole = [event.token for event in holder.generate("the cat sat", **ASKED).result().tokens]
        for order in (["asker"], ["other", "asker"], ["asker", "holder", "other"]):
            asker.load("tiny", devices=order, context=64)
            for cluster in (asker, other):
                assert [event.token for event in cluster.generate("the cat sat", **ASKED).result().tokens] == whole
        asker.unload()
        with pytest.raises(ModelNotFound, match="no model 'another'"):
            asker.load("another", context=64)
