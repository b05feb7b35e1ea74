"""Who may use a route: the check that goes before each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import Request

from headgate.server.auth import refuse_foreign_page, token_text

if TYPE_CHECKING:
    from headgate.server.context import Context

__all__ = ["actor_of", "needs"]


def needs(context: Context, scope: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets a caller with this scope pass."""
    gatekeeper = context.gatekeeper

    async def guard(request: Request) -> None:
        headers = request.scope["headers"]
        if not gatekeeper.required:
            refuse_foreign_page(headers)
            return
        token = await gatekeeper.admit(token_text(headers), scope)
        if token is not None:
            request.state.actor = f"{token.name} ({token.prefix})"

    guard.__name__ = f"needs_{scope}"
    return guard


def actor_of(request: Request) -> str:
    """Who makes a change, for the record; "" when the service asks for no token."""
    return str(getattr(request.state, "actor", ""))
