"""``headgate token``: make, list and revoke API tokens, in the service's own records.

It works on the store and not through the service, because the first token must come from somewhere. A
running service learns of it within seconds. Where the environment names an etcd or a Redis, the store is that
of the cluster.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.options import AsJson, DatabaseUrl, DataDir
from headgate.cli.output import console, print_json, table
from headgate.errors import InvalidRate

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from headgate.engine.ports import Store, Token

__all__ = ["token_app"]

token_app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke API tokens.",
    epilog="Example: `headgate token create deploy --scope admin --expires 90d`",
    rich_markup_mode="markdown",
)


@token_app.command("create", epilog="Example: `headgate token create gateway --scope check`")
def create(
    name: Annotated[str, typer.Argument(help="What to call it, such as who will use it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", "-s", help="check, read or admin, as often as needed; check when left out."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="After so long, such as 90d or 12h; else never.")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once.

    check asks for decisions, read reads policies and metrics, admin may everything. Once there is a
    token, every caller of the service needs one.
    """
    expires_at = None if expires is None else _now() + _duration(expires)
    with _store(data_dir, database_url) as store:
        issued = store.tokens.create(name, scope or ["check"], expires_at)
    if as_json:
        print_json({**_members(issued.token), "token": issued.text})
        return
    typer.echo(issued.text)
    until = f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "until it is revoked"
    scopes = ", ".join(sorted(issued.token.scopes))
    typer.echo(
        f"Token {issued.token.id} for {scopes}, valid {until}. It is shown this once: only its hash is kept.",
        err=True,
    )


@token_app.command("list", epilog="Example: `headgate token list`")
def list_tokens(
    data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """List all tokens, revoked and expired ones included. Secrets are not kept and not shown."""
    with _store(data_dir, database_url) as store:
        tokens = store.tokens.list()
    if as_json:
        print_json({"tokens": [_members(token) for token in tokens]})
        return
    if not tokens:
        typer.echo("there are no tokens; make one with: headgate token create NAME")
        return
    rows = [_row(token) for token in tokens]
    console().print(table(["id", "name", "scopes", "state", "created", "last used"], rows))


@token_app.command("revoke", epilog="Example: `headgate token revoke 1f2e3d4c5b6a`")
def revoke(
    token_id: Annotated[str, typer.Argument(help="The id that 'list' shows.", metavar="ID")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Refuse a token from now on. A running service learns of it within seconds."""
    with _store(data_dir, database_url) as store:
        token = store.tokens.revoke(token_id.removeprefix("hg_"))
    typer.echo(f"revoked {token.id} ({token.name})")


def _store(data_dir: Path | None, database_url: str | None) -> AbstractContextManager[Store]:
    from headgate.settings import Settings
    from headgate.wiring.records import open_records

    settings = Settings.load(os.environ, data_dir=data_dir, database_url=database_url)
    return open_records(settings)


def _duration(text: str) -> timedelta:
    from headgate.rate import parse_window

    try:
        window_ns, _ = parse_window(text)
    except InvalidRate as error:
        message = f"--expires: {error.message}"
        raise InvalidRate(message, field="expires") from error
    return timedelta(microseconds=window_ns // 1000)


def _now() -> datetime:
    from headgate.clock import SystemClock

    return datetime.fromtimestamp(SystemClock().wall_ns() / 1e9, UTC)


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return f"revoked {_day(token.revoked_at)}"
    if not token.active_at(_now()):
        return f"expired {_day(token.expires_at)}"
    return f"valid until {_day(token.expires_at)}" if token.expires_at else "valid"


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _row(token: Token) -> tuple[str, ...]:
    scopes = ", ".join(sorted(token.scopes))
    return (
        token.id,
        token.name,
        scopes,
        _state(token),
        _day(token.created_at),
        _day(token.last_used_at),
    )


def _members(token: Token) -> dict[str, Any]:
    moments = ("created_at", "expires_at", "revoked_at", "last_used_at")
    dates = {name: getattr(token, name) for name in moments}
    written = {name: value.isoformat() if value else None for name, value in dates.items()}
    return {"id": token.id, "name": token.name, "scopes": sorted(token.scopes), **written}
