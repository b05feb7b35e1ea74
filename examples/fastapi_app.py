"""A FastAPI app with a limit around everything, and tighter ones where it hurts.

uvicorn --app-dir examples fastapi_app:app
for i in 1 2 3 4; do curl -si localhost:8000/search -H 'x-api-key: a' | grep -iE '^HTTP|limit|retry'; done
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Header, WebSocket

from headgate import Decision  # noqa: TC001 - FastAPI reads it at run time
from headgate.integrations.asgi import RateLimitMiddleware
from headgate.integrations.fastapi import RESPONSES, RateLimit, by_header

PLANS = {"free": "2/minute", "paid": "100/minute"}

app = FastAPI(title="Limited", responses=RESPONSES)

# Around all of it, by client address. Behind a proxy, name it: trusted_proxies=["10.0.0.0/8"].
app.add_middleware(RateLimitMiddleware, limit="600/minute", burst=100, name="address")


@app.get(
    "/search",
    dependencies=[Depends(RateLimit("3/minute", key=by_header("X-API-Key"), missing="anonymous"))],
)
async def search(q: str = "") -> dict[str, str]:
    return {"q": q}


async def account(x_account: Annotated[str, Header()]) -> str:
    """Stands for finding out who is calling."""
    return x_account


reports = RateLimit(
    lambda request: PLANS[request.headers.get("x-plan", "free")],
    key=Depends(account),
    name="reports",
)


@app.post("/reports")
async def report(decision: Annotated[Decision, Depends(reports)]) -> dict[str, int]:
    return {"left": decision.remaining}


@app.websocket("/live")
async def live(
    websocket: WebSocket, _: Annotated[Decision, Depends(RateLimit("10/minute", name="live"))]
) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()
