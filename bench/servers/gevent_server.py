"""The server in Python's gevent: a greenlet per connection, which blocks in `recv` and `sendall` as far as it can tell."""

import socket

from gevent.server import StreamServer
from listening import BACKLOG, announce, parse_address, raise_descriptor_limit


def echo(connection: socket.socket, _address: object) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while chunk := connection.recv(64 * 1024):
            connection.sendall(chunk)
    except OSError:
        pass  # A reset by the peer ends that connection.


raise_descriptor_limit()
server = StreamServer(parse_address(), echo, backlog=BACKLOG)
server.start()
announce(*server.address)
server.serve_forever()
