"""Scripts on a Redis or Valkey: one step that nobody gets in between."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Any, final

__all__ = ["Script"]


@final
class Script:
    """A script of this package, which a store is sent once and then told by its hash.

    Args:
        redis: the driver.
        name: of its file.
    """

    def __init__(self, redis: Any, name: str) -> None:
        self._unknown = redis.exceptions.NoScriptError
        self.text = (files(__package__) / name).read_text("utf-8")
        # What the store knows a script by; nothing is kept secret with it.
        self._sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, *arguments: object) -> Any:
        """Run it on one key, which is the first argument; errors are the driver's."""
        try:
            return client.evalsha(self._sha, 1, *arguments)
        except self._unknown:
            return client.eval(self.text, 1, *arguments)

    async def run_async(self, client: Any, *arguments: object) -> Any:
        """The twin of `run`."""
        try:
            return await client.evalsha(self._sha, 1, *arguments)
        except self._unknown:
            return await client.eval(self.text, 1, *arguments)
