// select(2): three bit sets of FD_SETSIZE (1024) descriptors, copied on every wait. Kept for the comparison; it is where the idea began.
#include <fcntl.h>
#include <sys/select.h>

#include <algorithm>

#include "poller.h"
#include "syscalls.h"

namespace onewait {
namespace {

class SelectPoller final : public Poller {
 public:
  explicit SelectPoller(TraceSlotRef trace) : Poller(std::move(trace)) {
    FD_ZERO(&read_);
    FD_ZERO(&write_);
  }

  int add(int fd, uint32_t events, uint32_t generation) override {
    events &= ~kEdge;
    if (has(fd)) return -EEXIST;
    if (fd > kSelectMaxFd) return -EINVAL;
    if (const int result = check_open(fd); result < 0) return result;
    slot(fd) = {generation, events, false};
    set_bits(fd, events);
    return 0;
  }

  int modify(int fd, uint32_t events) override {
    events &= ~kEdge;
    if (!has(fd)) return -ENOENT;
    if (const int result = check_open(fd); result < 0) return result;
    table_[fd].events = events;
    set_bits(fd, events);
    return 0;
  }

  int remove(int fd) override {
    if (!has(fd)) return -ENOENT;
    table_[fd] = {};
    set_bits(fd, 0);
    return 0;
  }

  int wait(int64_t timeout_ns, int /* as in poll_poller.cc */, std::vector<Ready>& ready) override {
    for (;;) {
      fd_set readable = read_;
      fd_set writable = write_;
      // No third set: ERR makes a descriptor readable and writable, HUP makes it readable (the POLLIN_SET and POLLOUT_SET of
      // select(2)), and the third set would add out-of-band data, which nobody here reads.
      const timespec timeout = to_timespec(timeout_ns >= 0 ? timeout_ns : 0);
      const double start = trace() ? trace()->now() : 0;
      const int result = static_cast<int>(
          outcome(::pselect(highest_ + 1, &readable, &writable, nullptr, timeout_ns >= 0 ? &timeout : nullptr, nullptr)));
      if (trace()) trace()->wait(start, Syscall::kPselect6, timeout_ns, result);
      if (result == -EBADF) {
        drop_closed();  // select fails as a whole; the answer is immediate, so retrying costs none of the timeout
        continue;
      }
      if (result < 0) return result;
      int delivered = 0;
      for (int i = 0; i <= highest_; ++i) {
        const int fd = (first_ + i) % (highest_ + 1);
        const uint32_t events = (FD_ISSET(fd, &readable) ? kRead : 0u) | (FD_ISSET(fd, &writable) ? kWrite : 0u);
        if (events == 0) continue;
        ready.push_back({fd, table_[fd].generation, events});
        ++delivered;
      }
      return delivered;
    }
  }

  void continue_at(int fd) override { first_ = fd; }

 private:
  static int check_open(int fd) { return ::fcntl(fd, F_GETFD) < 0 ? static_cast<int>(outcome(-1)) : 0; }

  void set_bits(int fd, uint32_t events) {
    if (events & kRead) FD_SET(fd, &read_); else FD_CLR(fd, &read_);
    if (events & kWrite) FD_SET(fd, &write_); else FD_CLR(fd, &write_);
    if (events != 0) highest_ = std::max(highest_, fd);
    while (highest_ >= 0 && !FD_ISSET(highest_, &read_) && !FD_ISSET(highest_, &write_)) --highest_;
  }

  void drop_closed() {
    for (int fd = highest_; fd >= 0; --fd) {
      if (has(fd) && check_open(fd) < 0) set_bits(fd, 0);
    }
  }

  fd_set read_;
  fd_set write_;
  int highest_ = -1;
  int first_ = 0;
};

}  // namespace

std::unique_ptr<Poller> make_select_poller(TraceSlotRef trace) { return std::make_unique<SelectPoller>(std::move(trace)); }

}  // namespace onewait
