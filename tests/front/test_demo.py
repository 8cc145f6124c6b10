"""The demo is a cluster of its own. What it does is run by `make demo`."""

from __future__ import annotations

import pytest

from exo_lab.front import demo
from exo_lab.transport.keys import check_token


class Stop(Exception):
    """The demo has connected; that is far enough."""


def test_each_demo_has_a_secret_of_its_own_and_makes_none_for_the_user(monkeypatch, private_home):
    tokens = []

    def connect(name, *, token, **_):
        tokens.append(check_token(token))
        raise Stop

    monkeypatch.setattr(demo, "connect", connect)
    for _ in range(2):
        with pytest.raises(Stop):
            demo.run()
    assert len(set(tokens)) == 2
    assert not list(private_home.rglob("token"))
