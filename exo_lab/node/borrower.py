"""How a node gets from others what it lacks of a model: the headers, so that it knows its shape, then its own tensors.

Asks every living peer, on the control loop; writes in a thread of its own. What peers send is believed only as far as
the model's digest and the checksums go. Knows nothing of hubs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from exo_lab.core.errors import CorruptModel, ModelNotFound, UnsupportedModel
from exo_lab.core.weights_messages import MAX_RANGES, MAX_READ_BYTES
from exo_lab.engines import tensors
from exo_lab.models.outline import Outline
from exo_lab.node.fetching import WITNESSES, Fetch, agree
from exo_lab.node.holders import Address, Busy, Holder, Refused, find

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.shard import Shard
    from exo_lab.core.weights_messages import Range
    from exo_lab.models.partial import Partial, Piece
    from exo_lab.models.store import ModelStore
    from exo_lab.node.fetching import Report
    from exo_lab.node.model_names import ModelNames
    from exo_lab.node.node import Node

ROUNDS = 3  # after each, everybody is asked anew who has what is still missing
LOCK_DEADLINE_S = 900.0
LOCK_LOOK_S = 0.2

T = TypeVar("T")


class Found(NamedTuple):
    """Who has a model, and why others could not be asked."""

    holders: tuple[Holder, ...]
    silent: tuple[str, ...]

    def nobody(self) -> str:
        """A sentence on why nothing can be had."""
        if self.silent:
            return f"Of the other nodes, none could give it: {'; '.join(self.silent)}."
        return "No other node of the cluster has it either."


class Borrower:
    """See the module.

    Args:
        node: whose peers are asked; its `problems` take what is wrong with them.
        store: what is on this machine.
        names: which ones may be looked up here.
    """

    def __init__(self, node: Node, store: ModelStore, names: ModelNames) -> None:
        self._node, self.store, self._names = node, store, names
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"exo-borrow-{node.id}")

    async def outline(self, name: str, digest: str = "") -> str | None:
        """Have the header and tokenizer of a model here, whatever has to be asked for them.

        Args:
            name: what it is called; other nodes look it up as theirs.
            digest: of the wanted weights; empty: those that others call so.

        Returns:
            The digest; None if no other node has it.

        Raises:
            ModelNotFound: others call different models so.
            CorruptModel: what they sent is not the model.
            UnsupportedModel: it is none that we run.
            ModelError: the disk refuses.
        """
        return await self._outlined(name, name, digest)

    async def outline_of(self, model: ModelRef) -> str | None:
        """As `outline`, of a model that a plan names: only a name that is permitted is looked up here."""
        return await self._outlined(self._names.to_look_up(model.name), model.name, model.digest)

    async def _outlined(self, name_here: str, name: str, digest: str) -> str | None:
        here = await self._on_disk(lambda: self.store.held(name_here, digest))
        if here is not None:
            return here.digest
        found = await self._find(name, digest)
        meant = sorted({holder.held.digest for holder in found.holders})
        if len(meant) > 1:
            who = "; ".join(f"{holder.name} has {holder.held.digest[:12]}" for holder in found.holders)
            raise ModelNotFound(f"other nodes have different models called {name}: {who}. Put the right one here.")
        if meant:
            await self._outline(name, meant[0], found.holders)
        return meant[0] if meant else None

    async def bring(self, model: ModelRef, shard: Shard, check: Callable[[ModelConfig], object], report: Report) -> str:
        """Have the tensors of a shard here, if the model is not here as a whole.

        Args:
            model: which.
            shard: its layers, with embedding and head where they belong to it.
            check: raises if a model of this shape cannot be loaded; called before tensors are asked for.
            report: is told of progress.

        Returns:
            An empty text if all of it is here, else why not.

        Raises:
            ExoError: what `check` raises, and as `outline`.
        """
        name = self._names.to_look_up(model.name)
        if await self._on_disk(lambda: self.store.whole(name, model.digest)) is not None:
            return ""
        partial = await self._on_disk(lambda: self.store.partial(model.digest))
        if partial is None:
            found = await self._find(model.name, model.digest)
            if not found.holders:
                return found.nobody()
            partial = await self._outline(model.name, model.digest, found.holders)
        check(partial.config)
        names = tensors.names(partial.config, shard)
        if not await self._on_disk(lambda: partial.missing(names)):
            return ""
        async with self._locked(partial.folder, report):
            return await self._tensors(model, partial, names, report)

    async def _tensors(self, model: ModelRef, partial: Partial, names: Sequence[str], report: Report) -> str:
        why_not: dict[str, str] = {}
        missing: list[Piece] = []
        for _ in range(ROUNDS):
            missing = await self._on_disk(lambda: partial.missing(names))
            if not missing:
                return ""
            needed = sum(piece.nbytes for piece in missing)
            await self._on_disk(lambda needed=needed: partial.check_room(needed))
            found = await self._find(model.name, model.digest)
            why_not.update({text: text for text in found.silent})
            holders = [holder for holder in found.holders if holder.key not in why_not]
            if not holders:
                break
            await Fetch(partial, missing, holders, self._on_disk, report).run()
            why_not.update(self._of_no_use(holders))
        missing = await self._on_disk(lambda: partial.missing(names))
        if not missing:
            return ""
        return f"Other nodes could not give {len(missing)} of {len(names)} tensors of it; what came is kept." + "".join(
            f" {text}." for text in why_not.values()
        )

    def _of_no_use(self, holders: Sequence[Holder]) -> dict[str, str]:
        """Those of these nodes that will not be asked any more, and why; told to the user, too."""
        for holder in holders:
            subject = f"weights of {holder.name}"
            if holder.why_not:
                self._node.problems.note(subject, f"No weights are taken from {holder.name}: it {holder.why_not}")
            else:
                self._node.problems.settle(subject)
        return {holder.key: f"{holder.name} {holder.why_not}" for holder in holders if holder.why_not}

    async def _find(self, name: str, digest: str) -> Found:
        control = self._node.parts.control
        peers = [Address(peer.card.device.name, peer.control) for peer in self._node.members.alive()]
        answers = await asyncio.gather(*(find(control, peer, name, digest) for peer in peers))
        return Found(
            tuple(one for one in answers if isinstance(one, Holder)),
            tuple(one for one in answers if isinstance(one, str)),
        )

    # -- headers -----------------------------------------------------------------------------------------

    async def _outline(self, name: str, digest: str, holders: Sequence[Holder]) -> Partial:
        failures: list[str] = []
        for holder in holders:
            others = [one for one in holders if one is not holder]
            try:
                outline = await self._on_disk(lambda holder=holder: Outline(self.store.folder, holder.held.files))
                try:
                    await self._fill(outline, holder, others)
                    await self._on_disk(lambda outline=outline: outline.finish(digest, name))
                finally:
                    await self._on_disk(outline.discard)
                partial = await self._on_disk(lambda: self.store.partial(digest))
                if partial is not None:
                    return partial
            except UnsupportedModel:
                raise
            except (CorruptModel, Refused, Busy) as exc:
                failures.append(f"{holder.name}: {exc}")
        raise CorruptModel(f"no node gave a sound header of {name}. {'; '.join(failures)}")

    async def _fill(self, outline: Outline, holder: Holder, others: Sequence[Holder]) -> None:
        files = holder.held.files
        for number, file in enumerate(files):
            sha256 = await self._copy(outline, holder, number, (0, file.header))
            if file.kind not in ("gguf", "safetensors"):  # the digest says nothing of these
                await self._witnessed(outline, holder, others, number, (0, file.size), sha256)
        for number in range(len(files)):
            samples = await self._on_disk(lambda number=number: outline.samples(number))
            for ranges in in_batches(samples):
                data, at = await holder.read(number, ranges), 0
                for start, end in ranges:
                    piece = data[at : at + end - start]
                    await self._on_disk(lambda n=number, start=start, piece=piece: outline.write(n, start, piece))
                    at += len(piece)
            for table in await self._on_disk(lambda number=number: outline.tables(number)):
                sha256 = await self._copy(outline, holder, number, table)
                await self._witnessed(outline, holder, others, number, table, sha256)

    async def _copy(self, outline: Outline, holder: Holder, number: int, wanted: Range) -> bytes:
        """Bring bytes of a file; returns their SHA-256."""
        digest, at = hashlib.sha256(), wanted[0]
        while at < wanted[1]:
            data = await holder.read(number, [(at, min(at + holder.chunk_bytes, wanted[1]))])
            digest.update(data)
            await self._on_disk(lambda at=at, data=data: outline.write(number, at, data))
            at += len(data)
        return digest.digest()

    async def _witnessed(
        self, outline: Outline, holder: Holder, others: Sequence[Holder], number: int, where: Range, sha256: bytes
    ) -> None:
        file = holder.held.files[number]
        # What lies beside the weights may be less or more at others, so that the numbers differ.
        alike = [one for one in others if number < len(one.held.files) and one.held.files[number].kind == file.kind]
        await agree(outline.paths[number].name, (number, *where), sha256, holder, alike[:WITNESSES])

    # -- the disk ----------------------------------------------------------------------------------------

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @contextlib.asynccontextmanager
    async def _locked(self, folder: Path, report: Report) -> AsyncGenerator[None]:
        """Of several that fill one folder, on this machine, one does at a time."""
        from filelock import FileLock, Timeout

        lock, deadline = FileLock(f"{folder}.lock", thread_local=False), time.monotonic() + LOCK_DEADLINE_S
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                report(0, 0, "another node of this machine fetches this model; waiting for it")
                if time.monotonic() > deadline:
                    raise ModelNotFound(
                        f"another process has been fetching into {folder} for {LOCK_DEADLINE_S:g} s. End it."
                    ) from None
                await asyncio.sleep(LOCK_LOOK_S)
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        """Stop writing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def in_batches(ranges: Sequence[Range]) -> list[list[Range]]:
    """Ranges in as many questions as they need."""
    batches: list[list[Range]] = []
    size = 0
    for start, end in ranges:
        size += end - start
        if not batches or size > MAX_READ_BYTES or len(batches[-1]) >= MAX_RANGES:
            batches.append([])
            size = end - start
        batches[-1].append((start, end))
    return batches
