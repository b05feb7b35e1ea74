"""What every process of the service sets up for itself: its log, its event loop, its memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.settings import Settings

__all__ = ["announce", "configure_logging", "loop_factory", "settle_memory"]


def configure_logging(level: str, who: str = "") -> None:
    """Log to standard error; ``who`` stands in every line."""
    name = f"[{who}] " if who else ""
    logging.basicConfig(
        level=level.upper(), format=f"%(asctime)s %(levelname)s {name}%(name)s: %(message)s"
    )
    # These tell of every malformed request; `headgate_http_*` counts them.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # One line for each question to an etcd would leave no room for anything else.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def announce(
    settings: Settings, version: str, ports: tuple[int, int | None], *, policies: int
) -> None:
    """Say on standard output that the service serves, and where; ``ports`` are REST's and RESP's."""
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port, resp_port = ports
    resp = f", RESP on port {resp_port}" if resp_port else ""
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    sys.stdout.write(
        f"headgate {version} serves {scheme}://{host}:{port}{resp}{workers}; "
        f"{policies} policies, data in {settings.data_dir}\n"
    )
    sys.stdout.flush()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    return uvloop.new_event_loop


def settle_memory() -> None:
    """What was loaded so far stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
