from __future__ import annotations

import pytest

from headgate.policy.model import Policy
from headgate.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def path(tmp_path):
    """Where a SQLite store may be; there is none yet."""
    return tmp_path / "store.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def policy():
    """Makes a policy: ``policy("api", limit=5)``."""

    def make(name, **fields):
        return Policy.from_dict({"name": name, "limit": 10, "window": "1m", **fields})

    return make
