"""Models of the hub, from a hub on this machine: what is fetched, what is not, and what is said when it fails.

The library reads its settings when it is imported, so every visit is a process of its own.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.hub_server import Hub, serve
from tests.tiny import tiny_config, write_gguf, write_safetensors

VISIT = """
import json, sys
from exo_lab.core.errors import ExoError
from exo_lab.models.locate import cached_models, locate
from exo_lab.models.open import open_model, open_tokenizer

name, offline = json.loads(sys.argv[1])
reports = []
try:
    path = locate(name, lambda *report: reports.append(report), offline=offline)
    source = open_model(name)
    source.weight("blk.0.attn_q.weight").to_float32()
    print(json.dumps({
        "path": str(path), "reports": reports, "layers": source.config.n_layers, "digest": source.config.digest,
        "name": source.config.name, "tokens": open_tokenizer(name).encode("Hello"),
        "cached": [[m.name, str(m.path), m.nbytes, m.about] for m in cached_models()],
    }))
    source.close()
except ExoError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


def visit(home: Path, name: str, endpoint: str, *, offline: bool | None = None, **environment: str) -> dict:
    """Locate and open a model in a fresh process, with the hub's cache in `home`."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "EXO_LAB_CACHE": str(home / "exo"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", VISIT, json.dumps([name, offline])],
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture
def hub(tmp_path):
    root = tmp_path / "served"
    write_safetensors(root / "tiny" / "sharded", tiny_config("qwen2"), files=3)
    (root / "tiny" / "gguf").mkdir(parents=True)
    write_gguf(root / "tiny" / "gguf" / "tiny-q4.gguf", kind="Q4_0")
    (root / "tiny" / "gguf" / "README.md").write_text("of no interest")
    with serve(root) as served:
        yield served


def test_a_folder_of_safetensors_is_fetched_once_and_nothing_but_what_is_read(hub: Hub, tmp_path):
    folder = hub.root / "tiny" / "sharded"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps("never to be fetched"))
    (folder / "modeling_tiny.py").write_text("raise SystemExit('never to be fetched')")
    (folder / "consolidated.safetensors").write_bytes(b"the same in another layout, never to be fetched")
    first = visit(tmp_path, "tiny/sharded", hub.url)
    assert first["layers"] == 4
    assert first["name"] == "tiny/sharded"
    assert first["tokens"] == [42, 269, 78, 81]  # H el l o
    wanted = {path.name for path in folder.glob("model-*.safetensors")} | {
        "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json",
    }  # fmt: skip
    assert sorted(hub.fetched()) == sorted(wanted)
    size = sum((folder / name).stat().st_size for name in wanted)
    done, totals, _ = zip(*first["reports"], strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1] == size
    weights = sum(path.stat().st_size for path in folder.glob("model-*.safetensors"))
    assert first["cached"] == [["tiny/sharded", first["path"], weights, "safetensors"]]

    hub.asked.clear()
    assert visit(tmp_path, "tiny/sharded", hub.url)["digest"] == first["digest"]
    assert not hub.asked  # not even a question


@pytest.mark.parametrize("name", ["tiny/gguf", "tiny/gguf:tiny-q4.gguf"])
def test_a_gguf_file_is_fetched_by_name_or_because_it_is_the_only_one(hub: Hub, tmp_path, name):
    found = visit(tmp_path, name, hub.url)
    assert found["path"].endswith("tiny-q4.gguf")
    assert hub.fetched() == ["tiny-q4.gguf"]
    assert [model[0] for model in found["cached"]] == ["tiny/gguf:tiny-q4.gguf"]


def test_what_is_in_the_cache_opens_with_the_hub_gone_or_forbidden(hub: Hub, tmp_path):
    digest = visit(tmp_path, "tiny/sharded", hub.url)["digest"]
    gguf = visit(tmp_path, "tiny/gguf", hub.url)["digest"]
    nowhere = "http://127.0.0.1:9"
    assert visit(tmp_path, "tiny/sharded", nowhere)["digest"] == digest
    assert visit(tmp_path, "tiny/gguf:tiny-q4.gguf", nowhere)["digest"] == gguf
    assert visit(tmp_path, "tiny/gguf", nowhere, HF_HUB_OFFLINE="1")["digest"] == gguf
    hub.asked.clear()
    assert visit(tmp_path, "tiny/sharded", hub.url, offline=True)["digest"] == digest
    assert not hub.asked


def test_a_fetch_that_broke_off_is_completed_by_the_next_one(hub: Hub, tmp_path):
    found = visit(tmp_path, "tiny/sharded", hub.url)
    lost = sorted(Path(found["path"]).glob("model-*.safetensors"))[1]
    lost.resolve().unlink()
    lost.unlink()
    hub.asked.clear()
    offline = visit(tmp_path, "tiny/sharded", hub.url, offline=True)
    assert offline["error"] == "ModelNotFound"
    assert "not complete" in offline["text"]
    assert visit(tmp_path, "tiny/sharded", hub.url)["digest"] == found["digest"]
    assert hub.fetched() == [lost.name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny/absent", "tiny/absent is not in the hub's cache on this machine, and http://127.0.0.1"),
        ("tiny/gguf:absent.gguf", "tiny/gguf:absent.gguf is not in the hub's cache"),
        ("tiny/two", "tiny/two holds 2 GGUF files; name one, tiny/two:FILE. It has a.gguf, b.gguf"),
        ("tiny/pickle", "tiny/pickle holds neither safetensors with a config.json nor a GGUF file"),
        ("tiny--x/y", "Look at the spelling"),
    ],
)
def test_what_the_hub_does_not_have_is_said_with_what_to_do(hub: Hub, tmp_path, name, words):
    for file in ("two/a.gguf", "two/b.gguf", "pickle/pytorch_model.bin"):
        path = hub.root / "tiny" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = visit(tmp_path, name, hub.url)
    assert found["error"] == "ModelNotFound"
    assert words in found["text"]
    assert not hub.fetched()


def test_with_no_hub_and_nothing_in_the_cache_the_error_comes_soon_and_names_the_hub(tmp_path):
    for settings in ({}, {"HF_HUB_OFFLINE": "1"}):
        found = visit(tmp_path, "tiny/sharded", "http://127.0.0.1:9", **settings)
        assert found["error"] == "ModelNotFound"
        assert ("http://127.0.0.1:9" in found["text"]) or "offline mode" in found["text"]


def test_an_index_of_the_hub_that_leads_out_of_its_folder_is_refused(hub: Hub, tmp_path):
    index = hub.root / "tiny" / "sharded" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../../secret.safetensors"}}))
    found = visit(tmp_path, "tiny/sharded", hub.url)
    assert found["error"] == "CorruptModel"
    assert "../../../secret.safetensors" in found["text"]
