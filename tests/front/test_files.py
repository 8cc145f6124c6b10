"""Files that a user named: whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.front.files import check_writable, write_file
from exo_lab.front.recording import Recording


def test_a_file_is_written_and_replaced(tmp_path):
    assert write_file(str(tmp_path / "a"), "one") == tmp_path / "a"
    write_file(str(tmp_path / "a"), "zwölf")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "zwölf"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_cannot_be_written_to_its_end_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_file(str(tmp_path / "a"), "x" * 100_000 + "\ud800")
    assert (tmp_path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_readers_keep_what_they_read_and_rights_and_links_stay(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "link").symlink_to("a")
    with (tmp_path / "a").open() as reader:
        write_file(str(tmp_path / "link"), "new")
        assert reader.read() == "old"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_what_is_no_plain_file_is_written_to_as_it_is():
    check_writable(os.devnull)
    write_file(os.devnull, "gone")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize("name", ["none/a", "~nobody-of-that-name/a", "a\0b", ".", "a/b"])
@pytest.mark.parametrize("use", [check_writable, lambda name: write_file(name, "text"), Recording])
def test_a_name_that_cannot_be_written_is_said(tmp_path, monkeypatch, name, use):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("old")
    with pytest.raises(ConfigError, match=r"cannot be written: .* Name a file"):
        use(name)
    assert (tmp_path / "a").read_text() == "old"


def test_asking_whether_it_can_be_written_leaves_nothing(tmp_path):
    check_writable(str(tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []
