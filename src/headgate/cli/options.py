"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.client import DEFAULT_URL

__all__ = ["DEFAULT_URL", "AsJson", "DataDir", "DatabaseUrl", "ServiceToken", "Timeout", "Url"]

Url = Annotated[
    str, typer.Option("--url", envvar="HEADGATE_URL", help="Where the service is.", metavar="URL")
]
ServiceToken = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="HEADGATE_TOKEN",
        help="An API token, if the service wants one. Better in the environment than in your history.",
        metavar="HG_...",
        show_envvar=True,
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds to wait for an answer.", min=0.001, max=3600)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The directory of the service's records. (env HEADGATE_DATA_DIR)",
        metavar="DIR",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="The store of records, when it is not in that directory. (env HEADGATE_DATABASE_URL)",
        metavar="URL",
    ),
]
