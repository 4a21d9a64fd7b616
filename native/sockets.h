// TCP sockets, and the local one that a running program is looked at through: every descriptor is close-on-exec and non-blocking from birth. Results are values or negative errno.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "trace.h"

namespace onewait {

struct Address {
  std::string host;  // numeric; an IPv6 link-local address carries its %scope
  int family = 0;    // 4 or 6
  int port = 0;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  /** Parses a numeric address. False when `host` is neither IPv4 nor IPv6 (a name: resolve it first). */
  bool parse(const std::string& host, int port);
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
 * Listens on a Unix socket with mode 0600. A socket file that nobody listens on any more gives way. -EADDRINUSE when somebody does, -ENOTSOCK for
 * what is no socket, -ENAMETOOLONG, or what the calls say.
 */
int local_listen(const std::string& path);

}  // namespace onewait
