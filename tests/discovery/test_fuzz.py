"""Anybody may send datagrams: whatever they are, nothing breaks, memory stays flat, and a good node is still heard."""

from __future__ import annotations

import asyncio
import random
import socket

import msgspec
from lab import KEY, Signature, Watched, card_of, until
from test_announcement import announcement

from exo_lab.discovery.announcement import MAGIC, MAX_DATAGRAM_BYTES, PROOF_BYTES, SIGNATURE_BYTES, _proof, seal
from exo_lab.discovery.ear import Ear
from exo_lab.discovery.hearing import MAX_NODES
from exo_lab.discovery.interfaces import Interface
from exo_lab.discovery.lan import SocketLan
from exo_lab.discovery.mdns import MdnsDiscovery
from exo_lab.discovery.txt import to_text
from exo_lab.discovery.udp import UdpDiscovery
from tests.fuzzing import FRAMES, Steady, break_bytes, wrong

TAG, TTL_S = "0" * 16, 9.0
SIGNERS = [Signature(f"stranger{number}") for number in range(8)]
REASONS = {
    "too large", "not an announcement", "another datagram version", "malformed", "forged", "another cluster",
    "another protocol", "repeated", "too many nodes",
}  # fmt: skip
LARGEST_BYTES = 65_000  # that UDP carries
A_BATCH = 32  # datagrams that surely fit the kernel's buffer


def datagram(rng: random.Random) -> bytes:
    """One that is wrong in its outside, in its contents, or only in what it claims, which anybody can sign."""
    signer = rng.choice(SIGNERS)
    good = announcement(signer, name=f"n{rng.randrange(300)}", run=rng.randrange(3), sequence=rng.randrange(2**20))
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(MAX_DATAGRAM_BYTES + 100))
        case 1:
            return break_bytes(rng, seal(good, signer, KEY))
        case 2:  # its contents are bent, and nobody signed them; a member may have written it, or nobody
            bent = wrong(rng, msgspec.msgpack.encode(good))
            proof = _proof(bent, KEY) if rng.random() < 0.5 else bytes(PROOF_BYTES)
            return MAGIC + proof + bytes(SIGNATURE_BYTES) + bent
        case 3:  # genuine, of another cluster or another version
            return seal(msgspec.structs.replace(good, tag="f" * 16, protocol=rng.choice((1, 2**40))), signer, KEY)
        case 4:  # genuine, of somebody who knows the tag and not the token
            return seal(good, signer, KEY[::-1])
        case _:
            claimed = {"device_id": rng.choice(SIGNERS).device_id, "leaving": rng.random() < 0.5, "version": 2**62}
            return seal(msgspec.structs.replace(good, **claimed), signer, KEY)


def test_any_datagram_is_news_or_refused_with_a_reason_and_a_good_node_is_heard():
    rng, steady = random.Random(31), Steady()
    own = Signature("me")
    ear, now = Ear(own_id=own.device_id, own_run=1, tag=TAG, key=KEY, ttl_s=TTL_S), 0.0
    for number in range(FRAMES):
        steady.frame(number)
        now += 0.02  # seldom enough for all of them to be read
        ear.take(datagram(rng), f"10.9.{rng.randrange(256)}.{rng.randrange(256)}", (), now)
        if number % 100 == 0:
            ear.forget(now)
    steady.check()
    refused = ear.strangers.refused
    assert refused.keys() == REASONS - {"too many nodes"}
    assert ear.heard + sum(refused.values()) == FRAMES
    assert len(ear.sightings) <= MAX_NODES
    good = Signature("good")
    assert ear.take(seal(announcement(good), good, KEY), "10.0.0.1", (), now + 1).newcomer
    assert good.device_id in {one.device_id for one in ear.sightings}


def test_any_text_of_a_service_is_news_or_refused():
    rng, steady = random.Random(32), Steady()
    made = MdnsDiscovery(Signature("me"), cluster_tag=TAG, cluster_key=KEY)
    for number in range(FRAMES):
        steady.frame(number)
        text = to_text(datagram(rng))
        if text and rng.random() < 0.3:
            text[rng.choice(list(text))] = rng.choice(("", "=", "é", "\0", "A" * 255))
        made._take(f"instance{rng.randrange(64)}", text)
    steady.check()
    good = Signature("good")
    made._take("good", to_text(seal(announcement(good), good, KEY)))
    assert made._seen["good"].device_id == good.device_id


def test_over_a_real_socket_noise_does_not_keep_a_good_node_from_being_heard():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loopback = Interface(name="lo", address="127.0.0.1", prefix=8, broadcast="127.255.255.255", kind="ethernet")
    me, good = Signature("me"), Signature("good")

    async def check():
        rng, steady = random.Random(33), Steady()
        discovery = UdpDiscovery(me, cluster_tag=TAG, cluster_key=KEY, look=lambda: (loopback,), lan=SocketLan(port))
        watched = Watched(discovery, card_of(me, "me"))
        await until(lambda: discovery.stats().announced)

        def taken() -> int:
            stats = discovery.stats()
            return stats.heard + sum(stats.refused.values())

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(FRAMES):
                steady.frame(number)
                sender.sendto(datagram(rng)[:LARGEST_BYTES], ("127.0.0.1", port))
                if number % A_BATCH == 0:
                    await until(lambda sent=number + 1: taken() == sent)
            await until(lambda: taken() == FRAMES)
            steady.check()
            # What noise has used up of what this address may send comes back after a moment.
            said = (seal(announcement(good, name="good", sequence=number), good, KEY) for number in range(2**30, 2**31))
            await until(lambda: sender.sendto(next(said), ("127.0.0.1", port)) and "good" in watched.names)
        await watched.stop()

    asyncio.run(check())
