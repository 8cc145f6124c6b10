"""The models of this machine, whole or in part, by name and by digest. Never asks the network.

A part that other nodes gave lies in a folder of its own, by digest: two models of one name never mix.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from exo_lab.core.errors import ModelError
from exo_lab.models.image import image_of
from exo_lab.models.locate import cache_folder, locate
from exo_lab.models.open import open_file, open_tokenizer
from exo_lab.models.partial import Partial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exo_lab.core.weights import WeightSource
    from exo_lab.models.image import Image
    from exo_lab.models.tokenizer import Tokenizer

FOLDER = "peers"
MAX_KNOWN = 256
_DIGEST = re.compile(r"[0-9a-f]{64}")


def find_here(name: str) -> Path | None:
    """Where a model of that name is on this machine; None if it is not."""
    try:
        return locate(name, offline=True)
    except ModelError:
        return None


class ModelStore:
    """See the module. Any thread.

    Args:
        folder: of the parts that other nodes gave; `peers` in the cache folder if None.
        find: where a model of a name is on this machine, or None.
    """

    def __init__(self, folder: Path | None = None, find: Callable[[str], Path | None] = find_here) -> None:
        self.folder, self._find = folder or cache_folder() / FOLDER, find
        self._images: dict[Path, Image] = {}  # by where they lie
        self._partials: dict[str, Partial] = {}
        self._lock = threading.RLock()

    def whole(self, name: str, digest: str = "") -> Image | None:
        """A model that is here as a whole, by the name that it is called here, or else, with a digest, by any."""
        path = self._find(name) if name else None
        image = None if path is None else self._image(path, name)
        if image is not None and digest in ("", image.digest):
            return image
        with self._lock:
            known = [(path, one) for path, one in self._images.items() if digest and one.digest == digest]
        return next((image for path, one in known if (image := self._image(path, one.digest[:12])) == one), None)

    def held(self, name: str, digest: str = "") -> Image | None:
        """What is here of a model, whole or in part."""
        image = self.whole(name, digest)
        if image is None and (partial := self.partial(digest)) is not None:
            return partial.image()
        return image

    def partial(self, digest: str) -> Partial | None:
        """What other nodes gave of a model; None if nothing, or nothing that can be used."""
        if not _DIGEST.fullmatch(digest):
            return None
        with self._lock:
            found = self._partials.get(digest)
            if found is None and (self.folder / digest).is_dir():
                found = self._partials[digest] = Partial(self.folder / digest)
            return found

    def open(self, name: str, digest: str, called: str = "") -> WeightSource | None:
        """The weights with that digest, or what is here of them; None if there is nothing.

        Args:
            name: to look it up; may be empty.
            digest: of the weights.
            called: what the model is called, if it may not be looked up as that.
        """
        image = self.whole(name, digest)
        if image is not None:
            return open_file(main_of(image), called or name)
        partial = self.partial(digest)
        return None if partial is None else partial.open(called or name)

    def tokenizer(self, name: str, digest: str, called: str = "") -> Tokenizer | None:
        """The tokenizer of the model with that digest; None if it is not here. Arguments as `open`."""
        image = self.held(name, digest)
        return None if image is None else open_tokenizer(called or name, main_of(image))

    def _image(self, path: Path, name: str) -> Image | None:
        """The whole model at a place, looked at again when it has changed; None if it is none."""
        with self._lock:
            known = self._images.pop(path, None)
            try:
                image = known if known is not None and known.unchanged() else image_of(path, name)
            except (ModelError, OSError):
                return None
            while len(self._images) >= MAX_KNOWN:
                del self._images[next(iter(self._images))]
            self._images[path] = image
            return image


def main_of(image: Image) -> Path:
    """What to open of an image: a GGUF file, a folder, or the one file of weights that was named in a folder."""
    first, *others = [file for file in image.files if file.kind in ("gguf", "safetensors")]
    return first.path if not others else first.path.parent
