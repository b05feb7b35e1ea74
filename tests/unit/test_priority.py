"""Names and tiers of priorities."""

from __future__ import annotations

import pytest

from headgate.errors import InvalidInput
from headgate.priority import DEFAULT_TIER, PRIORITIES, TIERS, priority_of, tier_of


def test_names_and_tiers_are_two_words_for_one_thing():
    assert len(PRIORITIES) == TIERS
    for tier, name in enumerate(PRIORITIES):
        assert tier_of(name) == tier_of(tier) == tier
        assert priority_of(tier) == name
    assert priority_of(DEFAULT_TIER) == "normal"


@pytest.mark.parametrize("wrong", ["", "High", "urgent", -1, 4, True, 1.0, None, [], "x" * 10_000])
def test_anything_else_is_refused_in_one_sentence(wrong):
    with pytest.raises(
        InvalidInput, match="priority must be one of critical, high, normal, low"
    ) as caught:
        tier_of(wrong)
    assert len(str(caught.value)) < 300
