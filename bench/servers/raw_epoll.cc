// The floor for servers that make a system call for each step: what an echo costs when nothing but the kernel is paid for. One thread,
// level-triggered epoll, and per echo one read(2), one write(2) and a share of one epoll_wait(2).
//
// Deliberately absent: timers, logging, buffers per connection. A buffer is kept only for a peer that does not read fast
// enough; while one is kept that peer is not read from either (backpressure), so memory stays bounded.

#include <sys/epoll.h>

#include <array>
#include <csignal>
#include <vector>

#include "listener.h"

namespace {

class EchoServer {
 public:
  explicit EchoServer(const Address& address) : listener_(address, SOCK_NONBLOCK) {
    if (epoll_ < 0) die("epoll_create1", errno);
    control(EPOLL_CTL_ADD, listener_.fd(), EPOLLIN);
  }

  [[noreturn]] void serve() {
    for (;;) {
      const int ready = epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), -1);
      if (ready < 0 && errno != EINTR) die("epoll_wait", errno);
      for (int i = 0; i < ready; i++) {
        const int fd = events_[static_cast<size_t>(i)].data.fd;
        if (fd == listener_.fd()) accept_all();
        else if (owed(fd)) pay(fd);
        else echo(fd);
      }
    }
  }

 private:
  void control(int operation, int fd, uint32_t interest) {
    epoll_event event{};
    event.events = interest;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, operation, fd, &event) < 0) die("epoll_ctl", errno);
  }

  void accept_all() {
    for (;;) {
      const int fd = listener_.accept(SOCK_NONBLOCK);
      if (fd < 0) return;
      control(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
  }

  void echo(int fd) {
    const ssize_t received = read(fd, buffer_.data(), buffer_.size());
    if (received <= 0) {
      // 0 is the peer's end; an error (a reset, mostly) ends the connection just the same.
      if (received == 0 || (errno != EAGAIN && errno != EINTR)) close(fd);
      return;
    }
    const size_t size = static_cast<size_t>(received);
    const ssize_t sent = write(fd, buffer_.data(), size);
    if (sent == received) return;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      close(fd);
      return;
    }
    const char* rest = buffer_.data() + (sent < 0 ? 0 : sent);
    if (owed_.size() <= static_cast<size_t>(fd)) owed_.resize(static_cast<size_t>(fd) + 1);
    owed_[static_cast<size_t>(fd)].assign(rest, static_cast<const char*>(buffer_.data() + size));
    control(EPOLL_CTL_MOD, fd, EPOLLOUT);
  }

  bool owed(int fd) const {
    return static_cast<size_t>(fd) < owed_.size() && !owed_[static_cast<size_t>(fd)].empty();
  }

  /** Writes what an earlier echo could not; when nothing is left the connection is read again. */
  void pay(int fd) {
    std::vector<char>& rest = owed_[static_cast<size_t>(fd)];
    const ssize_t sent = write(fd, rest.data(), rest.size());
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (sent > 0) rest.erase(rest.begin(), rest.begin() + sent);
    if (sent >= 0 && !rest.empty()) return;
    // The number may belong to another connection next: nothing may be left of this one.
    std::vector<char>().swap(rest);
    if (sent < 0) close(fd);
    else control(EPOLL_CTL_MOD, fd, EPOLLIN);
  }

  Listener listener_;
  int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 256> events_{};
  std::array<char, 64 * 1024> buffer_{};
  std::vector<std::vector<char>> owed_;
};

}  // namespace

int main(int argc, char** argv) {
  const Address address = parse_address(argc, argv);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);  // Writing to a peer that has gone is an EPIPE of that connection, not our end.
  EchoServer server(address);
  server.serve();  // SIGTERM and SIGINT keep their default action: there is nothing to save.
}
