"""Who was heard announcing, as a pure function: (hearing, announcement) -> hearing. No clock, no sockets.

Time comes in as seconds of one monotonic clock, so a wall clock that jumps changes nothing. Signatures were checked
before. Repetitions are told from news by the sequence that a run's datagrams carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.discovery.announcement import Refused
from exo_lab.discovery.base import Found

if TYPE_CHECKING:
    from exo_lab.discovery.announcement import Announcement

MAX_NODES = 256
REMEMBER_S = 600.0  # how long a silent node's last sequence is kept, so that a recorded datagram does not revive it
TURNS_TO_BELIEVE = 3  # a late datagram of a node's former run is no second node


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One address of one node, and when it was last announced."""

    found: Found
    heard_at: float


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One life of one node: what its newest announcement says, its addresses, and at which sequence it said goodbye.

    `sequences` holds the last one of each address, `entries` those that were heard within the time to live.
    The `stray_` fields are another run that announces the same id, although it is older: `stray_turns` counts how often
    the two spoke alternately, which a node that was started anew never does with its former life.
    """

    run: int
    version: int
    sequence: int = -1
    name: str = ""
    controls: tuple[str, ...] = ()
    entries: dict[str, Entry] = {}
    sequences: dict[str, int] = {}
    heard_at: float = 0.0
    left: int = -1
    stray_run: int = 0
    stray_sequence: int = -1
    stray_turns: int = 0
    stray_at: float = 0.0
    stray_spoke_last: bool = False
    stray_host: str = ""


class Hearing(msgspec.Struct, frozen=True, kw_only=True):
    """Every node that was heard, by id."""

    runs: dict[str, Run] = {}


def is_news(hearing: Hearing, said: Announcement) -> bool:
    """Would hearing this change anything? Asked before the signature is checked, which costs more."""
    run = hearing.runs.get(said.device_id)
    if run is None:
        return True
    if said.run != run.run:
        return _succeeds(said, run) or said.run != run.stray_run or said.sequence > run.stray_sequence
    control = said.controls[0]
    if control not in run.controls and said.sequence < run.sequence:
        return False  # overtaken by a newer one, which says that this address is gone
    return said.sequence > max(run.left, run.sequences.get(control, -1))


def hear(hearing: Hearing, said: Announcement, found: Found, now: float, host: str) -> Hearing | Refused:
    """After a checked announcement.

    Args:
        hearing: before.
        said: what was announced.
        found: the sighting that it makes.
        now: seconds, monotonic.
        host: the address it came from.
    """
    if not is_news(hearing, said):
        return Refused("repeated")
    run = hearing.runs.get(said.device_id)
    if run is None and len(hearing.runs) >= MAX_NODES:
        silent = [node for node, one in hearing.runs.items() if not one.entries]
        if not silent:
            return Refused("too many nodes", f"{MAX_NODES} are known already")
        oldest = min(silent, key=lambda node: hearing.runs[node].heard_at)
        hearing = Hearing(runs={node: one for node, one in hearing.runs.items() if node != oldest})
    if run is None or (said.run != run.run and _succeeds(said, run)):
        run = Run(run=said.run, version=said.version)  # a new life, or the first; what a former one announced is over
    elif said.run != run.run:
        return _with(hearing, said.device_id, _strayed(run, said, now, host))
    if said.leaving:
        run = msgspec.structs.replace(run, entries={}, left=max(run.left, said.sequence))
    else:
        run = _announced(run, said, found, now)
    return _with(hearing, said.device_id, msgspec.structs.replace(run, heard_at=now, stray_spoke_last=False))


def _succeeds(said: Announcement, run: Run) -> bool:
    """Is it the next life of a node? Newer, or its former one is silent (the wall clock may have been set back)."""
    return said.version > run.version or not run.entries


def _announced(run: Run, said: Announcement, found: Found, now: float) -> Run:
    if said.sequence > run.sequence:
        # Addresses that it no longer has go at once, not when they expire.
        run = msgspec.structs.replace(
            run,
            sequence=said.sequence,
            version=said.version,
            name=said.name,
            controls=said.controls,
            entries={control: entry for control, entry in run.entries.items() if control in said.controls},
            sequences={control: last for control, last in run.sequences.items() if control in said.controls},
        )
    control = said.controls[0]
    return msgspec.structs.replace(
        run,
        entries={**run.entries, control: Entry(found=found, heard_at=now)},
        sequences={**run.sequences, control: said.sequence},
    )


def _strayed(run: Run, said: Announcement, now: float, host: str) -> Run:
    same = said.run == run.stray_run
    turn = not same or not run.stray_spoke_last
    return msgspec.structs.replace(
        run,
        stray_run=said.run,
        stray_sequence=said.sequence,
        stray_turns=(run.stray_turns if same else 0) + (1 if turn else 0),
        stray_at=now,
        stray_spoke_last=True,
        stray_host=host,
    )


def expire(hearing: Hearing, now: float, ttl_s: float) -> Hearing:
    """Without the addresses that were not announced for `ttl_s`, and without what need not be remembered any more."""
    runs: dict[str, Run] = {}
    for node, run in hearing.runs.items():
        if now >= run.heard_at + REMEMBER_S:
            continue
        entries = {control: one for control, one in run.entries.items() if now < one.heard_at + ttl_s}
        turns = run.stray_turns if now < run.stray_at + ttl_s else 0
        same = len(entries) == len(run.entries) and turns == run.stray_turns
        runs[node] = run if same else msgspec.structs.replace(run, entries=entries, stray_turns=turns)
    if len(runs) == len(hearing.runs) and all(runs[node] is hearing.runs[node] for node in runs):
        return hearing
    return Hearing(runs=runs)


def next_expiry(hearing: Hearing, ttl_s: float) -> float | None:
    """When an address will expire, on the clock of `now`; None if none is known."""
    times = [one.heard_at for run in hearing.runs.values() for one in run.entries.values()]
    return min(times) + ttl_s if times else None


def sightings(hearing: Hearing) -> tuple[Found, ...]:
    """What is seen now: every address of every node, in a fixed order."""
    return tuple(
        hearing.runs[node].entries[control].found
        for node in sorted(hearing.runs)
        for control in sorted(hearing.runs[node].entries)
    )


def duplicates(hearing: Hearing) -> tuple[str, ...]:
    """Sentences about ids that two running nodes use at once."""
    return tuple(
        f"two nodes use the id {node} ({run.name}), the second one from {run.stray_host}: an identity file was copied. "
        "Delete it on one of the two machines and start that node again."
        for node, run in sorted(hearing.runs.items())
        if run.stray_turns >= TURNS_TO_BELIEVE
    )


def _with(hearing: Hearing, node: str, run: Run) -> Hearing:
    return Hearing(runs={**hearing.runs, node: run})
