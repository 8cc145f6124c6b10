"""`%exo token`: the secret is shown only to who asks for it."""

from __future__ import annotations

import stat

import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.front.secret import fingerprint, token_view
from exo_lab.transport.keys import load_or_create_token, token_path
from exo_lab.transport.private_file import replace_private

pytestmark = pytest.mark.usefixtures("private_home")


def test_without_show_the_secret_is_not_shown():
    view = token_view(show=False, new=False, connected=False)
    token = load_or_create_token()
    for shown in (view.text(), view.html()):
        assert token not in shown
        assert fingerprint(token) in shown
        assert str(token_path()) in shown


def test_show_prints_it_with_a_warning():
    view = token_view(show=True, new=False, connected=False)
    assert load_or_create_token() in view.lines
    assert any("share" in warning for warning in view.warnings)


def test_new_replaces_it_privately_and_warns():
    old = load_or_create_token()
    view = token_view(show=False, new=True, connected=True)
    new = load_or_create_token()
    assert new != old
    assert fingerprint(new) in view.text()
    assert stat.S_IMODE(token_path().stat().st_mode) == 0o600
    assert "left outside" in view.text()
    assert "%exo disconnect" in view.text()
    assert old not in view.text()
    assert new not in view.text()


def test_a_secret_from_the_environment_is_not_replaced_behind_its_back(monkeypatch):
    monkeypatch.setenv("EXO_LAB_TOKEN", "0123456789abcdef" * 4)
    assert "EXO_LAB_TOKEN" in token_view(show=False, new=False, connected=False).text()
    with pytest.raises(ConfigError, match="EXO_LAB_TOKEN"):
        token_view(show=False, new=True, connected=False)
    assert not token_path().exists()


def test_join_asks_for_the_other_clusters_secret_keeps_it_privately_and_shows_nothing(monkeypatch):
    old, other = load_or_create_token(), "Qm9vay1rZWVwZXItcmFpbi1iaWN5Y2xlLWxhbXA"
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"  {other}\n")
    view = token_view(show=False, new=False, join=True, connected=True)
    assert load_or_create_token() == other
    assert stat.S_IMODE(token_path().stat().st_mode) == 0o600
    assert fingerprint(other) in view.text()
    assert "%exo disconnect" in view.text()
    assert old not in view.text()
    assert other not in view.text()


@pytest.mark.parametrize("typed", ["", "short", "a" * 43, EOFError(), RuntimeError("no stdin")])
def test_what_cannot_be_a_secret_leaves_the_old_one(monkeypatch, typed):
    old = load_or_create_token()

    def ask(prompt):
        if isinstance(typed, Exception):
            raise typed
        return typed

    monkeypatch.setattr("getpass.getpass", ask)
    with pytest.raises(ConfigError, match=r"what was typed|nobody can be asked"):
        token_view(show=False, new=False, join=True, connected=False)
    assert load_or_create_token() == old


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fails_leaves_the_old_one_and_nothing_beside_it(monkeypatch, broken):
    old = load_or_create_token()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(broken, full)
        with pytest.raises(ConfigError, match=r"cannot be replaced: .*No space left"):
            token_view(show=False, new=True, connected=False)
    assert load_or_create_token() == old
    assert list(token_path().parent.iterdir()) == [token_path()]


def test_what_is_told_is_what_was_kept_also_where_another_process_makes_one_meanwhile(monkeypatch):
    load_or_create_token()

    def raced(path, text):
        replace_private(path, "Qm9vay1rZWVwZXItcmFpbi1iaWN5Y2xlLWxhbXA")

    monkeypatch.setattr("exo_lab.transport.private_file.replace_private", raced)
    with pytest.raises(ConfigError, match="holds another secret"):
        token_view(show=False, new=True, connected=False)


def test_join_and_new_exclude_each_other_and_neither_overrules_the_environment(monkeypatch):
    with pytest.raises(ConfigError, match="give one of them"):
        token_view(show=False, new=True, join=True, connected=False)
    monkeypatch.setenv("EXO_LAB_TOKEN", "0123456789abcdef" * 4)
    with pytest.raises(ConfigError, match="EXO_LAB_TOKEN"):
        token_view(show=False, new=False, join=True, connected=False)


def test_fingerprints_tell_secrets_apart_and_do_not_contain_them():
    assert fingerprint("a" * 40) != fingerprint("b" * 40)
    assert len(fingerprint("a" * 40)) == 9


def test_the_verb_shows_where_and_what(run):
    ran = run("%exo token")
    assert fingerprint(load_or_create_token()) in ran.stdout
    assert load_or_create_token() not in ran.stdout
