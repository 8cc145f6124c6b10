"""What runs on a host of `hosts.py`: a discovery, or a whole node. Prints what it sees, a JSON object a line.

    host.py look udp|mdns NAME TAG       a discovery alone, quick to forget
    host.py node NAME WAY,...            a node with --lan; the token is in EXO_LAB_TOKEN
    host.py plan NAME WAY SLOW           a node that is slower by a factor and has too little memory for MODEL; what it
                                         measured of its links, and how it would cut the model

Ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.messages import NodeCard
from exo_lab.transport.keys import Identity

LOOK_EVERY_S = 0.2
MEASURE_EVERY_S = 0.1  # five times as often as usual: a test waits for it
MODEL, MEMORY_BYTES = ("Llama 3.2 1B", "Q8_0"), 1 << 30  # two nodes hold it, one does not


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def ended() -> None:
    sys.stdin.read()


async def look(way: str, name: str, tag: str) -> None:
    from exo_lab.discovery.mdns import MdnsDiscovery
    from exo_lab.discovery.services import ZeroconfServices
    from exo_lab.discovery.udp import UdpDiscovery

    identity = Identity.create()
    card = NodeCard(device=Device(id=identity.device_id, name=name), control="tcp://10.0.0.0:4000", data="", version=1)
    if way == "udp":
        discovery = UdpDiscovery(identity, cluster_tag=tag, cluster_key=bytes(32), every_s=0.3, ttl_s=1.5)
    else:
        discovery = MdnsDiscovery(
            identity, cluster_tag=tag, cluster_key=bytes(32), every_s=0.3, services=ZeroconfServices(ttl_s=3)
        )
    ending = asyncio.create_task(asyncio.to_thread(ended))
    watching = discovery.watch(card)
    try:
        following = asyncio.ensure_future(anext(watching))
        found, before = (), {}
        while not ending.done():
            # Strangers are counted without a word to the reader, so it looks again after a moment.
            await asyncio.wait({ending, following}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                found = following.result()
                following = asyncio.ensure_future(anext(watching))
            now = {
                "found": {one.name: one.address for one in found},
                "kinds": sorted({one.kind for one in found}),
                "problems": discovery.problems,
                "others": sorted(discovery.stats().other_clusters.values()),
            }
            if now != before:
                say(**now)
                before = now
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await watching.aclose()


def node(name: str, ways: str) -> None:
    from exo_lab.cluster import connect

    changed, over = threading.Event(), threading.Event()
    threading.Thread(target=lambda: (ended(), over.set(), changed.set()), daemon=True).start()
    with connect(name, lan=True, discovery=ways.split(","), engine="numpy") as cluster:
        cluster.on_change(lambda what: changed.set())
        before: dict[str, object] = {}
        while not over.is_set():
            status = cluster.status()
            now: dict[str, object] = {
                "nodes": {one.device.name: one.address for one in status.nodes if one.liveness == "alive"},
                "refused": status.refused,
                "problems": status.problems,
            }
            if now != before:
                say(**now)
                before = now
            changed.wait(LOOK_EVERY_S)
            changed.clear()


def plan(name: str, way: str, slow: float) -> None:
    from exo_lab.cluster import connect
    from exo_lab.cluster.planning import Wish, problem_of
    from exo_lab.core.errors import PlanError
    from exo_lab.core.plan import plan_from_counts
    from exo_lab.planning.choose import choose
    from exo_lab.planning.cost import predict
    from exo_lab.planning.known_models import config_of

    over, config = threading.Event(), config_of(*MODEL)
    threading.Thread(target=lambda: (ended(), over.set()), daemon=True).start()
    with connect(name, lan=True, discovery=[way], engine="numpy", memory=MEMORY_BYTES, slow=slow) as cluster:
        cluster.node.timing = msgspec.structs.replace(cluster.node.timing, measure_every_s=MEASURE_EVERY_S)
        while not over.wait(LOOK_EVERY_S):
            problem = problem_of(cluster.node, config, Wish(strategy="optimal", context=512, engine="torch"))
            names = {device.id: device.name for device in problem.devices}
            ids = {name: device for device, name in names.items()}
            said: dict[str, object] = {"links": {}, "hops": {}, "plan": []}
            for link in problem.topology.links:
                other = link.b if link.a == cluster.id else link.a
                said["links"][names[other]] = (link.latency_s, link.bandwidth_bytes_per_s)
                halves = plan_from_counts(MODEL[0], (ids[name], other), (config.n_layers // 2,) * 2)
                said["hops"][names[other]] = predict(problem, halves).hop_s
            with contextlib.suppress(PlanError):  # while it is alone, the model does not fit
                said["plan"] = sorted(names[device] for device in choose(problem, "optimal").devices)
            say(**said)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["look", way, name, tag]:
            asyncio.run(look(way, name, tag))
        case ["node", name, ways]:
            node(name, ways)
        case ["plan", name, way, slow]:
            plan(name, way, float(slow))
        case _:
            sys.exit(__doc__)
