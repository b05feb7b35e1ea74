"""``headgate bench``: how fast is it, here?"""

from __future__ import annotations

from typing import Annotated

import typer

from headgate.cli.bench_report import progress_bar, show_load, show_loops
from headgate.cli.options import DEFAULT_URL, AsJson, ServiceToken, Url

__all__ = ["bench_app"]

bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure decisions in this process, and a running service under load.",
    epilog="Example: `headgate bench http --connections 32 --duration 10`",
    rich_markup_mode="markdown",
)
Duration = Annotated[
    float, typer.Option("--duration", "-d", help="Seconds to measure.", min=0.1, max=3600)
]
WarmUp = Annotated[
    float, typer.Option("--warm-up", help="Seconds of load before that.", min=0, max=60)
]
Keys = Annotated[
    int, typer.Option("--keys", "-k", help="How many keys take turns.", min=1, max=1_000_000)
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate",
        "-r",
        help="So many decisions a second, come what may (open loop); else as fast as answers come.",
        min=1,
    ),
]


@bench_app.command("decisions", epilog="Example: `headgate bench decisions --json`")
def bench_decisions(
    duration: Annotated[
        float, typer.Option("--duration", "-d", help="Seconds for each line.", min=0.01, max=60)
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Time decisions inside this process: no service, no network."""
    from headgate.cli.load.inside import time_decisions

    show_loops(time_decisions(duration), as_json=as_json)


@bench_app.command("http", epilog="Example: `headgate bench http --rate 20000 --connections 64`")
def bench_http(  # noqa: PLR0913, PLR0917 - one for each option
    url: Url = DEFAULT_URL,
    token: ServiceToken = None,
    duration: Duration = 10.0,
    warm_up: WarmUp = 1.0,
    connections: Annotated[
        int, typer.Option("--connections", "-c", help="Connections kept open.", min=1, max=10_000)
    ] = 32,
    rate: RateOption = None,
    keys: Keys = 50,
    limit: Annotated[
        int, typer.Option("--limit", help="Of the policy, for each key.", min=1)
    ] = 500,
    window: Annotated[str, typer.Option("--window", help="Of the policy.")] = "1s",
    client: Annotated[
        str, typer.Option("--client", help="Who makes the load: wrk, own, or auto.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Drive POST /api/v1/check of a running service.

    A policy of its own is put in force for the time and deleted afterwards, so the token must have the scope
    admin. wrk makes the load when it is installed and no rate is asked for. With --rate, latencies count from
    when each request was due, so that a stall is charged in full (no coordinated omission).
    """
    from headgate.cli.load.http_run import HttpPlan, run_http

    plan = HttpPlan(url, token, duration, warm_up, connections, rate, keys, limit, window, client)
    with progress_bar(duration, "driving HTTP", quiet=as_json) as progress:
        result = run_http(plan, progress)
    show_load(result, as_json=as_json)


@bench_app.command("resp", epilog="Example: `headgate bench resp --pipeline 64`")
def bench_resp(  # noqa: PLR0913, PLR0917 - one for each option
    host: Annotated[str, typer.Option("--host", help="Where the service is.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", help="Its RESP port.", min=1, max=65535)
    ] = 6380,
    token: ServiceToken = None,
    duration: Duration = 10.0,
    warm_up: WarmUp = 1.0,
    connections: Annotated[
        int, typer.Option("--connections", "-c", help="Connections kept open.", min=1, max=10_000)
    ] = 4,
    pipeline: Annotated[
        int, typer.Option("--pipeline", "-P", help="Commands sent at a time.", min=1, max=4096)
    ] = 64,
    rate: RateOption = None,
    keys: Keys = 10_000,
    burst: Annotated[int, typer.Option("--burst", help="max_burst of CL.THROTTLE.", min=0)] = 99,
    count: Annotated[int, typer.Option("--count", help="count of CL.THROTTLE.", min=1)] = 10,
    period: Annotated[int, typer.Option("--period", help="period of CL.THROTTLE.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Drive CL.THROTTLE of a running service, in pipelines."""
    from headgate.cli.load.resp_run import RespPlan, run_resp

    plan = RespPlan(
        host,
        port,
        token,
        duration,
        warm_up,
        connections,
        pipeline,
        rate,
        keys,
        burst,
        count,
        period,
    )
    with progress_bar(duration, "driving RESP", quiet=as_json) as progress:
        result = run_resp(plan, progress)
    show_load(result, as_json=as_json)
