"""The server in Python on uvloop, libuv as asyncio's loop, with a protocol: a callback per chunk.

uvloop turns Nagle's delay off by itself, and closes a connection whose peer has ended once all has been written.
"""

import asyncio

import uvloop
from listening import BACKLOG, announce, parse_address, raise_descriptor_limit


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def main() -> None:
    host, port = parse_address()
    server = await asyncio.get_running_loop().create_server(Echo, host, port, backlog=BACKLOG)
    announce(host, port)
    await server.serve_forever()


raise_descriptor_limit()
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
