"""A good order for many devices: local search with a lower bound, so that the gap is known. Pure and deterministic.

For one request the layers of a device cost the same wherever it stands in the ring, so which devices are used is mostly
settled by speed and memory, and their order by the hops (a travelling salesman's round trip). The search starts from
several such guesses, moves devices (swap, insert, reverse: 2-opt), and cuts each order exactly (`order_dp`) at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.order_dp import Cut, Tables, best_cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.planning.cost import Costs

MAX_ROUNDS = 40
MAX_CUTS = 6  # orders that are cut exactly


def search(costs: Costs, tables: Tables) -> Cut | None:
    """The best plan found; None if nothing fits."""
    best: Cut | None = None
    for chosen in _candidates(costs):
        for order in _rings(costs, chosen):
            found = best_cut(tables, order, every=False)
            if found is not None and (best is None or _rank(found) < _rank(best)):
                best = found
    return best


def _rank(cut: Cut) -> tuple[float, int, tuple[int, ...]]:
    return cut.value, len(cut.places), cut.places


def _candidates(costs: Costs) -> list[list[int]]:
    """Sets of devices worth trying: each fitting one alone, then the fastest first until it fits, and a few more."""
    layers, prefill = costs.config.n_layers, costs.problem.objective == "prefill"
    places = range(len(costs.devices))
    speed = {place: sum(costs.layer_s(place, prefill=prefill)) / layers for place in places}
    by_speed = sorted(places, key=lambda place: (speed[place], place))
    by_room = sorted(places, key=lambda place: (-costs.problem.room_bytes(costs.devices[place]), place))
    found: list[list[int]] = [[place] for place in by_speed if costs.fits(place, 0, layers)][:1]
    for order in (by_speed, by_room):
        size = _enough(costs, order)
        sizes = sorted({size, size + 1, size + 2, 2 * size, len(order)})
        found += [order[:count] for count in sizes if 0 < count <= len(order)]
    unique = dict.fromkeys(tuple(sorted(chosen)) for chosen in found)
    return [list(chosen) for chosen in unique][: 2 * MAX_CUTS]


def _enough(costs: Costs, order: Sequence[int]) -> int:
    """How many devices of the order are needed for the layers' memory."""
    needed = costs.memory_bytes(0, costs.config.n_layers)
    room = 0
    for count, place in enumerate(order, 1):
        room += costs.problem.room_bytes(costs.devices[place])
        if room >= needed:
            return count
    return len(order)


def _rings(costs: Costs, chosen: Sequence[int]) -> list[list[int]]:
    """Orders of a set of devices: the shortest ring found, begun at the places where that is good for the ends."""
    ring = _improved(costs, _nearest(costs, chosen))
    hop = [costs.hop_s(ring[i - 1], ring[i]) for i in range(len(ring))]
    # The ring may begin anywhere: after its longest hop, at its fastest device, and where it began.
    fastest = min(range(len(ring)), key=lambda i: (costs.stage_s(ring[i], 0, 1), ring[i]))
    starts = dict.fromkeys([max(range(len(ring)), key=lambda i: (hop[i], -i)), fastest, (fastest + 1) % len(ring), 0])
    return [ring[start:] + ring[:start] for start in starts]


def _nearest(costs: Costs, chosen: Sequence[int]) -> list[int]:
    left = sorted(chosen)
    ring = [left.pop(0)]
    while left:
        following = min(left, key=lambda place: (costs.hop_s(ring[-1], place), place))
        left.remove(following)
        ring.append(following)
    return ring


def _improved(costs: Costs, ring: list[int]) -> list[int]:
    """2-opt (Croes 1958): reverse a part of the ring while that makes it shorter."""
    count = len(ring)
    for _ in range(MAX_ROUNDS if count > 3 else 0):
        gain, move = 1e-12, (0, 0)
        for i in range(count - 1):
            for j in range(i + 2, count if i else count - 1):
                a, b, c, d = ring[i], ring[i + 1], ring[j], ring[(j + 1) % count]
                saved = costs.hop_s(a, b) + costs.hop_s(c, d) - costs.hop_s(a, c) - costs.hop_s(b, d)
                if saved > gain:
                    gain, move = saved, (i + 1, j)
        if move == (0, 0):
            break
        start, end = move
        ring[start : end + 1] = reversed(ring[start : end + 1])
    return ring


def lower_bound(costs: Costs) -> float:
    """No plan is better: layers spread over the fastest devices' memory with no hop, no overhead but one, no order.

    Decode and prefill: the sum of the layers at their fastest plus the cheapest head. Throughput: the capped
    water-filling level, where every device works all the time.
    """
    objective, layers = costs.problem.objective, costs.config.n_layers
    prefill = objective == "prefill"
    least = min(costs.layer_memory) or 1
    caps = [
        layers if costs.problem.force else min(layers, int(costs.problem.room_bytes(device) // least))
        for device in costs.devices
    ]
    fastest = [min(costs.layer_s(place, prefill=prefill)) for place in range(len(costs.devices))]
    heads = [
        costs.stage_s(place, layers - 1, layers, prefill=prefill) - costs.layer_s(place, prefill=prefill)[-1]
        for place in range(len(costs.devices))
    ]
    if objective == "throughput":
        low, high = 0.0, layers * max(fastest)
        for _ in range(100):
            level = (low + high) / 2
            held = sum(min(cap, level / one if one else layers) for cap, one in zip(caps, fastest, strict=True))
            low, high = (level, high) if held < layers else (low, level)
        return low
    left, total = layers, min(heads)
    for place in sorted(range(len(fastest)), key=lambda place: fastest[place]):
        count = min(left, caps[place])
        total, left = total + count * fastest[place], left - count
    return total
