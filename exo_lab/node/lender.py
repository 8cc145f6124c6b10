"""What a node gives others of its models' files: which bytes it has, those bytes, and their checksums.

Lives on the control loop; files are read by two threads of its own. How much is in work at once is bounded, so that a
node that lends goes on computing and answering pings. Only what belongs to a model that this node may open is given:
headers, tensors, and the few files beside them that a model needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from exo_lab.core.errors import FrameError, ModelNotFound, NodeError
from exo_lab.core.weights_messages import (
    MAX_READ_BYTES,
    CheckWeights,
    FindWeights,
    ReadWeights,
    WeightBytes,
    WeightsChecksum,
    WeightsHeld,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.weights_messages import Range, WeightsMessage, WeightsQuestion
    from exo_lab.models.image import Image
    from exo_lab.models.store import ModelStore
    from exo_lab.node.model_names import ModelNames

MAX_QUESTIONS = 24  # in work or waiting, of all peers together; a node answers 64 of all kinds
THREADS = 2
HASH_CHUNK_BYTES = 1 << 20
MAX_CHECKSUMS = 1 << 16

T = TypeVar("T")


class Lender:
    """See the module.

    Args:
        node: this node's id, for errors.
        store: what is on this machine.
        names: which ones peers may name.
    """

    def __init__(self, node: str, store: ModelStore, names: ModelNames) -> None:
        self._node, self._store, self._names = node, store, names
        self._questions = 0
        self._images: dict[str, Image] = {}  # by digest: whole models that somebody asked for
        self._checksums: dict[tuple[str, int, Range, int], bytes] = {}
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"exo-lend-{node}")
        self.bytes_lent = 0  # that were asked for and read

    async def answer(self, question: WeightsQuestion) -> WeightsMessage:
        """The answer to a question.

        Raises:
            ModelNotFound: there is no such model here, or the bytes are not.
            FrameError: what is asked for cannot be.
            NodeError: too many ask at once.
        """
        match question:
            case FindWeights(name=name, digest=digest):
                return await self._bounded(lambda: self._find(name, digest))
            case ReadWeights(digest=digest, file=file, ranges=ranges):
                return await self._bounded(lambda: self._read(digest, file, ranges))
            case CheckWeights(digest=digest, file=file, range=wanted):
                return await self._bounded(lambda: self._check(digest, file, wanted))

    async def _bounded(self, work: Callable[[], T]) -> T:
        if self._questions >= MAX_QUESTIONS:
            raise NodeError(f"node {self._node} gives weights to {MAX_QUESTIONS} others already; ask again in a moment")
        self._questions += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._questions -= 1

    # -- in the pool -------------------------------------------------------------------------------------

    def _find(self, name: str, digest: str) -> WeightsHeld:
        try:
            name = self._names.permitted(name)
        except ModelNotFound:
            if not digest:
                raise
            name = ""  # a name of somebody else's machine; the digest says it as well
        image = self._store.held(name, digest)
        if image is None:
            raise self._no_model(digest)
        return image.described()

    def _image(self, digest: str) -> Image:
        image = self._images.get(digest)
        if image is None or not image.unchanged():
            image = self._images[digest] = self._whole_or_part(digest)
        return image

    def _whole_or_part(self, digest: str) -> Image:
        image = self._store.held("", digest)
        if image is None:
            raise self._no_model(digest)
        return image

    def _no_model(self, digest: str) -> ModelNotFound:
        return ModelNotFound(f"node {self._node} has nothing of that model (digest {digest[:12] or 'any'})")

    def _read(self, digest: str, file: int, ranges: tuple[Range, ...]) -> WeightBytes:
        if not ranges or sum(end - start for start, end in ranges) > MAX_READ_BYTES:
            raise FrameError(f"1 to {MAX_READ_BYTES} bytes of weights are given at once")
        image = self._checked(digest, file, ranges)
        data = image.read(file, ranges)
        self.bytes_lent += len(data)
        return WeightBytes(data=data)

    def _checked(self, digest: str, file: int, ranges: tuple[Range, ...]) -> Image:
        """The model, if it has these bytes."""
        image = self._image(digest)
        if file >= len(image.files):
            raise FrameError(f"the model has {len(image.files)} files, not {file + 1}")
        for wanted in ranges:
            if not image.may_read(file, wanted):
                raise ModelNotFound(f"node {self._node} has no bytes {wanted[0]} to {wanted[1]} of file {file}")
        return image

    def _check(self, digest: str, file: int, wanted: Range) -> WeightsChecksum:
        image = self._checked(digest, file, (wanted,))
        listed = image.files[file]
        if wanted not in listed.tensors and (listed.tensors or wanted != (0, listed.size)):
            raise FrameError("checksums are given of tensors, and of whole files without tensors")
        key = (digest, file, wanted, listed.path.stat().st_mtime_ns)
        found = self._checksums.get(key)
        if found is None:
            if len(self._checksums) >= MAX_CHECKSUMS:
                self._checksums.clear()
            found = self._checksums[key] = self._hash(image, file, wanted)
        return WeightsChecksum(sha256=found)

    def _hash(self, image: Image, file: int, wanted: Range) -> bytes:
        digest = hashlib.sha256()
        for at in range(wanted[0], wanted[1], HASH_CHUNK_BYTES):
            if self._closing.is_set():
                raise NodeError(f"node {self._node} is leaving the cluster")
            digest.update(image.read(file, [(at, min(at + HASH_CHUNK_BYTES, wanted[1]))]))
        return digest.digest()

    def close(self) -> None:
        """Stop taking questions. A read in progress ends soon."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
