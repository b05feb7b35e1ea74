"""``headgate check``: may this pass?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.options import DEFAULT_URL, AsJson, ServiceToken, Timeout, Url
from headgate.cli.output import print_json, printable, seconds_text
from headgate.client import Client
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from headgate.decision import Decision

__all__ = ["check"]

_DENIED = 1


def check(  # noqa: PLR0913, PLR0917 - one for each option
    key: Annotated[str, typer.Argument(help="Who is asking: the dimension 'key'. '' for none.")],
    tokens: Annotated[int, typer.Option("--tokens", "-n", help="The cost.", min=0)] = 1,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta", "-m", help="Another dimension, as often as needed.", metavar="NAME=VALUE"
        ),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(
            "--priority", help="critical, high, normal or low; as the policies say when left out."
        ),
    ] = None,
    peek: Annotated[bool, typer.Option("--peek", help="Only ask; spend nothing.")] = False,
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Ask a running service whether a request may pass, and spend its cost if it may.

    The exit code is 0 when it may pass, 1 when not, and 2 when it could not be asked.
    """
    with Client(url, token, timeout) as client:
        ask = client.peek if peek else client.check
        decision = ask(key or None, tokens, _metadata(meta or []), priority)
    if as_json:
        print_json(members(decision))
    else:
        _show(decision)
    if not decision.allowed:
        raise typer.Exit(_DENIED)


def _metadata(pairs: list[str]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            message = f"--meta must be NAME=VALUE, got {pair[:60]!a}; write it like tenant=acme"
            raise InvalidInput(message, field="meta")
        metadata[name] = value
    return metadata


def members(decision: Decision) -> dict[str, Any]:
    """The decision as REST writes it, with its levels."""
    written: dict[str, Any] = {
        "allowed": decision.allowed,
        "policy": decision.policy,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after": None if math.isinf(decision.retry_after) else decision.retry_after,
        "reset_after": decision.reset_after,
        "delay": decision.delay,
    }
    if decision.degraded:
        written["degraded"] = True
    if decision.levels:
        written["levels"] = [members(level) for level in decision.levels]
    return written


def _show(decision: Decision) -> None:
    typer.echo(_line(decision))
    for level in decision.levels:
        typer.echo(f"  {_line(level)}")


def _line(decision: Decision) -> str:
    colour = typer.colors.GREEN if decision.allowed else typer.colors.RED
    answer = typer.style("allowed" if decision.allowed else "denied", fg=colour, bold=True)
    if not decision.policy:
        return f"{answer}  no policy applies; 'headgate policy list' shows those that are in force"
    parts = [f"{decision.remaining} left of {decision.limit}"]
    if decision.window_ns:
        parts[0] += f" per {seconds_text(decision.window_ns / 1e9)}"
    if not decision.allowed:
        parts.append(_retry(decision))
    if decision.delay:
        parts.append(f"wait {seconds_text(decision.delay)} first")
    parts.append(f"all back in {seconds_text(decision.reset_after)}")
    if decision.degraded:
        parts.append("degraded: the shared counters could not be asked")
    return f"{answer}  {printable(decision.policy)}: {', '.join(parts)}"


def _retry(decision: Decision) -> str:
    if decision.never_fits:
        return "can never pass: the cost is above the capacity"
    return f"retry in {seconds_text(decision.retry_after)}"
