"""How long a node waits for what. In one place, so that a test can have them all short."""

from __future__ import annotations

import msgspec

from exo_lab.node.membership import BUSY_LOST_AFTER_S, LOST_AFTER_S


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds.

    `lost_after_s`: silence that means loss; `busy_lost_after_s` where it is known to be only busy. `confirm_s`: how
    long a peer whose connection broke has to answer one last ping. `stalled_after_s`: an answer that stops for so
    long without a reason is replayed. `sweep_every_s`: how often deadlines of requests are looked at.
    `greet_again_s`: pause before an address that did not answer is tried once more. `send_timeout_s`: a node that
    takes no frame for so long cannot be reached. `idle_session_s`: a session that nothing comes for is freed.
    `retire_after_s`: the shard of a replaced plan still takes requests for so long. `collect_s`: what a node waits
    for its neighbours' topology, for each hop that they may still go. `measure_every_s`: between two echoes on each
    link. `restart_s`: pause before a task that broke is started again. `heartbeat_s`: what the others are told, so that
    they ping this node that seldom; 0: as everybody.
    """

    hello_timeout_s: float = 3.0
    greet_again_s: float = 2.0
    ping_every_s: float = 0.4
    ping_timeout_s: float = 0.8
    confirm_s: float = 0.3
    lost_after_s: float = LOST_AFTER_S
    busy_lost_after_s: float = BUSY_LOST_AFTER_S
    sweep_every_s: float = 0.25
    stalled_after_s: float = 10.0
    send_timeout_s: float = 5.0
    idle_session_s: float = 600.0
    retire_after_s: float = 2.0
    collect_s: float = 1.0
    measure_every_s: float = 0.5
    leave_timeout_s: float = 0.5
    close_timeout_s: float = 5.0
    restart_s: float = 2.0
    heartbeat_s: float = 0.0


# For a battery: a seventh of the pings both ways, and a thirtieth of the measurements of links.
LOW_POWER = Timing(ping_every_s=3.0, heartbeat_s=3.0, greet_again_s=10.0, measure_every_s=15.0, sweep_every_s=1.0)
