"""`%exo token`: the secret is shown only to who asks for it."""

from __future__ import annotations

import stat

import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.front.secret import fingerprint, token_view
from exo_lab.transport.keys import load_or_create_token, token_path

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


def test_fingerprints_tell_secrets_apart_and_do_not_contain_them():
    assert fingerprint("a" * 40) != fingerprint("b" * 40)
    assert len(fingerprint("a" * 40)) == 9


def test_the_verb_shows_where_and_what(run):
    ran = run("%exo token")
    assert fingerprint(load_or_create_token()) in ran.stdout
    assert load_or_create_token() not in ran.stdout
