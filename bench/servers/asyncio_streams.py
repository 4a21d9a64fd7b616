"""The server in Python's asyncio, with streams: a coroutine per connection. asyncio turns Nagle's delay off by itself."""

import asyncio

from listening import BACKLOG, announce, parse_address, raise_descriptor_limit


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(64 * 1024):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass  # A reset by the peer ends that connection.
    finally:
        writer.close()


async def main() -> None:
    host, port = parse_address()
    server = await asyncio.start_server(echo, host, port, backlog=BACKLOG)
    announce(host, port)
    await server.serve_forever()


raise_descriptor_limit()
asyncio.run(main())
