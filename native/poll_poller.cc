// poll(2): the whole set is handed to the kernel on every wait, so a wait costs O(descriptors). Kept for the comparison.
//
// The dense array `set_` is what the kernel reads; `position_` finds a descriptor in it, and removing swaps with the last.
#include <fcntl.h>
#include <poll.h>

#include "poller.h"
#include "syscalls.h"

namespace onewait {
namespace {

short to_poll(uint32_t events) { return static_cast<short>(((events & kRead) ? POLLIN : 0) | ((events & kWrite) ? POLLOUT : 0)); }

uint32_t from_poll(int mask, uint32_t interest) {
  uint32_t events = 0;
  if (mask & ~POLLOUT) events |= kRead;
  if (mask & ~POLLIN) events |= kWrite;
  return events & interest;
}

class PollPoller final : public Poller {
 public:
  explicit PollPoller(TraceSlotRef trace) : Poller(std::move(trace)) {}

  int add(int fd, uint32_t events, uint32_t generation) override {
    events &= ~kEdge;
    if (has(fd)) return -EEXIST;
    if (const int result = check_open(fd); result < 0) return result;
    slot(fd) = {generation, events, false};
    if (position_.size() < table_.size()) position_.resize(table_.size());
    position_[fd] = set_.size();
    set_.push_back({fd, to_poll(events), 0});
    return 0;
  }

  int modify(int fd, uint32_t events) override {
    events &= ~kEdge;
    if (!has(fd)) return -ENOENT;
    if (const int result = check_open(fd); result < 0) return result;
    table_[fd].events = events;
    set_[position_[fd]] = {fd, to_poll(events), 0};  // also revives an entry that was found closed
    return 0;
  }

  int remove(int fd) override {
    if (!has(fd)) return -ENOENT;
    table_[fd] = {};
    const size_t hole = position_[fd];
    const pollfd last = set_.back();
    set_.pop_back();
    if (hole < set_.size()) {
      set_[hole] = last;
      position_[last.fd < 0 ? ~last.fd : last.fd] = hole;
    }
    return 0;
  }

  int wait(int64_t timeout_ns, int /* a scan of all is dear: take what it brings */, std::vector<Ready>& ready) override {
    const bool bounded = timeout_ns >= 0;
    const uint64_t deadline = bounded ? monotonic_ns() + static_cast<uint64_t>(timeout_ns) : 0;
    for (;;) {
      const timespec timeout = to_timespec(bounded ? timeout_ns : 0);
      const double start = trace() ? trace()->now() : 0;
      const int result = static_cast<int>(outcome(::ppoll(set_.data(), set_.size(), bounded ? &timeout : nullptr, nullptr)));
      if (trace()) trace()->wait(start, Syscall::kPpoll, timeout_ns, result);
      if (result < 0) return result;
      const int delivered = collect(result, ready);
      if (delivered > 0 || result == 0) return delivered;
      if (bounded) {
        const uint64_t now = monotonic_ns();
        timeout_ns = now >= deadline ? 0 : static_cast<int64_t>(deadline - now);
      }
    }
  }

  void continue_at(int fd) override {
    if (has(fd)) first_ = position_[fd];
  }

 private:
  static int check_open(int fd) { return ::fcntl(fd, F_GETFD) < 0 ? static_cast<int>(outcome(-1)) : 0; }

  int collect(int count, std::vector<Ready>& ready) {
    int delivered = 0;
    const size_t size = set_.size();
    // Starting where the last wait stopped keeps one turn's bound from starving the descriptors at the end of the set.
    for (size_t i = 0; i < size && count > 0 && delivered < kMaxReady; ++i) {
      const size_t at = (first_ + i) % size;
      pollfd& entry = set_[at];
      if (entry.revents == 0) continue;
      --count;
      if (entry.revents & POLLNVAL) {
        entry.fd = ~entry.fd;  // Closed behind our back: a negative number is ignored by the kernel until modify or remove.
        continue;
      }
      const Registration& registration = table_[entry.fd];
      const uint32_t events = from_poll(entry.revents, registration.events);
      if (events == 0) continue;
      ready.push_back({entry.fd, registration.generation, events});
      if (++delivered == kMaxReady) first_ = at + 1;
    }
    return delivered;
  }

  std::vector<pollfd> set_;
  std::vector<size_t> position_;
  size_t first_ = 0;
};

}  // namespace

std::unique_ptr<Poller> make_poll_poller(TraceSlotRef trace) { return std::make_unique<PollPoller>(std::move(trace)); }

}  // namespace onewait
