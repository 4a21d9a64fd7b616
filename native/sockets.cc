#include "sockets.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <utility>

#include "syscalls.h"

namespace onewait {
namespace {

/** Runs one system call and, when tracing, records it. */
template <typename Call>
int64_t traced(Trace* trace, Syscall name, int fd, int64_t asked, Call call) {
  const double start = trace ? trace->now() : 0;
  const int64_t result = outcome(call());
  if (trace) trace->syscall(start, name, fd >= 0 ? fd : static_cast<int>(result), asked, result);
  return result;
}

bool set_option(int fd, int level, int option, int value) { return ::setsockopt(fd, level, option, &value, sizeof value) == 0; }

int64_t new_socket(Trace* trace, int family) {
  const int protocol = family == AF_UNIX ? 0 : IPPROTO_TCP;
  return traced(trace, Syscall::kSocket, -1, 0, [&] { return ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol); });
}

const sockaddr* name_of(const SocketAddress& address) { return reinterpret_cast<const sockaddr*>(&address.storage); }

/** Closes a socket that is of no use after all. Returns `error`. */
int discard(Trace* trace, Fd socket, int64_t error) {
  const int fd = socket.release();
  traced(trace, Syscall::kClose, fd, 0, [&] { return ::close(fd); });
  return static_cast<int>(error);
}

}  // namespace

bool SocketAddress::parse(const std::string& host, int port) {
  storage = {};
  if (auto* v4 = reinterpret_cast<sockaddr_in*>(&storage); ::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    length = sizeof *v4;
    return true;
  }
  const size_t percent = host.find('%');
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (::inet_pton(AF_INET6, host.substr(0, percent).c_str(), &v6->sin6_addr) != 1) return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(static_cast<uint16_t>(port));
  if (percent != std::string::npos) {
    const std::string scope = host.substr(percent + 1);
    unsigned index = ::if_nametoindex(scope.c_str());
    if (index == 0) std::from_chars(scope.data(), scope.data() + scope.size(), index);
    if (index == 0) return false;
    v6->sin6_scope_id = index;
  }
  length = sizeof *v6;
  return true;
}

bool SocketAddress::parse_local(const std::string& path) {
  storage = {};
  auto* local = reinterpret_cast<sockaddr_un*>(&storage);
  const bool is_file = !path.empty() && path[0] != '\0';
  // A file's path ends with a NUL, a name without a file with the address.
  if (path.empty() || path.size() + (is_file ? 1 : 0) > sizeof local->sun_path) return false;
  local->sun_family = AF_UNIX;
  std::memcpy(local->sun_path, path.data(), path.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (is_file ? 1 : 0));
  return true;
}

Address SocketAddress::format() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
    ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return {text, "IPv4", ntohs(v4->sin_port)};
  }
  if (storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    std::string host = text;
    char name[IF_NAMESIZE];
    if (v6->sin6_scope_id != 0 && ::if_indextoname(v6->sin6_scope_id, name)) host += std::string("%") + name;
    return {host, "IPv6", ntohs(v6->sin6_port)};
  }
  if (storage.ss_family == AF_UNIX) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(&storage);
    const size_t size = length - std::min<size_t>(length, offsetof(sockaddr_un, sun_path));
    const bool is_file = size > 0 && local->sun_path[0] != '\0';
    return {std::string(local->sun_path, is_file ? ::strnlen(local->sun_path, size) : size), "Unix", 0};
  }
  return {};
}

int tcp_listen(Trace* trace, const SocketAddress& address, int backlog, bool reuse_port) {
  Fd fd(static_cast<int>(new_socket(trace, address.storage.ss_family)));
  if (fd.get() < 0) return fd.release();
  // SO_REUSEADDR: a restarted server binds although old connections linger in TIME_WAIT. TCP_NODELAY is inherited by accepted
  // sockets on Linux (tcp(7)), so that it costs no call per connection; a server that answers small messages wants it.
  bool ok = set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1) && set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  if (ok && reuse_port) ok = set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (!ok) return discard(trace, std::move(fd), outcome(-1));
  int64_t result = traced(trace, Syscall::kBind, fd.get(), 0, [&] { return ::bind(fd.get(), name_of(address), address.length); });
  if (result == 0) result = traced(trace, Syscall::kListen, fd.get(), backlog, [&] { return ::listen(fd.get(), backlog); });
  return result < 0 ? discard(trace, std::move(fd), result) : fd.release();
}

int tcp_accept(Trace* trace, int listener, SocketAddress* peer) {
  int64_t result;
  do {
    peer->length = sizeof peer->storage;
    result = traced(trace, Syscall::kAccept4, listener, 0, [&] {
      return ::accept4(listener, reinterpret_cast<sockaddr*>(&peer->storage), &peer->length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    });
  } while (result == -EINTR);
  return static_cast<int>(result);
}

int tcp_connect(Trace* trace, const SocketAddress& address) {
  Fd fd(static_cast<int>(new_socket(trace, address.storage.ss_family)));
  if (fd.get() < 0) return fd.release();
  if (!set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1)) return discard(trace, std::move(fd), outcome(-1));
  const int64_t result = traced(trace, Syscall::kConnect, fd.get(), 0,
                                [&] { return ::connect(fd.get(), name_of(address), address.length); });
  // EINTR: the attempt goes on by itself (connect(2)).
  return result == 0 || result == -EINPROGRESS || result == -EINTR ? fd.release() : discard(trace, std::move(fd), result);
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? static_cast<int>(outcome(-1)) : -error;
}

int socket_name(int fd, bool peer, SocketAddress* address) {
  address->length = sizeof address->storage;
  auto* name = reinterpret_cast<sockaddr*>(&address->storage);
  return static_cast<int>(outcome(peer ? ::getpeername(fd, name, &address->length) : ::getsockname(fd, name, &address->length)));
}

namespace {

/** What is in the way of `address`: 0 when that was the socket file of somebody who is gone, and is gone too now. */
int64_t clear_stale(const SocketAddress& address) {
  const char* path = reinterpret_cast<const sockaddr_un*>(&address.storage)->sun_path;
  if (path[0] == '\0') return -EADDRINUSE;
  struct stat status;
  if (::lstat(path, &status) < 0) return errno == ENOENT ? 0 : outcome(-1);
  if (!S_ISSOCK(status.st_mode)) return -ENOTSOCK;
  const Fd probe(static_cast<int>(new_socket(nullptr, AF_UNIX)));
  if (probe.get() < 0) return probe.get();
  const int64_t result = outcome(::connect(probe.get(), name_of(address), address.length));
  // EAGAIN: so many wait to be accepted that somebody listens indeed. EPROTOTYPE: it is for datagrams.
  if (result == 0 || result == -EAGAIN || result == -EPROTOTYPE) return -EADDRINUSE;
  if (result != -ECONNREFUSED) return result;
  // Another may have removed it meanwhile.
  return ::unlink(path) == 0 || errno == ENOENT ? 0 : outcome(-1);
}

/** Makes the file's mode what it was to be, where the umask has taken of it. */
int64_t widen(const char* path, mode_t mode) {
  struct stat status;
  if (::lstat(path, &status) < 0) return outcome(-1);
  return !S_ISSOCK(status.st_mode) || (status.st_mode & 0777) == mode ? 0 : outcome(::chmod(path, mode));
}

}  // namespace

int local_listen(Trace* trace, const SocketAddress& address, int backlog, mode_t mode) {
  Fd fd(static_cast<int>(new_socket(trace, AF_UNIX)));
  if (fd.get() < 0) return fd.release();
  // The mode of the socket becomes that of the file, less the umask (unix_bind in the kernel): there is no moment at which others may connect.
  if (::fchmod(fd.get(), mode) < 0) return discard(trace, std::move(fd), outcome(-1));
  const auto bind = [&] {
    return traced(trace, Syscall::kBind, fd.get(), 0, [&] { return ::bind(fd.get(), name_of(address), address.length); });
  };
  int64_t result = bind();
  if (result == -EADDRINUSE) {
    result = clear_stale(address);
    if (result == 0) result = bind();
  }
  if (result < 0) return discard(trace, std::move(fd), result);
  // At once: a file with a socket that does not listen is one that somebody has left, to others.
  result = traced(trace, Syscall::kListen, fd.get(), backlog, [&] { return ::listen(fd.get(), backlog); });
  const char* path = reinterpret_cast<const sockaddr_un*>(&address.storage)->sun_path;
  const bool is_file = path[0] != '\0';
  if (result == 0 && is_file) result = widen(path, mode);
  if (result < 0 && is_file) ::unlink(path);
  return result < 0 ? discard(trace, std::move(fd), result) : fd.release();
}

int local_connect(Trace* trace, const SocketAddress& address) {
  Fd fd(static_cast<int>(new_socket(trace, AF_UNIX)));
  if (fd.get() < 0) return fd.release();
  int64_t result;
  do {
    result = traced(trace, Syscall::kConnect, fd.get(), 0, [&] { return ::connect(fd.get(), name_of(address), address.length); });
  } while (result == -EINTR);
  return result < 0 ? discard(trace, std::move(fd), result) : fd.release();
}

}  // namespace onewait
