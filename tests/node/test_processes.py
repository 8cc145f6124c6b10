"""A process id means something to who sees the same processes, and nothing to anybody else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from exo_lab.core.device import Device
from exo_lab.core.messages import NodeCard
from exo_lab.discovery.host import host_id
from exo_lab.node import membership as m
from exo_lab.node.processes import process_of
from tests.node.clusters import cluster

NOBODY = 1 << 30  # no Linux has a process of that number


def fake_proc(folder, namespace):
    """A kernel's view, in which processes are numbered in a namespace: that of a container, or the machine's own."""
    (folder / "sys/kernel/random").mkdir(parents=True)
    (folder / "sys/kernel/random/boot_id").write_text("boot\n")
    (folder / "self/ns").mkdir(parents=True)
    namespace.touch()
    (folder / "self/ns/pid").symlink_to(namespace)
    return folder


def card(name, host, pid):
    return NodeCard(
        device=Device(id=name, name=name), control=f"tcp://127.0.0.1:{len(name)}", data="", host=host, pid=pid
    )


def test_two_containers_of_one_machine_are_two_and_two_processes_of_one_container_share_it(tmp_path):
    one = host_id(fake_proc(tmp_path / "a", tmp_path / "ns-1"))
    same = host_id(fake_proc(tmp_path / "b", tmp_path / "ns-1"))
    other = host_id(fake_proc(tmp_path / "c", tmp_path / "ns-2"))
    assert one == same != other
    assert one.startswith("boot/")


def test_without_namespaces_the_boot_names_the_machine_and_without_that_the_network_card(tmp_path):
    proc = fake_proc(tmp_path / "a", tmp_path / "ns")
    (proc / "self/ns/pid").unlink()
    assert host_id(proc) == "boot"
    assert len(host_id(tmp_path / "nothing")) == 12


def test_a_process_of_another_namespace_is_never_called_gone():
    mine = card("me", "boot/1", os.getpid())
    assert process_of(card("other", "boot/1", NOBODY), mine) == "gone"
    assert process_of(card("other", "boot/2", NOBODY), mine) == "unknown"
    assert process_of(card("other", "boot/1", psutil.Process().ppid()), mine) == "running"


def test_who_has_other_processes_is_not_on_loopback():
    async def run():
        async with cluster(1) as made:
            node = made[0]
            for name, host in (("near", node.card.host), ("in a container", "boot/2")):
                node.peers.apply(m.Heard(card=card(name, host, 7), found_by="peers.toml", now=time.monotonic()))
            kinds = {name: node.peers.link_kind(peer) for name, peer in node.members.peers.items()}
        assert kinds == {"near": "loopback", "in a container": "unknown"}

    asyncio.run(run())


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare on this system")
def test_a_real_pid_namespace_is_another_host():
    ask = [sys.executable, "-c", "from exo_lab.discovery.host import host_id; print(host_id())"]
    outside = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True)
    assert outside.stdout.strip() == host_id()
    inside = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", *ask],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if inside.returncode:
        pytest.skip(f"this machine makes no namespaces: {inside.stderr.strip()[:200]}")
    assert inside.stdout.strip().count("/") == 1
    assert inside.stdout.strip() != host_id()
