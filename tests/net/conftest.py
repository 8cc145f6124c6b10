"""A LAN of namespaces."""

from __future__ import annotations

import pytest

from tests.net.hosts import lan as made


@pytest.fixture
def lan():
    with made() as here:
        yield here
