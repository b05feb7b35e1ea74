"""A load over HTTP from its policy to its figures."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headgate.cli.load.cpu import CpuMeter, busy_machine, cpu_seconds, listener_pid
from headgate.cli.load.drive import Drive
from headgate.cli.load.http_talk import HttpTalk, check_request
from headgate.cli.load.result import LoadResult
from headgate.cli.load.running import run_loop
from headgate.cli.load.wrk import find_wrk, run_wrk
from headgate.client import Client
from headgate.clock import SystemClock
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.policy.model import LimitSpec

__all__ = ["HttpPlan", "run_http"]

_CLIENTS: Final = ("auto", "wrk", "own")
_DIMENSION: Final = "headgate_bench"
_PROCESS_CPU: Final = re.compile(r"^process_cpu_seconds_total (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class HttpPlan:
    """What to do; the fields are the options of ``headgate bench http``."""

    url: str
    token: str | None
    duration: float
    warm_up: float
    connections: int
    rate: float | None
    keys: int
    limit: int
    window: str
    client: str


def run_http(plan: HttpPlan, progress: Callable[[float], None]) -> LoadResult:
    """Carry it out.

    Raises:
        HeadgateError: it could not be done as asked.
    """
    wrk = _choose_wrk(plan)
    loop_kind = f"open loop, {plan.rate:,.0f}/s" if plan.rate else "closed loop"
    result = LoadResult(
        f"{plan.url}: {plan.connections} connections, {loop_kind}, {plan.keys} keys at {plan.limit} per "
        f"{plan.window}, load from {'wrk' if wrk else 'our own client'}"
    )
    if (warning := busy_machine()) is not None:
        result.warnings.append(warning)
    run_id = secrets.token_hex(4)
    bodies = [_body(f"{run_id}-{number}") for number in range(plan.keys)]
    with Client(plan.url, plan.token) as client, _own_policy(client, plan, run_id) as (name, spec):
        measure = _Measure(client, name, spec, plan.keys)
        meter = CpuMeter(measure.cpu)
        if wrk:
            _drive_wrk(wrk, plan, bodies, meter, result, progress)
        else:
            _drive_own(plan, bodies, meter, result, progress)
        result.allowed = measure.allowed(result.span)
        result.admitted_in_all = measure.admitted()
    return result


def _choose_wrk(plan: HttpPlan) -> str | None:
    """The program, when it should make the load."""
    if plan.client not in _CLIENTS:
        message = f"--client must be one of {', '.join(_CLIENTS)}, got {plan.client[:40]!a}"
        raise InvalidInput(message, field="client")
    wrk = find_wrk() if plan.client != "own" else None
    if plan.client == "wrk" and wrk is None:
        message = "wrk is not on PATH; get it with: apt-get install wrk, or use --client own"
        raise InvalidInput(message, field="client")
    if plan.rate is not None:
        if plan.client == "wrk":
            message = "wrk knows no fixed rate; leave out --rate, or use --client own"
            raise InvalidInput(message, field="rate")
        return None
    if plan.url.startswith("https:") and wrk is None:
        message = "our own client speaks no TLS; install wrk, or name an http address"
        raise InvalidInput(message, field="url")
    return wrk


@contextlib.contextmanager
def _own_policy(client: Client, plan: HttpPlan, run_id: str) -> Iterator[tuple[str, LimitSpec]]:
    """A policy that applies to this run's checks alone, in force for the block."""
    from headgate.policy.model import Policy

    name = f"headgate-bench-{run_id}"
    document = {
        "name": name,
        "description": "Made by headgate bench, which deletes it when it ends.",
        "limit": plan.limit,
        "window": plan.window,
        "dimensions": [_DIMENSION],
        "match": {_DIMENSION: f"{run_id}-*"},
    }
    spec = Policy.from_dict(document).levels[0].spec
    client.apply([document])
    try:
        yield name, spec
    finally:
        client.delete(name)


def _body(value: str) -> bytes:
    return json.dumps({"metadata": {_DIMENSION: value}}, separators=(",", ":")).encode()


class _Measure:
    """The server's side of the figures: what it admitted, and its processor time."""

    def __init__(self, client: Client, policy: str, spec: LimitSpec, keys: int) -> None:
        self._client = client
        self._spec = spec
        self._keys = keys
        self._admitted = re.compile(
            rf'^headgate_decisions_total{{answer="admitted",limit="{re.escape(policy)}"}} (\S+)'
            rf'|^headgate_decisions_total{{limit="{re.escape(policy)}",answer="admitted"}} (\S+)',
            re.MULTILINE,
        )
        host, port = _address(client.url)
        self._pid = listener_pid(host, port)

    def cpu(self) -> float | None:
        """The server's processor time: from the system when it is here, else as it tells itself."""
        if self._pid is not None:
            return cpu_seconds(self._pid)
        found = _PROCESS_CPU.search(self._client.metrics())
        return float(found[1]) if found else None

    def admitted(self) -> int | None:
        """What the policy has admitted so far, as the service counts it."""
        found = self._admitted.search(self._client.metrics())
        return round(float(found[1] or found[2])) if found else None

    def allowed(self, seconds: float) -> int:
        """The most that all keys together may be admitted in so many seconds, from full buckets."""
        rate = self._spec.rate
        return self._keys * (rate.capacity + int(seconds * 1e9 * rate.limit / rate.window_ns))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _drive_wrk(
    program: str,
    plan: HttpPlan,
    bodies: list[bytes],
    meter: CpuMeter,
    result: LoadResult,
    progress: Callable[[float], None],
) -> None:
    meter.start()
    figures = run_wrk(
        program,
        f"{plan.url.rstrip('/')}/api/v1/check",
        bodies,
        token=plan.token,
        connections=plan.connections,
        seconds=plan.duration,
        progress=progress,
    )
    result.seconds = result.span = figures["seconds"]
    meter.stop(result, result.seconds)
    result.decisions = figures["answers"]
    result.admitted = figures["answers"] - figures["not_ok"]
    result.errors = figures["broken"]
    result.p50, result.p99, result.p999 = figures["p50"], figures["p99"], figures["p999"]


def _drive_own(
    plan: HttpPlan,
    bodies: list[bytes],
    meter: CpuMeter,
    result: LoadResult,
    progress: Callable[[float], None],
) -> None:
    host, port = _address(plan.url)
    requests = [check_request(f"{host}:{port}", body, plan.token) for body in bodies]

    async def run() -> None:
        drive = Drive(SystemClock(), plan.rate)
        talks = [HttpTalk(requests, number) for number in range(plan.connections)]
        await drive.connect(host, port, talks)
        await drive.run(plan.warm_up, plan.duration, meter, result, progress)

    run_loop(run())
