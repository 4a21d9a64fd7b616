// What both C++ servers share: their two options, the descriptor limit and a listening socket that cannot be made to spin.
// Nothing here runs once a connection has been accepted, so it is no part of what is measured.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

struct Address {
  std::string host = "127.0.0.1";
  int port = 0;
};

[[noreturn]] inline void die(const char* what, int error) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(1);
}

inline Address parse_address(int argc, char** argv) {
  Address address;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    char* end = nullptr;
    if (option == "--host" && value != nullptr) {
      address.host = value;
    } else if (option == "--port" && value != nullptr) {
      address.port = static_cast<int>(std::strtol(value, &end, 10));
    }
    const bool bad_port = end != nullptr && (*end != '\0' || address.port < 1 || address.port > 65535);
    if (value == nullptr || bad_port || (option != "--host" && option != "--port")) {
      std::fprintf(stderr, "usage: %s --port PORT [--host ADDRESS]\n", argv[0]);
      std::exit(2);
    }
  }
  return address;
}

/** The soft limit (often 1024) would be the first thing that a thousand connections measure: raise it to the hard one. */
inline void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) die("getrlimit", errno);
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) < 0) die("setrlimit", errno);
}

class Listener {
 public:
  explicit Listener(const Address& address, int flags) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(static_cast<uint16_t>(address.port));
    if (inet_pton(AF_INET, address.host.c_str(), &name.sin_addr) != 1) die(address.host.c_str(), EINVAL);
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd_ < 0) die("socket", errno);
    const int on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) < 0) die("bind", errno);
    if (listen(fd_, SOMAXCONN) < 0) die("listen", errno);
    std::printf("listening on %s:%d\n", address.host.c_str(), address.port);
    std::fflush(stdout);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() {
    close(fd_);
    close(spare_);
  }

  int fd() const { return fd_; }

  /** The next connection with Nagle's delay off, or -errno. EAGAIN: none is waiting. */
  int accept(int flags) {
    int connection;
    do {
      connection = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | flags);
    } while (connection < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (connection < 0) {
      const int error = errno;
      if (error == EMFILE || error == ENFILE) shed();
      return -error;
    }
    const int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connection;
  }

 private:
  /**
   * Out of descriptors, a level-triggered listener stays readable and would spin. The spare descriptor makes room to take
   * one connection out of the queue and close it, so the peer learns of it and the server gets on with the others.
   */
  void shed() {
    close(spare_);
    const int refused = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (refused >= 0) close(refused);
    spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
  }

  int fd_ = -1;
  int spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
};
