"""A decision that a service renders comes back as the same decision."""

from __future__ import annotations

import json

import pytest

from headgate.client.decisions import decision_of
from headgate.decision import NEVER, Decision
from headgate.server.render import Renderer, split_tail

SECOND = 10**9
YES = Decision(True, 100, 42, 0, 17_400_000_000, 0, "api", 60 * SECOND)
NO = Decision(False, 10, 0, 1_250_000_000, 9 * SECOND, 0, "b", 10 * SECOND)
QUEUED = Decision(True, 50, 3, 0, 20_000_000, 40_000_000, "queue", SECOND)
NEVER_FITS = Decision(False, 10, 10, NEVER, 0, 0, "c", SECOND)
BOTH = Decision(False, 10, 0, 1_250_000_000, 9 * SECOND, 0, "b", 10 * SECOND, (YES, NO))
UNMATCHED = Decision(True, 0, 0, 0, 0, 0, "", 0)


@pytest.mark.parametrize("sent", [YES, NO, QUEUED, NEVER_FITS, BOTH, UNMATCHED], ids=repr)
def test_it_comes_back_whole(sent):
    fields, body = split_tail(Renderer().check(sent))
    policies = dict(fields).get(b"ratelimit-policy", b"").decode()
    assert decision_of(json.loads(body), policies) == sent
