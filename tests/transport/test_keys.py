"""The token, the keys that come from it, and a node's signature."""

from __future__ import annotations

import stat
import threading

import msgspec
import pytest
import zmq
from zmq.utils import z85

from exo_lab.core.device import Device, Flops, device_id
from exo_lab.core.errors import ConfigError, FrameError
from exo_lab.core.messages import NodeCard
from exo_lab.transport import keys
from exo_lab.transport.keys import (
    ClusterKeys,
    Identity,
    announcement_key,
    check_token,
    cluster_tag,
    load_or_create_token,
    new_token,
    verify_card,
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch):
    monkeypatch.delenv(keys.TOKEN_VARIABLE, raising=False)


def test_a_new_token_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "deep" / "token"
    token = load_or_create_token(path)
    assert load_or_create_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["token"]


def test_processes_that_start_at_once_agree_on_one_token(tmp_path):
    found: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait(5)
        found.append(load_or_create_token(tmp_path / "token"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "jupyter_data_dir", lambda: str(tmp_path))
    in_file = load_or_create_token()
    assert (tmp_path / "exo_lab" / "token").read_text().strip() == in_file
    other = keys.new_token()
    monkeypatch.setenv(keys.TOKEN_VARIABLE, f" {other}\n")
    assert load_or_create_token() == other


def test_a_file_that_others_can_read_is_closed_with_a_warning(tmp_path, caplog):
    path = tmp_path / "token"
    token = load_or_create_token(path)
    path.chmod(0o644)
    assert load_or_create_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "could be read by others" in caplog.text
    assert token not in caplog.text


def test_a_path_that_cannot_be_used_is_a_config_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        load_or_create_token(tmp_path / "file" / "token")
    (tmp_path / "token").write_bytes(b"\xff\xfe" * 30)
    with pytest.raises(ConfigError, match="cannot be used"):
        load_or_create_token(tmp_path / "token")


@pytest.mark.parametrize(
    "token", ["", "secret", "0" * 64, "abc" * 20, "a b c d e f g h " * 4, "passwörter" * 5, "x" * 31]
)
def test_a_weak_token_is_refused_and_not_repeated(token):
    with pytest.raises(ConfigError) as refused:
        check_token(token)
    assert not token or token not in str(refused.value)
    with pytest.raises(ConfigError):
        ClusterKeys.from_token(token)


def test_tokens_of_both_spellings_are_accepted():
    assert check_token("0123456789abcdef" * 2)
    assert check_token(keys.new_token())
    token = keys.new_token()
    assert check_token(f"  {token}\n") == token


def test_one_token_always_gives_the_same_four_keys_and_another_gives_others():
    token = keys.new_token()
    ours, again, others = map(ClusterKeys.from_token, (token, token, keys.new_token()))
    assert ours == again
    named = [getattr(pair, name) for pair in (ours, others) for name in ours.__struct_fields__]
    assert len(set(named)) == 8
    assert zmq.curve_public(ours.client_secret) == ours.client_public
    assert ours.server_secret.decode() not in repr(ours)
    assert token not in repr(ours)


def test_the_derivation_is_pinned():
    # Nodes of different releases must derive the same keys; a change here needs a new protocol version.
    pair = ClusterKeys.from_token("0123456789abcdef" * 4)
    assert pair.server_public == b":.%*+[^W)UJIC4>}1iRFPY%U+7JprkRLsqFY}N?5"
    assert pair.client_public == b"%mj0D7lW(RD4tu2Y8l9gZON-ns}0to^IpIPx+AHa"


def card_of(identity: Identity) -> NodeCard:
    device = Device(id=identity.device_id, name="laptop", memory_bandwidth_bytes_per_s=10**11, flops=Flops(fp32=2))
    return identity.sign_card(NodeCard(device=device, control="tcp://127.0.0.1:1", data="tcp://127.0.0.1:2", version=3))


def test_a_signed_card_survives_the_wire_and_verifies():
    card = card_of(Identity.create())
    verify_card(card)
    verify_card(msgspec.msgpack.decode(msgspec.msgpack.encode(card), type=NodeCard))
    assert card.device.id == device_id(card.public_key)
    assert len(card.device.id) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"control": "tcp://evil:1"},
        {"data": "tcp://evil:1"},
        {"version": 4},
        {"pid": 9},
        {"signature": b""},
        {"signature": bytes(64)},
        {"public_key": b""},
        {"public_key": bytes(32)},
        {"device": Device(id="0123456789ab", name="laptop")},
    ],
)
def test_a_card_that_was_changed_is_refused(change):
    with pytest.raises(FrameError, match="laptop"):
        verify_card(msgspec.structs.replace(card_of(Identity.create()), **change))


def test_nobody_can_take_the_id_of_another():
    ours, theirs = Identity.create(), Identity.create()
    card = card_of(ours)
    with pytest.raises(ConfigError, match="is for device"):
        theirs.sign_card(card)
    with pytest.raises(FrameError, match="does not belong"):
        verify_card(msgspec.structs.replace(card, public_key=theirs.public_key))


def test_an_identity_is_kept_in_a_private_file(tmp_path):
    path = tmp_path / "identity"
    made = Identity.load_or_create(path)
    assert Identity.load_or_create(path).device_id == made.device_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("not a key")
    with pytest.raises(ConfigError, match="no node identity"):
        Identity.load_or_create(path)


def test_a_cluster_has_one_public_tag_and_another_cluster_another():
    token, other = new_token(), new_token()
    assert cluster_tag(token) == cluster_tag(f" {token}\n")
    assert cluster_tag(token) != cluster_tag(other)
    assert len(cluster_tag(token)) == 16
    made = ClusterKeys.from_token(token)
    proving = announcement_key(token)
    assert len(proving) == 32
    assert proving == announcement_key(f" {token}\n") != announcement_key(other)
    assert proving.hex() not in {z85.decode(made.server_secret).hex(), z85.decode(made.client_secret).hex()}
    assert not proving.hex().startswith(cluster_tag(token))
    for secret in (token.encode(), made.server_public, made.server_secret, made.client_public, made.client_secret):
        assert cluster_tag(token).encode() not in secret
    with pytest.raises(ConfigError):
        cluster_tag("guess me")
