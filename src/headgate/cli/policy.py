"""``headgate policy``: look after the policies of a running service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.options import DEFAULT_URL, AsJson, ServiceToken, Timeout, Url
from headgate.cli.output import console, print_json, seconds_text, table
from headgate.client import Client
from headgate.errors import InvalidPolicy, Unreachable

if TYPE_CHECKING:
    from headgate.policy.model import Level, Policy

__all__ = ["policy_app"]

policy_app = typer.Typer(
    no_args_is_help=True,
    help="Apply, list, show and delete policies.",
    epilog="Example: `headgate policy apply examples/policies.yaml --dry-run`",
    rich_markup_mode="markdown",
)
Name = Annotated[str, typer.Argument(help="The policy's name.")]


@policy_app.command("apply", epilog="Example: `headgate policy apply policies.yaml`")
def apply_file(
    file: Annotated[
        Path, typer.Argument(help="YAML or JSON; - for standard input.", metavar="FILE")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Create and replace the policies of a file: all of them, or none when one has an error.

    The whole file is read and checked first; errors name file and line. Policies that are not in the
    file stay as they are. Keys keep what they have spent.
    """
    policies = _load(file)
    with Client(url, token, timeout) as client:
        before = _before(client, dry_run=dry_run)
        versions = {} if dry_run else client.apply([policy.document for policy in policies])
    results = [(policy.name, _change(policy, before)) for policy in policies]
    if as_json:
        applied = [{"name": n, "result": r, "version": versions.get(n)} for n, r in results]
        print_json({"policies": applied, "dry_run": dry_run})
        return
    rows = [(name, result, str(versions.get(name, "-"))) for name, result in results]
    console().print(table(["policy", "result", "version"], rows, right=["version"]))
    if dry_run:
        typer.echo("nothing was changed: this was a dry run")


@policy_app.command("list", epilog="Example: `headgate policy list --json`")
def list_policies(
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """List the policies in force."""
    with Client(url, token, timeout) as client:
        documents = client.policies()
    if as_json:
        print_json({"policies": documents})
        return
    if not documents:
        typer.echo("there are no policies yet; apply some with: headgate policy apply FILE")
        return
    columns = ["policy", "counted by", "limit", "burst", "algorithm", "priority"]
    rows = [row for document in documents for row in _rows(document)]
    console().print(table(columns, rows, right=["limit", "burst"]))


@policy_app.command("show", epilog="Example: `headgate policy show api-rate-limit > api.yaml`")
def show(
    name: Name,
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Print one policy as YAML that 'apply' takes."""
    with Client(url, token, timeout) as client:
        document = client.policy(name)
    if as_json:
        print_json(document)
        return
    from headgate.policy.document import dump_policies

    typer.echo(dump_policies([_read(document)]), nl=False)


@policy_app.command("delete", epilog="Example: `headgate policy delete old-limit`")
def delete(
    name: Name,
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 10.0,
) -> None:
    """Take a policy out of force. Its counters are forgotten."""
    with Client(url, token, timeout) as client:
        client.delete(name)
    typer.echo(f"deleted {name}")


def _load(file: Path) -> list[Policy]:
    from headgate.policy.document import MAX_BYTES, load_policies, load_policy_file

    if str(file) == "-":
        return load_policies(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    return load_policy_file(file)


def _before(client: Client, *, dry_run: bool) -> dict[str, dict[str, Any]]:
    """The policies in force, by name; for a dry run without a service, none."""
    try:
        documents = client.policies()
    except Unreachable as error:
        if not dry_run:
            raise
        typer.echo(f"compared with no policies at all: {error.message}", err=True)
        documents = []
    return {document["name"]: document for document in documents}


def _change(policy: Policy, before: dict[str, dict[str, Any]]) -> str:
    if policy.name not in before:
        return "created"
    return "unchanged" if before[policy.name] == policy.to_dict() else "updated"


def _read(document: dict[str, Any]) -> Policy:
    from headgate.policy.model import Policy

    return Policy.from_dict(document)


def _rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line for each level."""
    try:
        policy = _read(document)
    except InvalidPolicy:  # a newer service knows more than this command line
        return [
            (str(document.get("name")), "?", "?", "?", str(document.get("algorithm", "?")), "?")
        ]
    priority = policy.priority if policy.enabled else f"{policy.priority}, disabled"
    return [_row(level, priority) for level in policy.levels]


def _row(level: Level, priority: str) -> tuple[str, ...]:
    rate = level.spec.rate
    window = rate.period or seconds_text(rate.window_ns / 1e9)
    counted = ", ".join(level.dimensions) or "(all together)"
    burst = "-" if rate.burst is None else f"{rate.burst:,}"
    return (level.name, counted, f"{rate.limit:,}/{window}", burst, level.spec.algorithm, priority)
