"""How do others ask us?

The check service. REST (FastAPI on uvicorn) and RESP are two doors to one `CheckService`, on one event
loop; `check` over HTTP has a fast lane ahead of ASGI. `run` starts it all, and returns once a signal came
and everything is drained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.settings import Settings

__all__ = ["run"]


def run(settings: Settings) -> None:
    """Serve until a signal comes, and all is drained.

    Raises:
        ConfigurationError: the service cannot start as it is configured.
    """
    # Whoever needs a part of this package, such as the renderer, need not load all of it.
    if settings.workers > 1:
        from headgate.server.workers import run_workers  # noqa: PLC0415

        run_workers(settings)
    else:
        from headgate.server.lifecycle import run as run_service  # noqa: PLC0415

        run_service(settings)
