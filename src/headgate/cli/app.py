"""The command line put together: one command after the other, and how their failures are told."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headgate.cli.bench import bench_app
from headgate.cli.check import check
from headgate.cli.cluster import cluster_app
from headgate.cli.doctor import doctor
from headgate.cli.lab import lab_app
from headgate.cli.output import reporting
from headgate.cli.policy import policy_app
from headgate.cli.serve import serve_command
from headgate.cli.token import token_app

__all__ = ["app"]


class _Reporting(TyperGroup):
    """Tells a failure in one line, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        with reporting():
            return super().invoke(ctx)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag
    if wanted:
        typer.echo(f"headgate {sys.modules['headgate'].__version__}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Rate limiting and backpressure: serve decisions, ask for them, look after policies."""


app = typer.Typer(
    cls=_Reporting,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: `headgate serve`, then `headgate check user:1` in another terminal.",
)
app.callback()(_root)
app.command("serve", epilog="Example: `headgate serve --port 9000 --data-dir ./data`")(
    serve_command()
)
app.command(
    "check",
    epilog="Example: `headgate check user:1 --tokens 5 --meta tenant=acme && echo go on`",
)(check)
app.add_typer(policy_app, name="policy")
app.add_typer(token_app, name="token")
app.add_typer(cluster_app, name="cluster")
app.add_typer(bench_app, name="bench")
app.add_typer(lab_app, name="lab")
app.command("doctor", epilog="Example: `headgate doctor --url http://10.0.0.7:8080`")(doctor)
