"""Whether guesses pay, found out while an answer is made. Pure: told what happened, asked how many to make.

A step with guesses takes longer than one without and may yield several tokens. How often guesses are right is seen
without making any: what would have been guessed is compared with what was drawn. What a step costs with so many of them
is measured by making them, one at first, and now and then again where they did not pay.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import TYPE_CHECKING

from exo_lab.engines.lookup import Lookup

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 7  # guesses in a step where nobody said how many
MARGIN = 1.05  # tokens a second with guesses must exceed those without by this factor: both are estimates
FADES = 0.9  # weight of what was seen, for each new observation
ENOUGH = 4  # steps without guesses before any are made
PLAIN = 32  # of the latest steps without guesses, the median counts
SAMPLES = 8  # and of those with so many
ALONE, TOGETHER = 1.0, 0.2  # of computing a step, what one more position adds: computed by itself, or along with others
TRIALS = 0.01  # of the time, at most, is spent on finding out whether guesses that did not pay do now


class Costs:
    """What steps through one plan's ring take with guesses, against those without.

    Args:
        together: do the engines compute several positions in one pass?
    """

    def __init__(self, *, together: bool) -> None:
        self._for_each = TOGETHER if together else ALONE
        self._plain: deque[tuple[float, float]] = deque(maxlen=PLAIN)
        self._ratios: dict[int, deque[float]] = {}

    def took(self, guesses: int, trip_s: float, compute_s: float) -> None:
        """A step went around in `trip_s`, of which stages computed for `compute_s`."""
        if not guesses:
            self._plain.append((trip_s, compute_s))
        elif self.known and (plain_s := self.plain_s) > 0:
            self._ratios.setdefault(guesses, deque(maxlen=SAMPLES)).append(trip_s / plain_s)

    @property
    def known(self) -> bool:
        """Were there enough steps without guesses to compare with?"""
        return len(self._plain) >= ENOUGH

    @property
    def plain_s(self) -> float:
        """A step without guesses."""
        return statistics.median(trip_s for trip_s, _ in self._plain)

    @property
    def reach(self) -> int:
        """How many guesses may be tried: not many more than were measured."""
        return min(MOST, 2 * max(self._ratios, default=0) + 1)

    def ratio(self, guesses: int) -> float:
        """A step with so many, over one without; from the nearest number that was measured."""
        if not guesses:
            return 1.0
        if self._ratios:
            near = min(self._ratios, key=lambda number: abs(number - guesses))
            slope = (statistics.median(self._ratios[near]) - 1) / near
        else:
            slope = self._for_each * statistics.median(compute_s / trip_s for trip_s, compute_s in self._plain)
        return 1 + max(0.0, slope) * guesses


class Acceptance:
    """How often the first guess is right, the first two, the first three ... What is new counts more.

    Args:
        hopes: that a guess is right, before anything was seen; 0 where seeing costs nothing.
    """

    def __init__(self, hopes: float = 0.0) -> None:
        self._right = [hopes**number for number in range(1, MOST + 1)]
        self._seen = [1.0] * MOST

    def saw(self, number: int, right: bool) -> None:
        """The first `number` guesses were all right, or not."""
        self._right[number - 1] = self._right[number - 1] * FADES + right
        self._seen[number - 1] = self._seen[number - 1] * FADES + 1

    @property
    def chances(self) -> tuple[float, ...]:
        """That the first 1, 2, 3 ... are all right."""
        return tuple(right / seen for right, seen in zip(self._right, self._seen, strict=True))


def best(chances: Sequence[float], costs: Costs, most: int, margin: float = MARGIN) -> int:
    """How many guesses give the most tokens a second (Leviathan et al. 2023, section 3.3); 0 if none gives `margin`."""
    found, gain, tokens = 0, margin, 1.0
    for guesses in range(1, min(most, costs.reach) + 1):
        tokens += chances[guesses - 1]
        if tokens / costs.ratio(guesses) > gain:
            found, gain = guesses, tokens / costs.ratio(guesses)
    return found


class Worth:
    """How many guesses are worth making for one request. `acceptance` and `costs` are told what happened."""

    def __init__(self, acceptance: Acceptance, costs: Costs) -> None:
        self.acceptance, self.costs = acceptance, costs
        self._since = 0  # steps in which something could have been tried

    def most(self, available: int) -> int:
        """The number to make now, of so many that there are."""
        if not self.costs.known:
            return 0
        chances = self.acceptance.chances
        found = best(chances, self.costs, available)
        self._since += 1
        if not found and 1 + chances[0] > MARGIN and self._since * TRIALS > self.costs.ratio(1) - 1:
            found = 1
        if found:
            self._since = 0
        return found


class Guesser:
    """Guesses for one request, by look-up.

    Args:
        history: its tokens so far.
        fixed: so many at most in every step; None: as many as pay.
        costs: of the ring that it goes around.
    """

    def __init__(self, history: Sequence[int], fixed: int | None, costs: Costs) -> None:
        self._lookup, self._fixed, self._worth = Lookup(history), fixed, Worth(Acceptance(), costs)
        self._shadow: tuple[int, ...] = ()  # what would have been guessed, and how much of it was right so far
        self._matched = 0

    def drew(self, token: int) -> None:
        """The next token."""
        if self._shadow:
            self._compare(token)
        self._lookup.add(token)
        if not self._shadow and self._fixed is None:
            self._shadow, self._matched = self._lookup.guess(MOST), 0

    def _compare(self, token: int) -> None:
        self._matched += 1
        right = token == self._shadow[self._matched - 1]
        for number in range(self._matched, self._matched + 1 if right else len(self._shadow) + 1):
            self._worth.acceptance.saw(number, right)
        if not right or self._matched == len(self._shadow):
            self._shadow = ()

    def guess(self, most: int, *, alone: bool) -> tuple[int, ...]:
        """Guesses of what comes next, at most `most`.

        Where it is not said how many, none are made while other requests share the ring: steps without guesses are
        computed together, and that gives more.
        """
        if self._fixed is not None:
            return self._lookup.guess(min(most, self._fixed))
        guess = self._lookup.guess(min(most, MOST)) if alone else ()
        return guess[: self._worth.most(len(guess))] if guess else ()
