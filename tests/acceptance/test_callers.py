"""Callers that use Headgate hear how a Headgate service copes, on whatever it answers."""

from __future__ import annotations

import httpx
import pytest

from headgate.backpressure.pressure_header import parse_pressure
from headgate.gates.client_throttle import ClientThrottle
from headgate.integrations.httpx import BackpressureTransport
from headgate.testing import ManualClock


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("GET", "/readyz", None),
        ("GET", "/api/v1/backpressure", None),
        ("GET", "/nothing", None),
        ("POST", "/api/v1/check", {"key": "callers:1"}),
        ("POST", "/api/v1/check", {"key": 5}),
    ],
)
def test_every_answer_carries_the_pressure_and_it_is_heard(service, method, path, document):
    heard = []

    class Listening(httpx.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)
            heard.append(response.headers.get("x-pressure", ""))
            return response

    throttle = ClientThrottle(max_hold=None, clock=ManualClock())
    transport = BackpressureTransport(Listening(), throttle=throttle, attempts=1)
    origin = f"http://127.0.0.1:{service.port}"
    with httpx.Client(transport=transport, base_url=origin) as client:
        client.request(method, path, json=document)
    report = parse_pressure(heard[0])
    assert report is not None
    assert throttle.upstreams() == [origin]
    assert throttle.pressure(origin) == report.p
