"""A JSON-RPC node that limits its peers, and leaves one alone that keeps failing.

python examples/peers.py
"""

from __future__ import annotations

from typing import Any

from headgate import PeerLimiter, RateLimited
from headgate.gates.peer import to_jsonrpc

limiter = PeerLimiter(rate=100, burst=200, failure_threshold=3, recovery_timeout=30.0)


def ask(peer: str) -> str:
    """Stands for a call over the network; one of the peers is down."""
    if peer == "node-3":
        raise ConnectionError(f"{peer} does not answer")
    return "pong"


def call(peer: str, request_id: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id}
    try:
        with limiter.guard(peer):
            return answer | {"result": ask(peer)}
    except RateLimited as error:  # CircuitOpen is one too
        return answer | {"error": to_jsonrpc(error)}
    except ConnectionError as error:
        return answer | {"error": {"code": -32000, "message": str(error)}}


def main() -> None:
    for request_id in range(5):
        print(call("node-3", request_id))
    print(call("node-1", 6))
    for peer in limiter.peers():
        print(peer, limiter.circuit_state(peer), limiter.available_tokens(peer))


if __name__ == "__main__":
    main()
