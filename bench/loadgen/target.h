// The server's address, and the sockets that connect to it. A connection has a number; where the server is on loopback the
// number decides the source address. For any other host the kernel chooses, as it does for everybody.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "options.h"

class Target {
 public:
  explicit Target(const Options& options) {
    address_.sin_family = AF_INET;
    address_.sin_port = htons(static_cast<uint16_t>(options.port));
    if (inet_pton(AF_INET, options.host.c_str(), &address_.sin_addr) != 1) usage("--host must be an IPv4 address");
    loopback_ = (ntohl(address_.sin_addr.s_addr) >> 24) == 127;
  }

  /**
   * The source address of a connection that stays: on loopback every 8192 get one of their own (127.0.0.2, ...). From one address
   * connect(2) has to search for a free port among ever more taken ones, half a millisecond each near the end, and there are only
   * 28,000.
   */
  static uint32_t source_of(size_t number) { return static_cast<uint32_t>(number / 8192); }

  /** A non-blocking socket without Nagle's delay, or -1 and errno. Source 0 is what the kernel would choose anyway. */
  int socket_from(uint32_t source) const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fd;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!loopback_) return fd;
    // Where the system's is BBR, what leaves is paced by timers, which take more of the generator's core than to send it does.
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kPlain, sizeof kPlain - 1);
    if (source == 0) return fd;
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + source);
    // The port is chosen by connect(2), which knows the other end: it may be in use towards another one.
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from);  // Failing leaves the default address.
    return fd;
  }

  /** Begins to connect. False if that has failed at once; errno says why. */
  bool connect(int fd) const {
    return ::connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_) == 0 || errno == EINPROGRESS;
  }

 private:
  /** A congestion control that every kernel has (tcp(7)). */
  static constexpr char kPlain[] = "reno";

  sockaddr_in address_{};
  bool loopback_ = false;
};

/** What a failed system call is called in the report. */
inline std::string failure_of(const char* call, int error) { return std::string(call) + ": " + std::strerror(error); }
