from __future__ import annotations

import pytest

from headgate.errors import ConfigurationError
from headgate.settings import Settings
from headgate.testing import ManualClock
from headgate.wiring.agreement import open_agreement


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "single"),
        ({"redis_url": "redis://127.0.0.1:1"}, "redis"),
        ({"etcd_endpoints": "http://127.0.0.1:1"}, "etcd"),
        ({"etcd_endpoints": "http://127.0.0.1:1", "redis_url": "redis://127.0.0.1:1"}, "etcd"),
    ],
)
async def test_etcd_goes_before_redis_and_nothing_is_reached_for(tmp_path, settings, kind):
    agreement = open_agreement(Settings(data_dir=tmp_path, **settings), ManualClock())
    assert agreement.kind == kind
    assert (agreement.store is None) == (kind == "single")
    assert agreement.trouble == ""
    await agreement.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_url": "http://127.0.0.1"},
        {"redis_url": "redis://127.0.0.1:port"},
        {"etcd_endpoints": "127.0.0.1:2379"},
        {"etcd_endpoints": "https://127.0.0.1:2379", "etcd_ca": "/nowhere.pem"},
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(tmp_path, settings):
    with pytest.raises(ConfigurationError):
        open_agreement(Settings(data_dir=tmp_path, **settings), ManualClock())
