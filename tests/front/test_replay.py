"""`--record` and `%exo replay`: where records are kept, where they are found, and what a replay shows."""

from __future__ import annotations

import json

import msgspec

from exo_lab.core.record import Replayed, decode, sealed
from exo_lab.front.replay_view import ReplayView
from exo_lab.front.verbs_records import KEY


def asked(run, options: str = "--max-tokens 9 --seed 3") -> None:
    ran = run(f"%%exo -o answer {options}\nWhat is it?")
    assert ran.error is None
    return ran


def test_a_cell_writes_a_record_that_can_be_read(run, cluster, tmp_path):
    asked(run, f"--max-tokens 9 --record {tmp_path / 'run.json'}")
    record = decode((tmp_path / "run.json").read_bytes())
    assert record.text == cluster.last.text
    assert [device.emulated for device in record.devices] != []


def test_without_a_file_the_record_is_in_the_metadata_of_the_output(run, cluster):
    assert KEY not in asked(run).outputs[-1]["metadata"]
    shown = asked(run, "--max-tokens 9 --record").outputs[-1]
    assert decode(shown["metadata"][KEY]).text == cluster.last.text


def test_in_a_terminal_a_record_needs_a_file_and_nothing_is_asked_without_one(run, shell, cluster):
    shell.magics_manager.registry["ExoMagics"].display = "terminal"
    assert "name a file" in str(run("%%exo --record\nWhat is it?").error)
    assert "generate" not in [name for name, _ in cluster.calls]


def test_a_record_is_replayed_from_a_variable_a_file_and_a_notebook(run, cluster, tmp_path):
    asked(run, f"--max-tokens 9 --record {tmp_path / 'run.json'}")
    text = (tmp_path / "run.json").read_text()
    cells = [{"cell_type": "code", "outputs": [{"output_type": "display_data", "metadata": {KEY: text}}]}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    for name in ("", "answer", tmp_path / "run.json", tmp_path / "a.ipynb"):
        ran = run(f"%exo replay {name} --devices kernel-1")
        assert ran.error is None
        assert "The same 7 tokens as then" in ran.text()
        assert cluster.options_of("replay")["devices"] == ("kernel-1",)


def test_what_is_no_record_is_refused_with_a_reason(run, cluster, tmp_path):
    (tmp_path / "bad.json").write_text('{"format": "exo_lab.run", "version": 2, "tokens": "__import__(1)"}')
    (tmp_path / "empty.ipynb").write_text('{"cells": []}')
    for name, reason in (("bad.json", "no run record"), ("empty.ipynb", "--record puts one"), ("none", "no file")):
        assert reason in str(run(f"%exo replay {tmp_path / name}").error)
    assert "replay" not in [name for name, _ in cluster.calls]


def runs(run, cluster) -> Replayed:
    asked(run)
    then = cluster.last.record()
    tokens = (*then.tokens[:2], msgspec.structs.replace(then.tokens[2], token=99, text="<b>other"), *then.tokens[3:])
    now = msgspec.structs.replace(then, tokens=tokens, versions={**then.versions, "python": "3.12.0"})
    return Replayed(then=then, now=sealed(now))


def test_the_first_difference_and_other_versions_are_shown_and_measured_times_are_called_so(run, cluster):
    view = ReplayView(runs(run, cluster))
    for shown in (view.text(), view.html()):
        assert "The tokens differ from number 3 on (7 tokens then, 7 now)" in shown
        assert "≠ python" in shown
        assert "≠ exo_lab" not in shown
        assert "measured then" in shown
        assert "emulated" in shown
    assert "<b>other" not in view.html()
