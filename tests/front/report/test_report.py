"""`diagnose`: one file that opens anywhere, tells everything that could be had, and nothing that is private."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from exo_lab.core.errors import NodeError, PeerUnreachable
from exo_lab.core.events import Event
from exo_lab.core.scrub import REMOVED
from exo_lab.core.telemetry import Alert, Forecast, Series
from exo_lab.core.watching import Watching, with_thresholds
from exo_lab.front.picture import picture
from exo_lab.front.report.facts import NodeFacts, PlanFacts, ReportFacts
from exo_lab.front.report.gather import gather, versions
from exo_lab.front.report.page import page, summary
from exo_lab.front.report.series_svg import series_svg, worst
from exo_lab.front.roster import Roster
from tests.front import scenes
from tests.front.fakes import FakeCluster
from tests.front.test_topology_view import known, shell

A, B, C = (member.id for member in scenes.devices())
TOKEN = "kJ8s-this_is/the+secret=="


def series(quantity: str = "memory", about: str = "", value: float = 0.4) -> Series:
    return Series(quantity=quantity, about=about, points=tuple((1000.0 + i, value) for i in range(5)))


def facts(**changes) -> ReportFacts:
    alert = Alert(id="1-1", node=A, quantity="memory", value=0.91, threshold=0.85, since_s=950.0)
    forecast = Forecast(
        node=B,
        quantity="temperature",
        value=70,
        threshold=80,
        made_at_s=999.0,
        lead_s=60.0,
        soonest_s=40.0,
        latest_s=90.0,
    )
    status = scenes.status(alerts=(alert,), forecasts=(forecast,), problems=("kernel-2 has an old version",))
    fields = {
        "at_s": 1005.0,
        "here": scenes.device(7, "laptop", cores=4),
        "versions": tuple(versions()),
        "findings": scenes.findings(),
        "status": status,
        "picture": picture(status.nodes, known(), status.models),
        "plans": (PlanFacts(model=scenes.loaded()),),
        "nodes": (
            NodeFacts(id=A, series=(series(), series("latency", B, 0.002)), events=events("kernel-3 was lost")),
            NodeFacts(id=B, series=(series("load", "cpu"),)),
        ),
        "software": (("kernel-1", "exo_lab 1.2"),),
        "network": scenes.network_report(),
        "missing": (f"measurements of kernel-3: {C} did not answer",),
        **changes,
    }
    return ReportFacts(**fields)


def events(*texts: str) -> tuple[Event, ...]:
    return tuple(Event(at_s=1000.0, kind="nodes", text=text) for text in texts)


class Outline(HTMLParser):
    """Headings, ids, links and whatever could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            if name in ("src", "srcset", "data", "action", "xlink:href") or "//" in (value or ""):
                self.outside.append(f"{tag} {name}={value}")


def outline(text: str) -> Outline:
    made = Outline()
    made.feed(text)
    return made


def test_every_part_is_on_the_page():
    text = page(facts())
    for part in (
        *(
            "kernel-2 has an old version",
            "not in this report: measurements of kernel-3: kernel-3 did",
            "emulated: memory 96 MB",
        ),
        *(
            "3 nodes share the layers by memory",
            "memory of kernel-1",
            "temperature of kernel-2 reaches 80",
        ),
        *("Memory used", "Latency, of the slowest link", "142 tok/s", "kernel-3 was lost", "exo_lab 1.2"),
        *("doctor: ", "torch", "Network test", "Doctor"),
    ):
        assert part in text, part


def test_nothing_is_fetched_and_nothing_runs():
    text = page(facts())
    made = outline(text)
    assert made.outside == []
    assert not made.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_every_link_of_the_page_leads_to_a_part_of_it():
    made = outline(page(facts()))
    assert made.links
    assert sorted(made.links) == sorted(f"#{id_}" for id_ in made.ids)


def test_names_of_peers_cannot_break_out():
    evil = scenes.device(1, name="<script>alert(1)</script>")
    status = scenes.status(nodes=scenes.nodes((evil,)), problems=("<img src=x>",), models=())
    text = page(
        facts(
            status=status,
            picture=picture(status.nodes, known((evil, *scenes.devices()[1:]))),
            plans=(),
            nodes=(NodeFacts(id=A, events=events("<iframe>")),),
            network=None,
            software=(("<b>", "<u>"),),
        )
    )
    made = outline(text)
    assert not made.tags & {"script", "img", "iframe", "u"}


def test_without_a_cluster_it_tells_of_this_machine():
    made = ReportFacts(
        at_s=1.0, here=scenes.device(7, "laptop"), versions=tuple(versions()), findings=scenes.findings()
    )
    text = page(made)
    assert "only this machine is told of" in text
    assert "Xeon" in text
    assert "exo_lab" in text
    assert "Telemetry" not in text
    assert summary(made)[0].startswith("This process is no node")


def test_a_cluster_in_which_nothing_was_measured_is_a_page_too():
    text = page(facts(nodes=(), network=None, plans=()))
    assert "Nothing was measured in this time" in text
    assert "No model is loaded" in text
    assert "diagnose --network" in text


def test_of_many_links_the_slowest_is_drawn_and_the_narrowest():
    slow, fast = series("latency", B, 0.1), series("latency", C, 0.001)
    assert worst([slow, fast], lowest=False) == list(slow.points)
    assert worst([slow, fast], lowest=True) == list(fast.points)
    assert series_svg([NodeFacts(id=A)], Roster(scenes.devices()), 1.0) == ""


def test_the_lines_of_a_report_are_this_nodes_own_thresholds():
    rules = with_thresholds(Watching(), {"memory": 60.0}).rules
    assert "threshold 60 %" in page(facts(rules=rules))
    assert "threshold" not in series_svg([NodeFacts(id=A, series=(series("load"),))], Roster(scenes.devices()), 1005.0)


# -- gathering -----------------------------------------------------------------------------------------------


class Told(FakeCluster):
    """A cluster that tells; the third node does not answer."""

    network_report = None

    def __init__(self) -> None:
        super().__init__()
        self.loaded.append(scenes.loaded())
        self.node = type("Node", (), {"topology": self.topology()})()

    def status(self):
        return scenes.status(nodes=shell(self.members), models=self.models())

    def history(self, node: str, last_s: float, quantities=()) -> tuple[Series, ...]:
        if node == C:
            raise PeerUnreachable("kernel-3 did not answer")
        return (series(),)

    def events(self, node: str) -> tuple[Event, ...]:
        return events(f"/home/anna/x failed with {TOKEN}, says anna")

    def software(self):
        return [(A, "kernel-1", "exo_lab 1"), (self.id, "shell-4711", "exo_lab 1")]

    def private_words(self) -> dict[str, str]:
        return {"/home/anna": "~", "anna": "(user)", TOKEN: REMOVED}


@pytest.fixture
def told(monkeypatch) -> Told:
    monkeypatch.setattr("exo_lab.cluster.planning.problem_of_loaded", failing)
    return Told()


def failing(*_: object) -> None:
    raise NodeError("kernel-2 is not in the cluster any more")


def test_what_cannot_be_had_is_left_out_with_its_reason(told):
    told.watching = with_thresholds(Watching(), {"memory": 60.0})
    found = gather(told, told.doctor, last_s=60.0)
    assert found.rules == told.watching.rules
    assert [node.id for node in found.nodes] == [A, B, C]
    assert found.nodes[0].series == (series(),)
    assert found.nodes[2].series == ()
    assert any("measurements of kernel-3: kernel-3 did not answer" in one for one in found.missing)
    assert any("why smollm2-135m is cut so" in one for one in found.missing)
    assert found.software == (("kernel-1", "exo_lab 1"),)
    assert [node.device.name for node in found.status.nodes] == ["kernel-1", "kernel-2", "kernel-3"]


def test_names_folders_and_secrets_are_not_in_it(told, monkeypatch):
    monkeypatch.setenv("SOME_PASSWORD", "hunter2hunter2")
    text = page(gather(told, told.doctor, last_s=60.0))
    assert not re.search(r"\banna\b", text)
    assert TOKEN not in text
    assert "hunter2" not in text
    assert "~/x failed with (removed), says (user)" in text


def test_a_test_that_is_refused_is_said(told):
    found = gather(told, told.doctor, last_s=60.0, test=lambda: failing())
    assert any("the network test" in one for one in found.missing)


def test_without_a_cluster_nobody_is_asked():
    found = gather(None, scenes.findings, last_s=60.0)
    assert found.status is None
    assert found.findings == scenes.findings()
    assert found.here.cores > 0


def test_facts_survive_being_scrubbed():
    from exo_lab.core.scrub import scrubbed

    assert scrubbed(facts(), {}) == facts()
    assert msgspec.json.encode(facts())
