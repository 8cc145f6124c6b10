"""What to do about a generation that lost a stage: pure decisions. `recovery` carries them out.

The requester owns prompt and tokens, so it can replay both on another plan. Sampling is keyed by (seed, position), and
a replay computes the same parts in the same sizes as before: so the tokens that follow are those that would have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import DoesNotFit, NodeError, NodeLost, PeerUnreachable, PlanError, StaleEpoch
from exo_lab.planning.choose import STRATEGIES, choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from exo_lab.core.errors import ExoError
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

MAX_TRIES = 6  # attempts at one request without a token between them
MAX_PLANS = 6  # plans that are tried in one recovery
FALLBACK = "ring-memory-weighted"  # where the lost plan's layers were given by hand


def is_recoverable(error: ExoError, tries: int) -> bool:
    """Was a node lost, or a plan, and is another attempt reasonable? A node that is only full is to be asked later."""
    return isinstance(error, NodeLost | StaleEpoch | PeerUnreachable) and tries < MAX_TRIES


def parts(prompt: Sequence[int], drawn: Sequence[int], chunk: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(position, tokens) of every step that brings a request to where it is.

    The prompt in chunks, each drawn token by itself: as they were computed the first time. A chunk and the same tokens
    one by one differ in the last bits, and now and then such a bit decides between two tokens.
    """
    for position in range(0, len(prompt), chunk):
        yield position, tuple(prompt[position : position + chunk])
    for offset, token in enumerate(drawn):
        yield len(prompt) + offset, (token,)


def is_whole(plan: Plan, alive: Set[str]) -> bool:
    """Is every stage of a plan there?"""
    return all(device in alive for device in plan.devices)


def may_go_on(lost: Plan, current: Plan, alive: Set[str], *, retry: bool) -> bool:
    """Can requests of a lost plan simply go on with the model's current one?

    `retry`: the plan itself may be tried once more, since a frame may have been lost and no node.
    """
    return is_whole(current, alive) and (current.rank > lost.rank or (retry and current.rank == lost.rank))


def may_retry(error: ExoError, tries: int) -> bool:
    """Could the same plan work, if all its nodes are there after all?"""
    return tries == 0 and not isinstance(error, StaleEpoch)


def candidates(lost: Plan, alive: Set[str], bad: Set[str], *, everybody: bool) -> tuple[str, ...]:
    """Who may hold layers now, without those who could not: who held some before, or `everybody` who is there.

    Nodes outside the plan were left out by the user or by the planner, so they are second choice.
    """
    before = tuple(device for device in lost.devices if device in alive and device not in bad)
    return before if before and not everybody else tuple(sorted(alive - bad))


def replan(lost: Plan, problem: Problem) -> Plan:
    """A plan by the lost one's strategy, for the devices of `problem`.

    Raises:
        PlanError: it cannot be planned; says what is short by how much.
    """
    strategy = lost.strategy if lost.strategy in STRATEGIES and lost.strategy != "manual" else FALLBACK
    return choose(problem, strategy)


def computing_alike(old: Plan, new: Plan) -> Plan:
    """The new plan, with prompts in pieces and hidden states rounded as in the old one: the same tokens follow."""
    return msgspec.structs.replace(new, roundings=old.roundings, chunk=old.chunk)


def gave_up(why: str, model: str, error: ExoError) -> ExoError:
    """What the user is told when it cannot go on."""
    kind = DoesNotFit if isinstance(error, PlanError) else NodeError
    return kind(f"{why}, and {model} cannot go on without it: {error}")


def waiting_notice(why: str) -> str:
    """While it is being worked on."""
    return f"{why}. Its layers are being given to others; the answer goes on in a moment."


def resumed_notice(why: str, names: Sequence[str], replayed: int, *, same: bool, alike: bool = True) -> str:
    """What was done about it; the time it took is added when the next token is there."""
    where = f"on the same plan ({', '.join(names)})" if same else f"on {', '.join(names)}"
    differs = "" if alike else " That plan rounds otherwise: the answer may differ from here on."
    return f"{why}. The answer went on {where}: {replayed} tokens were replayed.{differs}"
