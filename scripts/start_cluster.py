"""Run a cluster on this machine until Ctrl-C: `make start-cluster`, ARGS="--nodes 5" for more.

Three nodes, a Valkey or Redis that keeps their counters and an etcd that keeps what they agree on (without
one they agree by Redis). When one of them ends by itself, its log is shown, all stop, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.local_cluster import (
    NO_ETCD,
    ClusterError,
    LocalCluster,
    free_port,
    is_free,
    local_cluster,
)

if TYPE_CHECKING:
    from types import FrameType

REST_PORT = 8081
RESP_PORT = 6381
_LOOK_SECONDS = 0.2

_NEXT = """
Try it, in another terminal:

  # a limit of 5 a minute for each user, told to the first node
  curl -s {first}/api/v1/policies -H 'content-type: application/json' \\
    -d '{{"name": "trial", "limit": 5, "window": "1m", "dimensions": ["user"]}}'
  sleep 1  # for the other nodes to hear of it

  # six questions, spread over the nodes: five may pass, whichever node is asked
  for url in {urls} {urls}; do
    curl -s $url/api/v1/check -H 'content-type: application/json' \\
      -d '{{"key": "ada", "metadata": {{"user": "ada"}}}}'; echo
  done

  {headgate} cluster status --url {first}
  {headgate} cluster members --url {last}

Ctrl-C stops all of it.
"""


def ports_from(first: int, count: int, *, asked: bool) -> list[int]:
    """So many ports in a row; free ones instead where nobody asked for these.

    Raises:
        ClusterError: one that was asked for is taken.
    """
    wanted = range(first, first + count)
    taken = [port for port in wanted if not is_free(port)]
    if not taken:
        return list(wanted)
    if asked:
        raise ClusterError(f"port {taken[0]} is taken; choose others with --port and --resp-port")
    return [free_port() for _ in wanted]


def describe(cluster: LocalCluster) -> str:
    """What runs where, and what to do with it."""
    lines = [f"{node.name:<16} {node.url}  RESP {node.resp_port}" for node in cluster.nodes]
    lines.append(f"{cluster.redis.name:<16} {cluster.redis_url}")
    if cluster.etcd is not None:
        lines.append(f"{'etcd':<16} http://127.0.0.1:{cluster.etcd.port}")
    lines.append(f"{'logs':<16} {cluster.directory}/*/log")
    if cluster.etcd is None:
        lines.append(f"({NO_ETCD})")
    urls = [node.url for node in cluster.nodes]
    headgate = Path(sys.executable).with_name("headgate")
    shown = headgate.relative_to(Path.cwd()) if headgate.is_relative_to(Path.cwd()) else headgate
    hints = _NEXT.format(first=urls[0], last=urls[-1], urls=" ".join(urls[:3]), headgate=shown)
    return "\n".join(lines) + "\n" + hints


def watch(cluster: LocalCluster, stopping: threading.Event) -> None:
    """Until told to stop.

    Raises:
        ClusterError: a part ended by itself.
    """
    while not stopping.wait(_LOOK_SECONDS):
        cluster.require_alive()


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="make start-cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes (default 3)")
    parser.add_argument("--port", type=int, help=f"REST of the first node (default {REST_PORT})")
    parser.add_argument("--resp-port", type=int, help=f"RESP, likewise (default {RESP_PORT})")
    parser.add_argument("--no-etcd", action="store_true", help="agree by Redis, with etcd or not")
    return parser.parse_args()


def main() -> int:
    """Run it; the exit code."""
    options = arguments()
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    # While it starts, a SIGTERM ends it as Ctrl-C does: with everything stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ports = ports_from(options.port or REST_PORT, options.nodes, asked=options.port is not None)
        resp_ports = ports_from(
            options.resp_port or RESP_PORT, options.nodes, asked=options.resp_port is not None
        )
        print(f"starting {options.nodes} nodes ...", flush=True)
        with local_cluster(
            nodes=options.nodes, ports=ports, resp_ports=resp_ports, with_etcd=not options.no_etcd
        ) as cluster:
            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            print(describe(cluster), flush=True)
            watch(cluster, stopping)
            print("stopping ...", flush=True)
    except ClusterError as trouble:
        print(f"start-cluster: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while it started
        return 130
    print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
