"""Real kernels with caches of their own: where only one process has the file, all of them get their layers from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exo_lab.cluster import Cluster
from exo_lab.models.locate import WHEELS, cache_folder
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

pytestmark = [pytest.mark.kernels, pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(240)]

MODEL = "smollm2-135m"
PROMPT = "Name three rivers of Europe."
NAMES = ("kernel-a", "kernel-b", "kernel-c")


def test_of_three_kernels_one_has_the_file_and_the_tokens_are_those_of_the_uncut_model(
    real_model, tmp_path, monkeypatch
):
    file = cache_folder() / "models" / WHEELS[MODEL].file
    size = file.stat().st_size
    with Cluster(NodeOptions(name="notebook", threads=1), new_token()) as cluster:
        cluster.load(MODEL, devices=["notebook"])
        whole = [event.token for event in cluster.generate(PROMPT, max_tokens=24).result().tokens]
        cluster.unload()
        # No registry and no hub: what does not come from another node does not come.
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        for name in NAMES:
            monkeypatch.setenv("EXO_LAB_CACHE", str(tmp_path / name))
            if name == NAMES[0]:
                (tmp_path / name / "models").mkdir(parents=True)
                (tmp_path / name / "models" / file.name).hardlink_to(file)
            cluster.up(1, threads=1, names=[name])
        seen: list[tuple[str, int, int, str]] = []
        cluster.load(MODEL, devices=list(NAMES), progress=lambda *report: seen.append(report))
        answer = cluster.generate(PROMPT, max_tokens=24).result()
        assert [event.token for event in answer.tokens] == whole
        for name in NAMES[1:]:
            assert any(node == name and what.startswith("from peers: ") for node, _, _, what in seen)
            (folder,) = [path for path in (tmp_path / name / "peers").iterdir() if path.is_dir()]
            assert used(folder / "model.gguf") < size * 0.6
        assert not (tmp_path / NAMES[0] / "peers").exists()


def used(path: Path) -> int:
    """Bytes on the disk, holes not counted."""
    return path.stat().st_blocks * 512
