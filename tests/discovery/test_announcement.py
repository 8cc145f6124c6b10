"""Announcements are signed, small, and refused with a reason when anything is wrong with them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import KEY, Signature

from exo_lab.discovery.announcement import (
    MAGIC,
    MAX_CONTROLS,
    MAX_DATAGRAM_BYTES,
    MAX_NAME_CHARACTERS,
    PROOF_BYTES,
    Announcement,
    Refused,
    Sealed,
    check,
    check_member,
    endpoint,
    host_of,
    is_endpoint,
    port_of,
    printable,
    read,
    seal,
)
from exo_lab.transport.keys import Identity

ALICE, BOB = Signature("alice"), Signature("bob")


def announcement(who=ALICE, **fields):
    values = {
        "tag": "0" * 16,
        "device_id": who.device_id,
        "name": "alice",
        "controls": ("tcp://10.0.0.1:4000",),
        "public_key": who.public_key,
        "protocol": 1,
        "version": 7,
        "run": 5,
        "sequence": 1,
        **fields,
    }
    return Announcement(**values)


def test_what_was_sealed_is_read_and_genuine():
    said = announcement()
    sealed = read(seal(said, ALICE, KEY))
    assert isinstance(sealed, Sealed)
    assert sealed.announcement == said
    assert check(sealed) is check_member(sealed, KEY) is None


def test_a_nodes_own_identity_can_sign():
    identity = Identity.create()
    said = announcement(device_id=identity.device_id, public_key=identity.public_key)
    sealed = read(seal(said, identity, KEY))
    assert isinstance(sealed, Sealed)
    assert check(sealed) is None


def test_the_largest_announcement_fits_an_unfragmented_datagram():
    controls = tuple(f"tcp://[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ff{i:02x}]:65535" for i in range(MAX_CONTROLS))
    big = 2**62
    said = announcement(
        name="n" * MAX_NAME_CHARACTERS, controls=controls, protocol=big, version=big, run=big, sequence=big
    )
    assert len(seal(said, ALICE, KEY)) <= MAX_DATAGRAM_BYTES
    assert isinstance(read(seal(said, ALICE, KEY)), Sealed)


def test_another_signer_is_a_forger():
    forged = read(seal(announcement(), BOB, KEY))
    assert isinstance(forged, Sealed)
    assert check(forged).reason == "forged"


def test_an_id_that_belongs_to_another_key_is_a_forgery():
    forged = read(seal(announcement(public_key=BOB.public_key), BOB, KEY))
    assert isinstance(forged, Sealed)
    assert "does not belong to its key" in check(forged).detail


def test_a_signature_for_something_else_is_no_signature_for_an_announcement():
    body = msgspec.msgpack.encode(announcement())
    sealed = read(MAGIC + bytes(PROOF_BYTES) + ALICE.sign(body) + body)
    assert check(sealed).reason == "forged"


def test_who_knows_the_tag_and_not_the_key_proves_nothing():
    sealed = read(seal(announcement(), ALICE, KEY[::-1]))
    assert check(sealed) is None
    assert check_member(sealed, KEY) == Refused("forged", "alice names this cluster and has not its token")


def test_a_proof_for_one_announcement_proves_no_other():
    proved, other = seal(announcement(), ALICE, KEY), seal(announcement(sequence=2), ALICE, KEY)
    end = len(MAGIC) + PROOF_BYTES
    assert check_member(read(proved[:end] + other[end:]), KEY).reason == "forged"


@given(st.integers(0, 400), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position, flip):
    data = bytearray(seal(announcement(), ALICE, KEY))
    data[position % len(data)] ^= flip
    sealed = read(bytes(data))
    assert isinstance(sealed, Refused) or check(sealed) is not None or check_member(sealed, KEY) is not None


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_nothing_breaks(data):
    for datagram in (data, MAGIC + data, MAGIC + bytes(PROOF_BYTES + 64) + data):
        sealed = read(datagram)
        assert isinstance(sealed, Refused) or check(sealed) is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an announcement"),
        (b"exo-lab\x01" + bytes(100), "another datagram version"),
        (MAGIC, "malformed"),
        (MAGIC + bytes(MAX_DATAGRAM_BYTES), "too large"),
        (seal(announcement(controls=()), ALICE, KEY), "malformed"),
        (seal(announcement(controls=("tcp://10.0.0.1:1",) * (MAX_CONTROLS + 1)), ALICE, KEY), "malformed"),
        (seal(announcement(controls=("ipc:///tmp/x",)), ALICE, KEY), "malformed"),
        (seal(announcement(controls=("tcp://127.0.0.1:22",)), ALICE, KEY), "malformed"),
        (seal(announcement(name="x" * (MAX_NAME_CHARACTERS + 1)), ALICE, KEY), "malformed"),
        (seal(announcement(name="\x1b[2J"), ALICE, KEY), "malformed"),
        (seal(announcement(sequence=-1), ALICE, KEY), "malformed"),
    ],
)
def test_what_is_wrong_with_a_datagram_has_a_name(data, reason):
    refused = read(data)
    assert isinstance(refused, Refused)
    assert refused.reason == reason


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("tcp://10.0.0.1:1", True),
        ("tcp://[fe80::1]:65535", True),
        ("tcp://host.example:80", False),  # a name would be looked up, by everybody who heard it
        ("tcp://10.0.0.1:0", False),
        ("tcp://10.0.0.1:65536", False),
        ("tcp://0.0.0.0:5", False),
        ("tcp://239.1.1.1:5", False),
        ("tcp://999.1.1.1:5", False),
        ("tcp://[::1]:5", False),
        ("tcp://10.0.0.1:5/x", False),
    ],
)
def test_only_addresses_that_another_machine_can_have_are_taken(text, good):
    assert is_endpoint(text) is good


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_endpoint_is_taken_apart_as_it_was_put_together(address, port):
    text = endpoint(str(address), port)
    assert (host_of(text), port_of(text)) == (str(address), port)


@given(st.text())
def test_any_name_can_be_announced(name):
    assert isinstance(read(seal(announcement(name=printable(name)), ALICE, KEY)), Sealed)
