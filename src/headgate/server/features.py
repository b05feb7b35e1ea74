"""What the service leaves out under pressure, so that checks go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.gates.features import Features

if TYPE_CHECKING:
    from headgate.engine.ports import DenialObserver
    from headgate.gates.features import FeatureState
    from headgate.server.overload import Overload
    from headgate.server.resp_throttle import ThrottleBook
    from headgate.server.service import CheckService

__all__ = ["RECENT_KEYS", "REFERENCE", "TOP_DENIED", "own_features"]

REFERENCE: Final = "reference"
"""``/docs`` and ``/openapi.json``: the first of them takes the loop tens of milliseconds to write."""

TOP_DENIED: Final = "top_denied"
"""Counting who is denied most."""

RECENT_KEYS: Final = "recent_keys"
"""Remembering the metadata that keys came with, by which the usage of a key is read."""

_HOLD_SECONDS: Final = 5.0


def own_features(
    overload: Overload,
    service: CheckService,
    throttles: ThrottleBook,
    observer: DenialObserver | None,
) -> Features:
    """The features of a service."""
    features = Features(lambda: overload.pressure, clock=service.engine.clock)
    features.add(REFERENCE, off_at="high", hold=_HOLD_SECONDS)
    if observer is not None:
        features.add(TOP_DENIED, off_at="critical", hold=_HOLD_SECONDS)
    features.add(RECENT_KEYS, off_at="critical", hold=_HOLD_SECONDS)
    features.subscribe(_Switch(service, throttles, observer))
    return features


@final
class _Switch:
    """Carries out what goes on and off."""

    def __init__(
        self, service: CheckService, throttles: ThrottleBook, observer: DenialObserver | None
    ) -> None:
        self._service = service
        self._throttles = throttles
        self._observer = observer

    def __call__(self, state: FeatureState) -> None:
        if state.name == RECENT_KEYS:
            self._service.remembers = state.on
        elif state.name == TOP_DENIED:
            observer = self._observer if state.on else None
            self._service.engine.observe_denials(observer)
            self._throttles.observe_denials(observer)
