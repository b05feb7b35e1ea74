"""However many limits, keys and addresses there are, the number of series stays bounded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from headgate.coordination.single_agreement import SingleAgreement
from headgate.engine.engine import Engine
from headgate.gates.features import Features
from headgate.policy.model import Policy
from headgate.server.guarded_store import GuardedStore
from headgate.server.prometheus import exposition
from headgate.server.service import CheckService
from headgate.settings import Settings
from headgate.storage import open_store
from headgate.testing import ManualClock
from headgate.wiring.cluster import Cluster


class Accused:
    def top(self, count: int) -> list[tuple[str, str, int]]:
        return [("p", 'k"\n\\' + "x" * 5_000, 3)][:count]


def context_with(policies: int, **settings: Any) -> Any:
    engine = Engine(ManualClock())
    for number in range(policies):
        name = f"p{number}"
        document = {"name": name, "limit": 1, "window": 60, "match": {"key": name}}
        engine.set_policy(Policy.from_dict(document))
    return SimpleNamespace(
        service=CheckService(engine),
        settings=Settings(**settings),
        top_denied=Accused(),
        version="1",
        lane=None,
        connections=None,
        resp=None,
        answered={},
        store=GuardedStore(open_store("memory://", engine.clock), engine.clock),
        features=Features(),
        cluster=alone(),
    )


def alone() -> Any:
    agreement = SingleAgreement()
    cluster = Cluster("a", agreement)
    return SimpleNamespace(
        cluster=cluster, leads=True, config_age=0.0, changes=1, config_hash=lambda: "00000000000f"
    )


def test_limits_beyond_the_busiest_are_summed_up() -> None:
    context = context_with(policies=1_200)
    for number in range(1_200):
        for _ in range(3 if number >= 200 else 1):
            context.service.check(f"p{number}", 1, {})
    text = exposition(context).decode()
    assert text.count("headgate_decisions_total{") == 2 * 1_001
    assert 'headgate_decisions_total{answer="admitted",limit="(others)"} 200.0' in text
    assert 'headgate_decisions_total{answer="denied",limit="p1199"} 2.0' in text
    assert "headgate_limits 1200.0" in text


def test_a_key_is_escaped_and_cut() -> None:
    text = exposition(context_with(policies=0)).decode()
    [line] = [line for line in text.splitlines() if line.startswith("headgate_top_denied{")]
    assert line.endswith('",limit="p"} 3.0')
    assert 'k\\"\\n\\\\' in line
    assert len(line) < 200


def test_keys_are_not_named_when_that_is_switched_off() -> None:
    assert "headgate_top_denied{" not in exposition(context_with(policies=0, top_keys=0)).decode()
