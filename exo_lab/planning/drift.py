"""Is it time to move layers, because stages take otherwise than when they were shared out? Pure; time is handed in.

Three things keep layers from flapping: the predicted gain must beat a margin and what the move costs, it must do so at
every look for a while without a break, and each move makes the next one wait twice as long, until it is long ago. What
the best plan could give more than the user's strategy from the start is no reason: only what has changed since counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.plan import Plan

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig

GAIN = 1.15  # predicted tokens a second, new over old: noise of 7 % in each figure does not reach it
SUSTAIN_S = 5.0  # for so long without a break
HORIZON_S = 60.0  # over which a move must have paid: nobody knows how long a slow node stays slow
PAYS = 2.0  # tokens won over the horizon, at least so many times those that the move costs
REMEMBER_S = 600.0  # a move makes the next one wait longer for so long
LONGEST_S = 300.0  # and no longer than that
MOVE_S = 0.5  # of any move: orders, the cut-over, caches that go along
LOAD_BYTES_PER_S = 100e6  # until loads were timed: reading and unpacking weights


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The best plan there is now. Tokens a second, of the present one and of this one, are predicted.

    `move_s`: what getting there is predicted to take; 0 if it is the present one.
    """

    plan: Plan
    before: float
    after: float
    move_s: float

    @property
    def won(self) -> float:
        """Tokens over the horizon, those that the move costs taken off: nothing is counted as said meanwhile."""
        return (self.after - self.before) * HORIZON_S - self.before * self.move_s


class Drift(msgspec.Struct, frozen=True):
    """What is remembered of one model.

    `since`: when an offer began to be worth it. `moves`: when layers moved. `gap`: the least by which the best plan was
    ever better than the present one, as a factor; None before the first look at it.
    """

    since: float | None = None
    moves: tuple[float, ...] = ()
    gap: float | None = None


def worth(offer: Offer, gap: float = 1.0) -> bool:
    """Does the gain beat what it was from the start by the margin, and the cost of moving?"""
    if offer.after < GAIN * gap * offer.before:
        return False
    return (offer.after - offer.before) * HORIZON_S >= PAYS * offer.before * offer.move_s


def patience_s(drift: Drift, now: float) -> float:
    """For how long an offer must be worth it now."""
    lately = sum(now - at < REMEMBER_S for at in drift.moves)
    return min(SUSTAIN_S * 2**lately, LONGEST_S)


def step(drift: Drift, offer: Offer, now: float) -> Drift:
    """After a look."""
    better = offer.after / offer.before
    gap = max(1.0, better if drift.gap is None else min(drift.gap, better))
    if not worth(offer, gap):
        return msgspec.structs.replace(drift, since=None, gap=gap)
    return msgspec.structs.replace(drift, since=now if drift.since is None else drift.since, gap=gap)


def due(drift: Drift, now: float) -> bool:
    """Has it been worth it for long enough?"""
    return drift.since is not None and now - drift.since >= patience_s(drift, now)


def moved(drift: Drift, now: float) -> Drift:
    """Layers moved, or it was tried."""
    lately = tuple(at for at in drift.moves if now - at < REMEMBER_S)
    return msgspec.structs.replace(drift, since=None, moves=(*lately, now))


def replaced(drift: Drift) -> Drift:
    """The plan is another one, or it cannot be judged now: what was seen of it does not count."""
    return Drift(moves=drift.moves)


def move_s(config: ModelConfig, old: Plan, new: Plan, bytes_per_s: float = LOAD_BYTES_PER_S) -> float:
    """What a move takes: nodes load at the same time, and one whose layers stay what they are loads nothing."""
    held = dict(zip(old.devices, old.shards, strict=True))
    sizes = [
        config.shard_bytes(shard.start, shard.end)
        for device, shard in zip(new.devices, new.shards, strict=True)
        if held.get(device) != shard
    ]
    return MOVE_S + max(sizes, default=0) / bytes_per_s
