"""The text of INFO: the fields that Redis tools look for, and Headgate's own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_SECOND

if TYPE_CHECKING:
    from headgate.server.resp_door import RespDoor

__all__ = ["describe"]

# Clients choose features by this number; it says which protocol is spoken, not what is running.
REDIS_VERSION: Final = "7.0.0"


def describe(door: RespDoor, wanted: set[str]) -> str:
    """The sections that are wanted; all when none is named."""
    sections: dict[str, dict[str, object]] = {
        "server": _server(door),
        "clients": {"connected_clients": door.connections},
        "stats": _stats(door),
        "cpu": _cpu(),
        "headgate": _headgate(door),
    }
    lines = []
    for name, values in sections.items():
        if not wanted or name in wanted:
            lines.append(f"# {name.capitalize()}")
            lines += [f"{key}:{value}" for key, value in values.items()]
            lines.append("")
    return "\r\n".join(lines)


def _server(door: RespDoor) -> dict[str, object]:
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": "standalone",
        "headgate_version": door.version,
        "python_version": sys.version.split(maxsplit=1)[0],
        "process_id": os.getpid(),
        "uptime_in_seconds": (door.now_ns() - door.started_ns) // NS_PER_SECOND,
        "loading": 0,
    }


def _stats(door: RespDoor) -> dict[str, object]:
    return {
        "total_connections_received": door.accepted,
        "total_commands_processed": door.commands,
        "rejected_connections": door.refused,
        "malformed_connections": door.malformed,
        "timed_out_connections": door.timed_out,
    }


def _cpu() -> dict[str, object]:
    times = os.times()
    return {"used_cpu_sys": f"{times.system:.6f}", "used_cpu_user": f"{times.user:.6f}"}


def _headgate(door: RespDoor) -> dict[str, object]:
    table = door.throttles.table.stats()
    overload = door.service.overload
    return {
        "keys": table.keys,
        "max_keys": table.max_keys,
        "forgotten_keys": table.forgotten,
        "evicted_keys": table.evicted,
        "overflowed_checks": table.overflowed,
        "throttle_limits": len(door.throttles),
        "throttle_admitted": door.throttles.admitted,
        "throttle_denied": door.throttles.denied,
        "pressure": f"{overload.pressure:.2f}",
        "shed_requests": sum(overload.shed),
    }
