"""A member may name models; it may not have a node open this machine's files."""

from __future__ import annotations

import asyncio

import pytest

from exo_lab.core.errors import ModelNotFound
from exo_lab.core.messages import LoadShard, ModelRef
from exo_lab.node.model_names import FOLDERS_VARIABLE, check_name, model_folders
from tests.node.clusters import cluster

HOSTILE = [
    "", "/etc/passwd", "/", "../../etc/passwd", "models/../../../etc/passwd", "~/secret.gguf", "~root/x.gguf",
    "./x.gguf", "..", "a/../b", "org/repo:../../x.gguf", "C:\\x.gguf", "\\\\evil\\share\\x.gguf", "//evil/share/x.gguf",
    "file:///etc/passwd", "https://evil/x.gguf", "org/repo/extra/parts", "a\0b", "a\nb", "x" * 2000, ".hidden",
    "/proc/self/environ", "/dev/zero",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_path_outside_the_model_folders_is_refused_without_a_word_on_what_is_there(name, tmp_path):
    with pytest.raises(ModelNotFound) as refused:
        check_name(name, (tmp_path,), "n0")
    assert str(tmp_path) not in str(refused.value)
    assert "passwd" not in str(refused.value)


@pytest.mark.parametrize("name", ["smollm2-135m", "org/repo", "org/repo:model.Q4_1.gguf", "org/re.po-2:sub/file.gguf"])
def test_known_names_and_hub_ids_are_taken(name):
    assert check_name(name, (), "n0") == name


def test_a_file_in_a_model_folder_is_taken_and_one_that_a_link_leads_out_to_is_not(tmp_path):
    models, outside = tmp_path / "models", tmp_path / "outside"
    models.mkdir()
    outside.mkdir()
    (models / "good.gguf").touch()
    (outside / "secret.gguf").touch()
    (models / "link.gguf").symlink_to(outside / "secret.gguf")
    (models / "loop").symlink_to(models / "loop")
    assert check_name(str(models / "good.gguf"), (models,), "n0") == str(models / "good.gguf")
    for name in (models / "link.gguf", models / ".." / "outside" / "secret.gguf", outside / "secret.gguf"):
        with pytest.raises(ModelNotFound):
            check_name(str(name), (models,), "n0")


def test_a_name_that_happens_to_be_a_file_where_the_node_runs_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "repo").touch()
    with pytest.raises(ModelNotFound):
        check_name("org/repo", (), "n0")


@pytest.mark.parametrize(("bind", "anything"), [
    ("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("127.3.4.5", True),
    ("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("example.org", False),
])  # fmt: skip
def test_only_a_node_that_listens_on_loopback_alone_takes_any_path(bind, anything):
    assert (model_folders(bind) is None) == anything


def test_the_folders_are_the_caches_and_those_that_the_user_named(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDERS_VARIABLE, f"{tmp_path}/a:{tmp_path}/b")
    monkeypatch.setenv("EXO_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert model_folders("0.0.0.0") == tuple(tmp_path / name for name in ("cache", "hub", "a", "b"))


def test_a_node_opens_no_path_that_a_peer_names_and_any_that_its_own_user_names(tmp_path):
    opened = []

    async def check():
        async with cluster(1) as made:

            def open_model(name):
                opened.append(name)
                return made.source

            for _ in range(2):
                await made.add(open_model=open_model, model_folders=(tmp_path,))
            await made.all_met()
            digest = made.source.config.digest
            stranger, own = made[1], made[2]
            for name in ("/etc/passwd", "../../etc/passwd"):
                order = LoadShard(plan=made.plan((4,), (1,)), stage=0, model=ModelRef(name=name, digest=digest))
                with pytest.raises(ModelNotFound, match="opens no path that another node names"):
                    await made[0].parts.control.request(stranger.card.control, order, timeout_s=10)
            assert opened == []
            own.allow_model("/home/me/model.gguf")
            reference = ModelRef(name="/home/me/model.gguf", digest=digest)
            order = LoadShard(plan=made.plan((4,), (2,)), stage=0, model=reference)
            await own.parts.control.request(own.card.control, order, timeout_s=10)
            assert opened == ["/home/me/model.gguf"]

    asyncio.run(check())
