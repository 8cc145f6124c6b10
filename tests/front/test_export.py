"""`%exo export` and `exo-lab export`: what is asked of the cluster, and what is said."""

from __future__ import annotations

import signal
import threading

from exo_lab.front.cli_node import serve_metrics


def test_a_cell_begins_to_export_and_says_where(run, cluster):
    ran = run("view = %exo export --prometheus 9464 --otlp collector:4318\nview")
    assert cluster.options_of("export") == {"prometheus": "9464", "otlp": "collector:4318"}
    assert "Metrics for Prometheus: http://9464" in ran.value.text()
    assert "to http://collector:4318" in ran.value.text()


def test_without_options_it_says_what_is_on_and_changes_nothing(run, cluster):
    ran = run("view = %exo export\nview")
    assert cluster.options_of("export") == {}
    assert ran.value.text().count("off") == 2


def test_off_ends_one_of_them(run, cluster):
    run("%exo export --otlp off")
    assert cluster.options_of("export") == {"otlp": "off"}


def test_in_a_shell_metrics_are_served_until_it_is_stopped(cluster):
    said, before = [], signal.getsignal(signal.SIGINT)

    def say(line: str) -> None:
        said.append(line)
        if "Ctrl+C" in line:
            threading.Timer(0.0, signal.raise_signal, (signal.SIGTERM,)).start()

    serve_metrics(cluster, "9464", say)
    assert said == ["Metrics for Prometheus: http://9464", "Ctrl+C ends it."]
    assert signal.getsignal(signal.SIGINT) is before
