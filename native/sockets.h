// TCP and Unix sockets: every descriptor is close-on-exec and non-blocking from birth. Results are values or negative errno.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "trace.h"

namespace onewait {

struct Address {
  std::string host;  // numeric; an IPv6 link-local address carries its %scope; the path of a Unix socket, empty for one without a name
  const char* family = "";
  int port = 0;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  /** Parses a numeric address. False when `host` is neither IPv4 nor IPv6 (a name: resolve it first). */
  bool parse(const std::string& host, int port);
  /** The address of a Unix socket: a path, or what follows a NUL, which is a name without a file (unix(7)). False when it is empty or too long. */
  bool parse_local(const std::string& path);
  Address format() const;
};

int tcp_listen(Trace* trace, const SocketAddress& address, int backlog, bool reuse_port);
/** The new connection, or -errno; `peer` receives its address. */
int tcp_accept(Trace* trace, int listener, SocketAddress* peer);
/** Starts connecting; the outcome is known when the descriptor is writable: see socket_error. */
int tcp_connect(Trace* trace, const SocketAddress& address);
/** SO_ERROR of a socket as 0 or -errno, which clears it. */
int socket_error(int fd);
int socket_name(int fd, bool peer, SocketAddress* address);
/**
 * Listens on a Unix socket, whose file is given `mode`. A socket file that nobody listens on any more gives way. -EADDRINUSE when somebody does, -ENOTSOCK for
 * what is no socket, or what the calls say.
 */
int local_listen(Trace* trace, const SocketAddress& address, int backlog, mode_t mode);
/** The socket, which is connected; or -errno: -EAGAIN when so many wait to be accepted that there is no room for another. */
int local_connect(Trace* trace, const SocketAddress& address);

}  // namespace onewait
