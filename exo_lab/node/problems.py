"""What is wrong with a node now, as sentences for people, by subject. Bounded, whatever peers do."""

from __future__ import annotations

MAX_PROBLEMS = 64
MAX_CHARACTERS = 1000


class Problems:
    """Written by the control thread; any thread may read, since every change is a new dictionary."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def note(self, subject: str, text: str) -> None:
        """Something is wrong with `subject`. Of too many, the oldest is dropped."""
        kept = {name: old for name, old in self._texts.items() if name != subject}
        while len(kept) >= MAX_PROBLEMS:
            del kept[next(iter(kept))]
        self._texts = {**kept, subject: text[:MAX_CHARACTERS]}

    def settle(self, subject: str) -> None:
        """It is well again. Idempotent."""
        if subject in self._texts:
            self._texts = {name: text for name, text in self._texts.items() if name != subject}

    def values(self) -> tuple[str, ...]:
        """The sentences, oldest first."""
        return tuple(self._texts.values())

    def about(self, subject: str) -> str | None:
        """What is wrong with one subject; None if nothing is."""
        return self._texts.get(subject)
