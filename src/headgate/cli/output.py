"""What all commands print with: errors, JSON, tables, and durations as people read them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "console",
    "print_error",
    "print_json",
    "reporting",
    "seconds_text",
    "table",
]

BAD_INPUT = 2
_INTERRUPTED = 130
_WIDE = 160
_OF_THE_LAB = frozenset({"PIL", "aiolimiter", "matplotlib", "plotext", "redis"})


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn a failure inside into its message and an exit code."""
    try:
        yield
    except HeadgateError as error:
        print_error(error)
        raise typer.Exit(BAD_INPUT) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "headgate":
            raise
        extra = "lab" if error.name in _OF_THE_LAB else "server"
        _print_error_line(
            "missing_extra",
            f"this command needs the package {error.name!r}; get it with: "
            f"pip install 'headgate[{extra}]'",
        )
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(_INTERRUPTED) from error
    except BrokenPipeError as error:
        # Whoever read our output has left, as `head` does. Nothing more can be said to it, and at the
        # interpreter's end the flush of what is left must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BAD_INPUT) from error


def print_error(error: HeadgateError) -> None:
    """The error on standard error: one line, or one for each flaw of a policy file."""
    flaws = error.context.get("errors")
    if not isinstance(flaws, list) or len(flaws) < 2:
        _print_error_line(error.code, error.message)
        return
    source = error.message.partition(":")[0]
    for flaw in flaws:
        _print_error_line(error.code, f"{source}:{flaw['line']}: {flaw['message']}")


def _print_error_line(code: str, message: str) -> None:
    label = typer.style(f"error[{code}]:", fg=typer.colors.RED, bold=True)
    typer.echo(f"{label} {printable(message)}", err=True)


def printable(text: str) -> str:
    """Text from elsewhere without what would drive a terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def print_json(value: Any) -> None:
    """For programs: JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def console() -> Console:
    """For people: colours on a terminal only, and long lines where no terminal would cut them."""
    from rich.console import Console

    is_cut = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if is_cut else _WIDE)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Sequence[str] = ()
) -> Table:
    """A table; the columns named in ``right`` are aligned right. Cells are text, not markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return made


def seconds_text(seconds: float) -> str:
    """A duration at a readable precision.

    >>> [seconds_text(value) for value in (0, 0.00042, 0.25, 90, 600, 3600, 1e6)]
    ['0 s', '0.42 ms', '250 ms', '90 s', '10 min', '1 h', '11.6 d']
    """
    for unit, size, until in (
        ("ms", 1e-3, 1),
        ("s", 1, 120),
        ("min", 60, 3600),
        ("h", 3600, 172_800),
    ):
        if 0 < seconds < until:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} d" if seconds else "0 s"
