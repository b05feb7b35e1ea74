"""A way to a store that takes its time: python -m benchmarks.cluster_proxy PORT STORE_PORT SECONDS.

What the store answers is passed on so many seconds later, in order; what is sent to it at once. So the
round trip takes that much longer, and as much may be on its way as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

HOST = "127.0.0.1"


class Way:
    """One connection and its counterpart."""

    def __init__(self, store_port: int, delay: float) -> None:
        self.store_port = store_port
        self.delay = delay

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        store_reader, store_writer = await asyncio.open_connection(HOST, self.store_port)

        def pass_on(data: bytes) -> None:
            if not writer.is_closing():
                writer.write(data)

        async def back() -> None:
            while data := await store_reader.read(1 << 18):
                loop.call_later(self.delay, pass_on, data)
            loop.call_later(self.delay, writer.close)

        answering = loop.create_task(back())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 18):
                store_writer.write(data)
        store_writer.close()
        await asyncio.gather(answering, return_exceptions=True)


async def serve(port: int, store_port: int, delay: float) -> None:
    server = await asyncio.start_server(Way(store_port, delay).lead, HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
