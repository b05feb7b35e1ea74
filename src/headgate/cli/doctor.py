"""``headgate doctor``: what is here, what answers, what is missing and how to get it."""

from __future__ import annotations

import typer

from headgate.cli.findings import Finder, Finding
from headgate.cli.options import DEFAULT_URL, AsJson, DatabaseUrl, DataDir, ServiceToken, Url
from headgate.cli.output import console, print_json, table

__all__ = ["doctor"]

_BROKEN = 1
_COLOURS = {"ok": "green", "note": "yellow", "broken": "bold red"}


def doctor(
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Look over this installation, and the service if it runs.

    Each line says what was found: ok, a note (something optional is missing, and how to get it), or broken
    (and how to repair it). The exit code is 1 when something needed is broken.
    """
    findings = Finder(url, token, data_dir, database_url).all()
    if as_json:
        print_json({"findings": [one.members() for one in findings]})
    else:
        _show(findings)
    if any(one.state == "broken" for one in findings):
        raise typer.Exit(_BROKEN)


def _show(findings: list[Finding]) -> None:
    from rich.text import Text

    rows = [(one.what, Text(one.state, style=_COLOURS[one.state]), _found(one)) for one in findings]
    console().print(table(["what", "state", "found"], rows))
    broken = sum(one.state == "broken" for one in findings)
    notes = sum(one.state == "note" for one in findings)
    typer.echo(f"{broken} broken, {notes} notes, {len(findings) - broken - notes} ok")


def _found(finding: Finding) -> str:
    return f"{finding.found}\n-> {finding.remedy}" if finding.remedy else finding.found
