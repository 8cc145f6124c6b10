from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.core.telemetry import Alert, Forecast
from exo_lab.front.alert_words import show_quantity, warnings
from exo_lab.front.alerts_view import AlertsView
from exo_lab.front.arguments import parser
from exo_lab.front.status_view import StatusView
from exo_lab.front.verbs_operating import alerts
from tests.front import scenes

NOW = 1000.0


def alert(device, quantity="memory", **changes):
    given = {"value": 0.92, "threshold": 0.85, "since_s": NOW - 40, **changes}
    return Alert(id="3fa2-1", node=device.id, quantity=quantity, **given)


def forecast(device, **changes):
    given = {"lead_s": 40.2, "soonest_s": 31.0, "latest_s": 55.4, "made_at_s": NOW, **changes}
    return Forecast(node=device.id, quantity="memory", value=0.7, threshold=0.85, **given)


@pytest.fixture
def status():
    return scenes.status()


@pytest.fixture
def device(status):
    return status.nodes[1].device


def with_(status, *found, foreseen=()):
    from msgspec.structs import replace

    return replace(status, at_s=NOW, alerts=found, forecasts=tuple(foreseen))


def test_an_alert_says_what_of_whom_how_much_and_for_how_long(status, device):
    (text,) = warnings(with_(status, alert(device)))
    assert text == f"memory of {device.name} is at 92 %, above 85 % for 40 s (alert 3fa2-1)"


def test_a_forecast_says_that_it_is_predicted_and_how_sure(status, device):
    (text,) = warnings(with_(status, foreseen=[forecast(device)]))
    assert text == f"memory of {device.name} reaches 85 % in about 40 s (predicted, 90 % interval 31 s to 55 s)"
    (text,) = warnings(with_(status, foreseen=[forecast(device, latest_s=None)]))
    assert text.endswith("in about 40 s (predicted, 90 % interval from 31 s on)")


def test_links_and_places_are_named(status, device):
    other = status.nodes[0].device
    link = alert(device, "latency", value=0.25, threshold=0.1, about=other.id)
    heat = alert(device, "temperature", value=81.2, threshold=80.0, about="cpu")
    texts = warnings(with_(status, link, heat))
    assert texts[0].startswith(f"latency from {device.name} to {other.name} is at 250 ms, above 100 ms")
    assert texts[1].startswith(f"temperature (cpu) of {device.name} is at 81 °C, above 80 °C")


def test_what_was_acknowledged_is_in_the_table_and_is_no_warning(status, device):
    shown = with_(status, alert(device, state="acknowledged"))
    assert warnings(shown) == []
    assert "acknowledged" in AlertsView(shown).text()


def test_the_page_has_everything_in_text_and_html(status, device):
    view = AlertsView(with_(status, alert(device), foreseen=[forecast(device)]))
    for drawn in (view.text(), view.html()):
        for part in ("3fa2-1", f"memory of {device.name}", "92 %", "40 s", "raised", "predicted", "1 alert"):
            assert part in drawn
    assert AlertsView(status).text() == "No alert, and nothing is foreseen."


def test_a_clock_of_another_machine_makes_no_negative_times(status, device):
    assert "for 0 s" in warnings(with_(status, alert(device, since_s=NOW + 5)))[0]


def test_ids_from_peers_are_harmless(status, device):
    evil = Alert(id="<b>\x1b[31m", node=device.id, quantity="memory", value=0.9, threshold=0.85, since_s=NOW)
    view = AlertsView(with_(status, evil))
    assert "\x1b" not in view.text()
    assert "<b>\x1b" not in view.html()
    assert "&lt;b&gt;" in view.html()


def test_status_says_what_is_too_much(status, device):
    assert f"! memory of {device.name} is at 92 %" in StatusView(with_(status, alert(device))).text()


@pytest.mark.parametrize(
    ("quantity", "value", "shown"),
    [
        ("memory", 0.853, "85 %"), ("compute", 1.2, "120 %"), ("latency", 0.1, "100 ms"),
        ("temperature", 80.4, "80 °C"), ("bandwidth", 1.25e8, "125 MB/s"),
    ],
)  # fmt: skip
def test_readings_are_shown_as_people_say_them(quantity, value, shown):
    assert show_quantity(quantity, value) == shown


# -- the verb --------------------------------------------------------------------------------------------------


class FakeCluster:
    def __init__(self, status):
        self._status, self.seen = status, []

    def status(self):
        return self._status

    def acknowledge(self, alert_id):
        if alert_id != "3fa2-1":
            raise ConfigError(f"there is no alert {alert_id!r}; there are none.")
        self.seen.append(alert_id)


def run(cluster, *words):
    args = parser("cell").parse_args(["alerts", *words])
    return alerts(SimpleNamespace(cluster=lambda: cluster), args).text()  # type: ignore[arg-type]


def test_the_verb_shows_acknowledges_and_speaks_json(status, device):
    cluster = FakeCluster(with_(status, alert(device), foreseen=[forecast(device)]))
    assert "1 alert, 1 predicted" in run(cluster)
    assert "is acknowledged" in run(cluster, "--ack", "3fa2-1")
    assert cluster.seen == ["3fa2-1"]
    with pytest.raises(ConfigError, match="no alert 'x'"):
        run(cluster, "--ack", "x")
    told = json.loads(run(cluster, "--json"))
    assert told["alerts"][0]["node"] == device.id
    assert told["forecasts"][0]["lead_s"] == 40.2


# -- below an answer -------------------------------------------------------------------------------------------


def test_an_answer_ends_with_what_is_too_much_now(run, cluster, monkeypatch):
    plain = cluster.status()
    told = with_(plain, alert(plain.nodes[1].device))
    monkeypatch.setattr(type(cluster), "status", lambda self: told)
    ran = run("%%exo\nWhat is the capital of France?")
    assert "is at 92 %, above 85 % for 40 s" in ran.html()
    assert "! memory of" in ran.text()
    assert "is at 92 %" not in run("%%exo\nAgain").outputs[0]["data"]["text/html"]
