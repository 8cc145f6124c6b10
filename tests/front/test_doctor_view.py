"""What the doctor found, in a cell and in a shell."""

from __future__ import annotations

import os

import pytest

from exo_lab.front.cli import main
from exo_lab.front.doctor_view import DoctorView
from exo_lab.node.doctor import Finding
from tests.front import scenes
from tests.front.fakes import FakeBackend, FakeCluster

WELL = (Finding(step="port", verdict="ok", seen="tcp://10.0.0.1:4000 answers this machine"),)


def test_every_step_is_a_line_with_what_to_do_under_it():
    assert DoctorView(scenes.findings()).text().splitlines() == [
        "1 step wrong, 1 worth a look:",
        "ok     interfaces  eth0 10.0.0.1/24",
        "look   silence     udp hears <nobody>\ufffd[2J",
        "                   -> Open UDP port 52418.",
        "WRONG  port        tcp://10.0.0.1:4000 does not answer",
        "                   -> Allow TCP port 4000.",
    ]


def test_in_a_notebook_nothing_that_a_peer_said_is_markup():
    shown = DoctorView(scenes.findings()).html()
    assert "&lt;nobody&gt;" in shown
    assert "<nobody>" not in shown
    assert "Allow TCP port 4000." in shown


def test_when_all_is_well_it_says_so():
    assert "in order" in DoctorView(WELL).text()
    assert DoctorView(scenes.findings()[:2]).title() == "Nothing is wrong; 1 step worth a look:"


def test_a_cell_asks_the_doctor_with_or_without_a_node(run):
    view = run("%exo doctor").value
    assert isinstance(view, DoctorView)
    assert [one.step for one in view.findings] == ["interfaces", "silence", "port"]


class Backend(FakeBackend):
    def connect(self, name=None, **options):
        self.made.append(FakeCluster(name=name, **options))
        return self.made[-1]


@pytest.mark.parametrize(("findings", "status"), [(WELL, 0), (scenes.findings(), 1)])
def test_the_shell_joins_as_it_is_told_and_its_status_says_whether_something_is_wrong(
    findings, status, capsys, monkeypatch
):
    backend = Backend()
    monkeypatch.setattr(FakeCluster, "doctor", lambda self: findings)
    argv = ["doctor", "--lan", "--discovery", "udp,mdns", "--peers", "tcp://10.0.0.2:1", "--wait", "0"]
    assert main(argv, backend) == status
    (made,) = backend.made
    assert made.closed
    options = {
        "lan": True,
        "discovery": ("udp", "mdns"),
        "peers": ("tcp://10.0.0.2:1",),
        "threads": 1,
        "sensors": "off",
        "visits": True,
    }
    assert made.options == {"name": f"shell-{os.getpid()}", **options}
    assert "port" in capsys.readouterr().out
