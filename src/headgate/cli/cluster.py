"""``headgate cluster``: how the nodes stand, by asking one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.options import DEFAULT_URL, AsJson, ServiceToken, Timeout, Url
from headgate.cli.output import console, print_json, printable, seconds_text, table
from headgate.client import Client

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["cluster_app"]

_NOBODY = 1
_STATES = {"up": "green", "down": "bold red", "none": "dim"}

cluster_app = typer.Typer(
    no_args_is_help=True,
    help="Look at the nodes that share limits: who is there, who leads, who holds what.",
    epilog="Example: `headgate cluster status --url http://10.0.0.7:8080`",
    rich_markup_mode="markdown",
)


@cluster_app.command("status", epilog="Example: `headgate cluster status`")
def status(
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """How the nodes stand, as one of them sees it.

    The exit code is 1 when that node is cut off from the others, or from the shared counters.
    """
    with Client(url, token, timeout) as client:
        document = client.cluster()
    agreement, store = document["agreement"], document["store"]
    if as_json:
        print_json(document)
    else:
        _show(document)
    if agreement["trouble"] or store["state"] == "down":
        raise typer.Exit(_NOBODY)


@cluster_app.command("members", epilog="Example: `headgate cluster members --json`")
def members(
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Who is there, and which configuration each has in force.

    Nodes with the same letters in the last column have the same policies and settings.
    """
    with Client(url, token, timeout) as client:
        found = client.members()
    if as_json:
        print_json({"members": found})
    else:
        _show_members(found)


@cluster_app.command("leader", epilog="Example: `headgate cluster leader`")
def leader(
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Who does what one node has to do for all. The exit code is 1 when nobody leads."""
    with Client(url, token, timeout) as client:
        document = client.leader()
    if as_json:
        print_json(document)
    elif document["leader"]:
        typer.echo(printable(document["leader"]))
    else:
        typer.echo("nobody leads at present", err=True)
    if not document["leader"]:
        raise typer.Exit(_NOBODY)


@cluster_app.command("leases", epilog="Example: `headgate cluster leases user:1 --policy api`")
def leases(
    key: Annotated[str, typer.Argument(help="Whose tokens: the dimension 'key'.")],
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="Of this policy only.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Which nodes hold tokens of a key that they drew ahead, and the most that can be held.

    Limits that count by other dimensions are found by what the asked node last saw the key with.
    """
    with Client(url, token, timeout) as client:
        document = client.leases(key, policy)
    if as_json:
        print_json(document)
        return
    if not document["levels"]:
        typer.echo(
            f"nothing is spent of this key under the {document['looked_at']} shared limits that it was "
            "looked up under; limits by other dimensions know it by those"
        )
    for level in document["levels"]:
        _show_level(level)


def _show(document: dict[str, Any]) -> None:
    from rich.text import Text

    agreement, store, configuration = (
        document[name] for name in ("agreement", "store", "configuration")
    )
    typer.echo(
        f"cluster {printable(document['cluster'])}, seen by {printable(document['node'])}; "
        f"leader: {printable(document['leader']) or 'nobody'}"
    )
    rows: list[tuple[str, str | Text]] = [
        ("agreement", _agreement(agreement)),
        ("configuration", f"{configuration['hash']}, {configuration['policies']} policies"),
        ("shared counters", Text(_store(store), style=_STATES.get(store["state"], ""))),
    ]
    if "held" in store:
        rows += [
            ("leases", f"{store['held']:,} tokens of {store['leases']:,} keys held here"),
            (
                "can be stranded",
                f"at most {store['stranded']:,} tokens of these keys, by all nodes",
            ),
            ("degraded decisions", _counts(store["degraded"])),
        ]
    if document.get("pressure"):
        rows.append(("pressure", _pressure(document["pressure"])))
    console().print(table(["", ""], rows))
    _show_members(document["members"])


def _agreement(agreement: dict[str, Any]) -> str:
    if agreement["trouble"]:
        since = seconds_text(agreement["cut_off_for"])
        return f"{agreement['kind']}: cut off for {since}: {agreement['trouble']}"
    return {
        "etcd": "etcd: in touch",
        "redis": "redis: in touch",
        "single": "single: a node on its own",
    }.get(agreement["kind"], str(agreement["kind"]))


def _store(store: dict[str, Any]) -> str:
    if store["state"] == "none":
        return "none: limits are counted on each node"
    since = "" if store["for"] is None else f" for {seconds_text(store['for'])}"
    text = f"{store['state']}{since}; {store['asked']:,} asked, {store['late']:,} too late"
    return f"{text}; failure modes are in force" if store["state"] == "down" else text


def _pressure(found: dict[str, Any]) -> str:
    nodes = found["nodes"]
    here, most = nodes.get(found["node"], 0.0), max(nodes.values(), default=0.0)
    text = f"{here:.2f} here, {most:.2f} at most; {len(nodes)} nodes heard"
    if found["sick"]:
        text += f"; sick: {printable(', '.join(found['sick']))}"
    return text if found["connected"] else f"{text}; its store does not answer"


def _counts(counts: dict[str, int]) -> str:
    some = [f"{count:,} {mode}" for mode, count in counts.items() if count]
    return ", ".join(some) or "none"


def _show_members(found: list[dict[str, Any]]) -> None:
    rows = [
        (
            f"{member['node']} (leads)" if member["leads"] else member["node"],
            member["address"] or "-",
            member["version"],
            str(member["workers"]),
            member["configuration"] or "does not answer",
        )
        for member in found
    ]
    console().print(table(["node", "address", "version", "workers", "configuration"], rows))
    hashes = {member["configuration"] for member in found}
    if len(hashes - {None}) > 1:
        typer.echo("the nodes do not all have the same configuration in force yet")


def _show_level(level: dict[str, Any]) -> None:
    typer.echo(
        f"{printable(level['policy'])}, key {printable(level['key'])}: {level['remaining']:,} remain; "
        f"{level['held']:,} drawn ahead of at most {level['bound']:,}, {level['here']['left']:,} here"
    )
    if level["leases"]:
        rows = [
            (lease["node"], f"{lease['held']:,}", seconds_text(lease["expires_in"]))
            for lease in level["leases"]
        ]
        console().print(table(["node", "held", "for"], rows, right=("held",)))
