"""A load over RESP from its commands to its figures."""

from __future__ import annotations

import re
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headgate.cli.load.cpu import CpuMeter, busy_machine, cpu_seconds, listener_pid
from headgate.cli.load.drive import Drive
from headgate.cli.load.resp_talk import RespTalk, command
from headgate.cli.load.result import LoadResult
from headgate.cli.load.running import run_loop
from headgate.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RespPlan", "run_resp"]

_PIPELINES: Final = 256
_CPU: Final = re.compile(rb"used_cpu_(?:sys|user):([0-9.]+)")


@dataclass(frozen=True)
class RespPlan:
    """What to do; the fields are the options of ``headgate bench resp``."""

    host: str
    port: int
    token: str | None
    duration: float
    warm_up: float
    connections: int
    pipeline: int
    rate: float | None
    keys: int
    burst: int
    count: int
    period: int


def run_resp(plan: RespPlan, progress: Callable[[float], None]) -> LoadResult:
    """Carry it out.

    Raises:
        HeadgateError: it could not be done as asked.
    """
    loop_kind = f"open loop, {plan.rate:,.0f}/s" if plan.rate else "closed loop"
    result = LoadResult(
        f"{plan.host}:{plan.port}: {plan.connections} connections, {loop_kind}, pipelines of "
        f"{plan.pipeline}, {plan.keys} keys, CL.THROTTLE {plan.burst} {plan.count} {plan.period}"
    )
    if (warning := busy_machine()) is not None:
        result.warnings.append(warning)
    pid = listener_pid(plan.host, plan.port)
    meter = CpuMeter(lambda: _told_cpu(plan) if pid is None else cpu_seconds(pid))
    run_loop(_drive(plan, meter, result, progress))
    refilled = int(result.span * plan.count / plan.period)
    result.allowed = plan.keys * (plan.burst + 1 + refilled)
    return result


async def _drive(
    plan: RespPlan, meter: CpuMeter, result: LoadResult, progress: Callable[[float], None]
) -> None:
    pipelines = _pipelines(plan)
    greeting = command("AUTH", plan.token) if plan.token else b""
    # A rate is of decisions, and a request is a pipeline of them.
    drive = Drive(SystemClock(), plan.rate / plan.pipeline if plan.rate else None)
    apart = len(pipelines) // plan.connections
    talks = [
        RespTalk(pipelines, plan.pipeline, number * apart, greeting)
        for number in range(plan.connections)
    ]
    await drive.connect(plan.host, plan.port, talks)
    await drive.run(plan.warm_up, plan.duration, meter, result, progress)
    result.admitted_in_all = drive.admitted_in_all


def _pipelines(plan: RespPlan) -> list[bytes]:
    """Enough different ones for every key to have its turn, within reason."""
    run_id = secrets.token_hex(4)
    numbers = (str(plan.burst), str(plan.count), str(plan.period))
    wanted = max(plan.connections, min(_PIPELINES, -(-plan.keys // plan.pipeline)))
    made = []
    for first in range(wanted):
        keys = ((first * plan.pipeline + place) % plan.keys for place in range(plan.pipeline))
        commands = [command("CL.THROTTLE", f"bench:{run_id}:{key}", *numbers) for key in keys]
        made.append(b"".join(commands))
    return made


def _told_cpu(plan: RespPlan) -> float | None:
    """The server's processor time as INFO tells it; None when it does not."""
    try:
        with socket.create_connection((plan.host, plan.port), timeout=5) as connection:
            greeting = command("AUTH", plan.token) if plan.token else b""
            connection.sendall(greeting + command("INFO", "cpu") + command("QUIT"))
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
    except OSError:
        return None
    found = [float(value) for value in _CPU.findall(answer)]
    return sum(found) if len(found) == 2 else None
