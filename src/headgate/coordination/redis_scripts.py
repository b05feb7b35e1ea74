"""Scripts on a Redis or Valkey: one step that nobody gets in between."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Script"]


@final
class Script:
    """A script of this package, which a store is sent once and then told by its hash.

    Args:
        redis: the driver.
        names: of its file; of several, they are joined in this order.
    """

    def __init__(self, redis: Any, *names: str) -> None:
        self._unknown = redis.exceptions.NoScriptError
        here = files(__package__)
        self.text = "\n".join([(here / name).read_text("utf-8") for name in names])
        # What the store knows a script by; nothing is kept secret with it.
        self._sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @property
    def sha(self) -> str:
        """What a store that has it knows it by."""
        return self._sha

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

    async def run_on_async(self, client: Any, keys: Sequence[bytes], argument: bytes) -> Any:
        """Run it on any number of keys; the answer is bytes, whatever the client was told to decode."""
        try:
            return await client.execute_command(
                "EVALSHA", self._sha, len(keys), *keys, argument, NEVER_DECODE=True
            )
        except self._unknown:
            return await client.execute_command(
                "EVAL", self.text, len(keys), *keys, argument, NEVER_DECODE=True
            )
