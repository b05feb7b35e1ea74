"""``headgate serve``: run the check service."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.settings import ENVIRONMENT_PREFIX, Settings

__all__ = ["serve_command"]

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", re.MULTILINE)


def serve_command() -> Any:
    """The command, with an option for each setting, so that none can be forgotten."""

    def serve(**options: object) -> None:
        """Run the check service: REST on one port, RESP on another.

        Every option is also an environment variable. The option wins. Stop it with Ctrl-C or SIGTERM: it
        finishes what was asked, keeps its counters, and ends with exit code 0.
        """
        settings = Settings.load(os.environ, **options)
        from headgate.server import run

        run(settings)

    parameters = [_parameter(setting) for setting in fields(Settings)]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return serve


def _parameter(setting: Field[Any]) -> inspect.Parameter:
    """The option of a setting. What it holds is read by `Settings`, which knows what is allowed."""
    name = setting.name.replace("_", "-")
    flag = isinstance(setting.default, bool)
    source = f"{_default(setting)}env {ENVIRONMENT_PREFIX}{setting.name.upper()}"
    option = typer.Option(
        f"--{name}/--no-{name}" if flag else f"--{name}",
        help=f"{_about(setting.name)} ({source})",
        metavar=None if flag else _metavar(setting),
        show_default=False,
    )
    kind: Any = bool | None if flag else str | None
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, option],
    )


def _about(name: str) -> str:
    """What the docstring of `Settings` says about a setting."""
    about = {found[1]: " ".join(found[2].split()) for found in _ATTRIBUTE.finditer(_docstring())}
    text = about.get(name, "").replace("``", "")
    return text[:1].upper() + text[1:]


def _docstring() -> str:
    return inspect.cleandoc(Settings.__doc__ or "")  # none under -OO


def _default(setting: Field[Any]) -> str:
    value = setting.default
    if value is None or value in ("", Path()):
        return ""
    shown = ("on" if value else "off") if isinstance(value, bool) else value
    return f"default {shown}; "


def _metavar(setting: Field[Any]) -> str:
    if isinstance(setting.default, int | float) or setting.name.endswith("port"):
        return "N"
    return "PATH" if "Path" in str(setting.type) else "TEXT"
