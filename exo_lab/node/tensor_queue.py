"""Who fetches which tensor next. Pure: no clock, no network; time comes in with the calls, in seconds.

The largest tensors go first, so that the end is even. Whoever is free takes the next one, so a fast peer gives more. At
the end, a free one takes over what a much slower one is still at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exo_lab.models.partial import Piece

JUDGED_AFTER_S = 0.5  # a peer is not called slow sooner
WORTH_S = 0.5  # what taking over must save, besides half the time
CHUNK_S = 0.1  # what one chunk may take: others' pings wait behind it
MIN_CHUNK_BYTES = 32 << 10


class Loan:
    """One tensor that is being fetched from one peer. `done` of its bytes have come."""

    __slots__ = ("done", "holder", "piece", "since_s")

    def __init__(self, piece: Piece, holder: str, since_s: float) -> None:
        self.piece, self.holder, self.since_s, self.done = piece, holder, since_s, 0

    def left_s(self, now_s: float) -> float:
        """How long it will still take, at the pace so far."""
        return (self.piece.nbytes - self.done) * (now_s - self.since_s) / max(1, self.done)


class TensorQueue:
    """The tensors of one fetch: waiting, being fetched, fetched."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.waiting = sorted(pieces, key=lambda piece: piece.nbytes, reverse=True)
        self.loans: dict[Piece, Loan] = {}
        self.total_count = len(self.waiting)
        self.total_bytes = sum(piece.nbytes for piece in self.waiting)
        self.fetched_count = self.fetched_bytes = 0

    @property
    def bytes_here(self) -> int:
        """That have come, those of tensors that are not complete included."""
        return self.fetched_bytes + sum(loan.done for loan in self.loans.values())

    def take(self, holder: str, has: Callable[[Piece], bool], now_s: float) -> Loan | None:
        """The next tensor that this peer has; None if none waits."""
        piece = next((piece for piece in self.waiting if has(piece)), None)
        if piece is None:
            return None
        self.waiting.remove(piece)
        loan = self.loans[piece] = Loan(piece, holder, now_s)
        return loan

    def take_over(self, holder: str, has: Callable[[Piece], bool], bytes_per_s: float, now_s: float) -> Loan | None:
        """The loan of another that this peer, at its pace, had better begin anew; None if that saves too little."""

        def saved_s(loan: Loan) -> float:
            mine_s, left_s = loan.piece.nbytes / max(1.0, bytes_per_s), loan.left_s(now_s)
            return left_s - mine_s if left_s > 2 * mine_s else 0.0

        slow = [
            loan
            for loan in self.loans.values()
            if loan.holder != holder and now_s - loan.since_s >= JUDGED_AFTER_S and has(loan.piece)
        ]
        worst = max(slow, key=saved_s, default=None)
        if worst is None or saved_s(worst) < WORTH_S:
            return None
        self.give_back(worst)
        return worst

    def give_back(self, loan: Loan) -> None:
        """It did not come; somebody else may take it. Of a loan that was taken over, nothing."""
        if self.loans.get(loan.piece) is loan:
            del self.loans[loan.piece]
            self.waiting.insert(0, loan.piece)

    def finish(self, loan: Loan) -> None:
        """It is here and was checked."""
        if self.loans.get(loan.piece) is loan:
            del self.loans[loan.piece]
            self.fetched_count += 1
            self.fetched_bytes += loan.piece.nbytes


def next_chunk(chunk_bytes: int, took_s: float, limit_bytes: int) -> int:
    """How much to ask for at once after a chunk that took so long."""
    if took_s > CHUNK_S:
        return max(MIN_CHUNK_BYTES, chunk_bytes // 2)
    return min(limit_bytes, chunk_bytes * 2) if took_s < CHUNK_S / 3 else chunk_bytes
