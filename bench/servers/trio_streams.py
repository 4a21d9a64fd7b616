"""The server in Python's trio: a task per connection in one nursery. trio turns Nagle's delay off by itself, and closes a
connection when its task has ended."""

import trio
from listening import BACKLOG, announce, parse_address, raise_descriptor_limit


async def echo(stream: trio.SocketStream) -> None:
    try:
        async for chunk in stream:
            await stream.send_all(chunk)
    except trio.BrokenResourceError:
        pass  # A reset by the peer ends that connection; raised further, it would end the nursery with all the others.


async def main() -> None:
    host, port = parse_address()
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    announce(host, port)
    await trio.serve_listeners(echo, listeners)


raise_descriptor_limit()
trio.run(main)
