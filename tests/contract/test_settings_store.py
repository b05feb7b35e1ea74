from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headgate.errors import Conflict, InvalidInput

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(store):
    return store.settings


def test_what_was_never_put_is_none(settings):
    assert settings.get("backpressure") is None


def test_what_is_put_can_be_read(settings, clock):
    document = {"load_threshold": 0.8, "levels": [{"level": 1, "multiplier": 0.1}], "é": "\x00"}
    put = settings.put("backpressure", document)
    assert settings.get("backpressure") == put
    assert (put.name, put.document, put.version) == ("backpressure", document, 1)
    clock.advance(2)
    assert settings.put("backpressure", {}).version == 2
    assert settings.get("backpressure").document == {}
    assert settings.get("backpressure").updated_at == START + timedelta(seconds=2)
    assert settings.get("other") is None


def test_a_put_for_another_version_is_refused_with_both_versions(settings):
    settings.put("backpressure", {"a": 1}, expected_version=0)
    settings.put("backpressure", {"a": 2}, expected_version=1)
    for expected in (0, 1, 3, 10**30):
        with pytest.raises(Conflict, match="are at version 2") as caught:
            settings.put("backpressure", {"a": 3}, expected_version=expected)
        assert caught.value.context["expected_version"] == expected
        assert caught.value.context["current_version"] == 2
    assert settings.get("backpressure").document == {"a": 2}


def test_what_the_caller_does_with_its_document_later_changes_nothing(settings):
    document = {"a": [1]}
    settings.put("backpressure", document)
    document["a"].append(2)
    assert settings.get("backpressure").document == {"a": [1]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_json_cannot_say_is_refused(settings, value):
    with pytest.raises(InvalidInput, match="plain JSON"):
        settings.put("backpressure", {"a": value})
    assert settings.get("backpressure") is None
