from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.telemetry import Sample, Series, thinned
from exo_lab.telemetry.recorder import Recorder
from exo_lab.telemetry.store import MINUTES_KEPT_S, RAW_KEPT_S, Store

NOON = 1_700_000_040.0  # the beginning of a minute


class Clock:
    def __init__(self, now_s: float = NOON) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def filled(path, count=10, every_s=1.0, begin_s=NOON):
    store = Store(path)
    store.add(Sample(begin_s + one * every_s, "memory", float(one)) for one in range(count))
    return store


def test_what_was_kept_is_there_after_a_restart(tmp_path):
    path = tmp_path / "deep" / "n.sqlite3"
    filled(path).close()
    again = Store(path)
    (series,) = again.series(NOON + 20, NOON)
    assert series == Series(quantity="memory", points=tuple((NOON + one, float(one)) for one in range(10)))
    assert again.notice == ""
    again.close()


def test_only_its_user_can_read_it(tmp_path):
    store = filled(tmp_path / "n.sqlite3")
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    store.close()


def test_series_are_by_what_and_of_what():
    store = Store(None)
    store.add([Sample(NOON, "latency", 0.1, "b"), Sample(NOON, "latency", 0.2, "c"), Sample(NOON, "memory", 0.5)])
    found = store.series(NOON, NOON, ("latency",))
    assert [(one.quantity, one.about) for one in found] == [("latency", "b"), ("latency", "c")]
    store.close()


def test_minutes_are_condensed_once_they_are_over_and_hours_are_means_of_minutes():
    store = filled(None, count=90)
    store.tidy(NOON + 90)
    store.tidy(NOON + RAW_KEPT_S + 120)
    (series,) = store.series(NOON + RAW_KEPT_S + 120, 0.0)
    assert series.points == ((NOON, sum(range(60)) / 60), (NOON + 60, sum(range(60, 90)) / 30))
    store.tidy(NOON + MINUTES_KEPT_S + 120)
    assert store.series(NOON + MINUTES_KEPT_S + 120, 0.0) == ()
    store.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_condensing_often_or_seldom_gives_the_same_and_loses_no_minute(seconds):
    samples = [Sample(NOON + one, "load", float(one)) for one in sorted(set(seconds))]
    end_s = NOON + 5000 + RAW_KEPT_S + 120
    often, seldom = Store(None), Store(None)
    for sample in samples:
        often.add([sample])
        often.tidy(sample.at_s)
    often.tidy(samples[-1].at_s + RAW_KEPT_S - 1)
    often.tidy(end_s)
    seldom.add(samples)
    seldom.tidy(NOON + 5000 + 60)
    seldom.tidy(end_s)
    assert often.series(end_s, 0.0) == seldom.series(end_s, 0.0)
    minutes = {sample.at_s // 60 for sample in samples}
    assert len(seldom.series(end_s, 0.0)[0].points) == len(minutes)
    often.close()
    seldom.close()


@pytest.mark.parametrize("content", [b"this is no database", b"SQLite format 3\x00" + b"\x07" * 5000])
def test_a_broken_file_is_set_aside_with_a_notice(tmp_path, content):
    path = tmp_path / "n.sqlite3"
    path.write_bytes(content)
    store = filled(path)
    assert "n.sqlite3.broken" in store.notice
    assert (tmp_path / "n.sqlite3.broken").read_bytes() == content
    assert len(store.series(NOON + 20, NOON)[0].points) == 10
    store.close()


def test_a_file_of_another_version_is_set_aside(tmp_path):
    path = tmp_path / "n.sqlite3"
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 99")
    base.commit()
    base.close()
    store = Store(path)
    assert "version 99" in store.notice
    store.close()


# -- recording -------------------------------------------------------------------------------------------------


def test_a_recorder_writes_what_it_was_given_and_goes_on_after_a_restart(tmp_path):
    for begin in (0, 10):
        recorder = Recorder(tmp_path, "a/node", Clock(NOON + 30))
        recorder.start()
        recorder.add([Sample(NOON + begin, "memory", 0.5)])
        recorder.close()
    recorder = Recorder(tmp_path, "a/node", Clock(NOON + 30))
    assert [len(one.points) for one in recorder.series(NOON)] == [2]
    recorder.close()
    assert (tmp_path / "a_node.sqlite3").exists()


def test_two_nodes_of_one_name_write_two_files(tmp_path):
    one, two = (Recorder(tmp_path, "twin", Clock()) for _ in range(2))
    one.flush()
    two.flush()
    assert sorted(file.name for file in tmp_path.glob("*.sqlite3")) == ["twin-2.sqlite3", "twin.sqlite3"]
    one.close()
    two.close()


def test_files_of_nodes_that_are_gone_for_a_week_are_deleted(tmp_path):
    for name in ("old", "new"):
        recorder = Recorder(tmp_path, name, Clock(time.time()))
        recorder.flush()
        recorder.close()
    for file in tmp_path.glob("old*"):
        os.utime(file, (NOON, NOON))
    recorder = Recorder(tmp_path, "third", Clock(time.time()))
    recorder.flush()
    recorder.close()
    assert sorted(file.name for file in tmp_path.glob("*.sqlite3")) == ["new.sqlite3", "third.sqlite3"]


def test_a_full_disk_stops_nobody_and_loses_nothing(tmp_path):
    recorder = Recorder(tmp_path, "n", Clock(NOON + 30))
    recorder.flush()
    store = recorder._store
    assert store is not None
    (pages,) = store._base.execute("PRAGMA page_count").fetchone()
    store._base.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way of saying that there is no room
    samples = [Sample(NOON + one / 100, "memory", 0.5, "x" * 60) for one in range(500)]
    recorder.add(samples)
    recorder.flush()
    assert "full" in recorder.problem
    assert str(tmp_path) in recorder.problem
    store._base.execute("PRAGMA max_page_count = 1000000")
    recorder.flush()
    assert recorder.problem == ""
    assert len(recorder.series(NOON)[0].points) == 500
    recorder.close()


def test_a_folder_that_cannot_be_made_stops_nobody(tmp_path):
    (tmp_path / "file").write_text("in the way")
    recorder = Recorder(tmp_path / "file" / "history", "n", Clock())
    recorder.add([Sample(NOON, "memory", 0.5)])
    recorder.flush()
    assert "cannot be kept" in recorder.problem
    assert recorder.series(NOON) == ()
    recorder.close()


def test_a_file_that_breaks_while_it_is_used_is_set_aside(tmp_path):
    path = tmp_path / "n.sqlite3"
    recorder = Recorder(tmp_path, "n", Clock(NOON + 30))
    recorder.add([Sample(NOON + one, "memory", 0.5) for one in range(30)])
    recorder.flush()
    assert recorder._store is not None
    recorder._store._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    recorder._store._base.execute("PRAGMA shrink_memory")  # or it goes on with the pages that it remembers
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (size - 100))
    recorder.add([Sample(NOON + 40, "memory", 0.7)])
    recorder.flush()
    recorder.flush()
    assert "n.sqlite3.broken" in recorder.problem
    assert recorder.series(NOON)[0].points[-1] == (NOON + 40, 0.7)
    recorder.close()


def test_many_threads_may_add_and_read():
    recorder = Recorder(None, "n", Clock(NOON + 3000))

    def work(name: str) -> None:
        for one in range(50):
            recorder.add([Sample(NOON + one, "load", 0.5, name)])
            recorder.series(NOON)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(one.points) for one in recorder.series(NOON)] == [50] * 4
    recorder.close()


@given(st.integers(0, 200), st.integers(1, 50))
def test_thinning_keeps_the_latest_and_no_more_than_was_asked_for(count, most):
    series = Series(quantity="load", points=tuple((float(one), 0.0) for one in range(count)))
    kept = thinned(series, most).points
    assert len(kept) == min(count, most)
    assert list(kept) == sorted(set(kept))
    assert not count or kept[-1] == series.points[-1]
