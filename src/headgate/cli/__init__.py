"""The door for people: what can one type?

``headgate serve`` runs the service; ``check``, ``policy``, ``token``, ``bench`` and ``doctor`` use it. There
is one file for each. Output is for people unless ``--json`` asks otherwise. The exit code is 0 for yes, 1
for no, and 2 when the question could not be asked, with ``error[code]: message`` on standard error and never
a traceback.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        from headgate.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich", "click"}:
            raise
        sys.stderr.write(
            f"error[missing_extra]: the command line needs the package {error.name!r}; "
            "get it with: pip install 'headgate[server]'\n"
        )
        sys.exit(2)
    app(prog_name="headgate")
