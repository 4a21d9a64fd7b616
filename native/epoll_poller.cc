// epoll(7).
//
// What the kernel registers is not a descriptor number but the pair (number, open file description). Three facts follow,
// and this file exists to keep them from the layers above:
// 1. Closing a number removes the registration only when it was the last reference to the description. If a duplicate
//    lives on (dup, fork, a spawned child), epoll keeps reporting the old number, and EPOLL_CTL_DEL on it fails, for the
//    number means nothing or something else by now. So every event carries (fd, generation), a stale one is dropped, and
//    when a wait yields nothing but stale events the set is rebuilt from our table, for there is no other way to be rid of them.
// 2. Where nothing holds the description any more the registration is gone silently; EPOLL_CTL_MOD answers ENOENT once the
//    number is in use again. `modify` therefore revalidates, and says so: the caller adds it anew, under another generation, for
//    fact 1 may hold for the old one.
// 3. Files without a poll method give EPERM. select and poll call them always ready, and so do we, as long as they are open.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <climits>

#include "poller.h"
#include "syscalls.h"

namespace onewait {
namespace {

uint64_t token(int fd, uint32_t generation) { return static_cast<uint64_t>(generation) << 32 | static_cast<uint32_t>(fd); }

uint32_t to_epoll(uint32_t events) {
  // RDHUP tells an edge-triggered reader that a short read was not the last: the end is there as well, and will not be news again. So does
  // PRI: recv(2) stops at urgent data, whatever comes behind it.
  return ((events & kRead) ? EPOLLIN : 0u) | ((events & kWrite) ? EPOLLOUT : 0u) | ((events & kEdge) ? EPOLLET | EPOLLRDHUP | EPOLLPRI : 0u);
}

uint32_t from_epoll(uint32_t mask, uint32_t interest) {
  uint32_t events = 0;
  if (mask & ~static_cast<uint32_t>(EPOLLOUT)) events |= kRead;
  if (mask & ~static_cast<uint32_t>(EPOLLIN)) events |= kWrite;
  events &= interest;
  if (events & kRead) events |= interest & kEdge;
  if (events != 0 && (mask & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))) events |= kHangup;
  return events;
}

class EpollPoller final : public Poller {
 public:
  EpollPoller(TraceSlotRef trace, Fd epoll) : Poller(std::move(trace)), epoll_(std::move(epoll)) {}

  bool edges() const override { return true; }
  int fileno() const override { return epoll_.get(); }
  void close() override { epoll_.reset(); }

  int add(int fd, uint32_t events, uint32_t generation) override {
    if (has(fd)) return -EEXIST;
    int result = control(epoll_.get(), EPOLL_CTL_ADD, fd, events, generation);
    // EEXIST although our table has no such registration: a duplicate kept a removed one alive and the number came back.
    if (result == -EEXIST) result = control(epoll_.get(), EPOLL_CTL_MOD, fd, events, generation);
    if (result < 0 && result != -EPERM) return result;
    Registration& registration = slot(fd);
    registration = {generation, events, result == -EPERM};
    if (registration.always_ready) always_ready_.push_back(fd);
    return 0;
  }

  int modify(int fd, uint32_t events) override {
    if (!has(fd)) return -ENOENT;
    Registration& registration = slot(fd);
    const int result = control(epoll_.get(), EPOLL_CTL_MOD, fd, events, registration.generation);
    if (result != (registration.always_ready ? -EPERM : 0)) return result == 0 || result == -EPERM ? -ENOENT : result;
    registration.events = events;
    // It may have been found closed, and be open again.
    if (registration.always_ready && std::ranges::count(always_ready_, fd) == 0) always_ready_.push_back(fd);
    return 0;
  }

  int remove(int fd) override {
    if (!has(fd)) return -ENOENT;
    Registration& registration = slot(fd);
    if (registration.always_ready) std::erase(always_ready_, fd);
    // EBADF, ENOENT and EPERM mean that the number was closed behind our back: the kernel has forgotten it, or fact 1 applies.
    else control(epoll_.get(), EPOLL_CTL_DEL, fd, 0, registration.generation);
    registration = {};
    return 0;
  }

  int wait(int64_t timeout_ns, int most, std::vector<Ready>& ready) override {
    const bool bounded = timeout_ns > 0;
    const uint64_t deadline = bounded ? monotonic_ns() + static_cast<uint64_t>(timeout_ns) : 0;
    std::erase_if(always_ready_, [](int fd) { return ::fcntl(fd, F_GETFD) < 0; });
    for (;;) {
      const int count = wait_once(always_ready_.empty() ? timeout_ns : 0, most);
      if (count < 0) return count;
      const size_t before = ready.size();
      for (int i = 0; i < count; ++i) {
        const int fd = static_cast<int>(events_[i].data.u64 & 0xffffffffu);
        const uint32_t generation = static_cast<uint32_t>(events_[i].data.u64 >> 32);
        if (!has(fd) || table_[fd].generation != generation) continue;
        const uint32_t events = from_epoll(events_[i].events, table_[fd].events);
        if (events != 0) ready.push_back({fd, generation, events});
      }
      for (const int fd : always_ready_) ready.push_back({fd, table_[fd].generation, table_[fd].events & (kRead | kWrite)});
      const int delivered = static_cast<int>(ready.size() - before);
      if (delivered > 0 || count == 0) return delivered;
      // Without a descriptor or memory for that the stale ones stay a while, and must not keep the processor busy.
      if (rebuild() < 0) {
        if (timeout_ns == 0) return 0;
        nap(timeout_ns);
      }
      if (bounded) {
        const uint64_t now = monotonic_ns();
        timeout_ns = now >= deadline ? 0 : static_cast<int64_t>(deadline - now);
      }
    }
  }

 private:
  int control(int epoll, int op, int fd, uint32_t events, uint32_t generation) {
    epoll_event event{};
    event.events = to_epoll(events);
    event.data.u64 = token(fd, generation);
    const double start = trace() ? trace()->now() : 0;
    const int result = static_cast<int>(outcome(::epoll_ctl(epoll, op, fd, &event)));
    if (trace()) trace()->control(start, op, fd, generation, event.events, result);
    return result;
  }

  int wait_once(int64_t timeout_ns, int most) {
    const double start = trace() ? trace()->now() : 0;
    int64_t result = -ENOSYS;
    Syscall call = Syscall::kEpollWait;
    // Whole milliseconds (as far as an int counts them), zero and forever need no epoll_pwait2 (Linux 5.11), which is a little dearer.
    if (timeout_ns > 0 && (timeout_ns % 1'000'000 != 0 || timeout_ns / 1'000'000 > INT_MAX) && has_pwait2_) {
      const timespec timeout = to_timespec(timeout_ns);
      result = outcome(::syscall(SYS_epoll_pwait2, epoll_.get(), events_, most, &timeout, nullptr, 0));
      if (result == -ENOSYS) has_pwait2_ = false;
      else call = Syscall::kEpollPwait2;
    }
    if (result == -ENOSYS) {
      const int64_t ms = timeout_ns < 0 ? -1 : std::min<int64_t>((timeout_ns + 999'999) / 1'000'000, INT_MAX);
      result = outcome(::epoll_wait(epoll_.get(), events_, most, static_cast<int>(ms)));
    }
    if (trace()) trace()->wait(start, call, timeout_ns, result);
    return static_cast<int>(result);
  }

  static void nap(int64_t timeout_ns) {
    constexpr int64_t kNapNs = 10'000'000;
    const timespec time = to_timespec(timeout_ns < 0 ? kNapNs : std::min(timeout_ns, kNapNs));
    ::nanosleep(&time, nullptr);
  }

  /** 0, or -errno, and the set is what it was. */
  int rebuild() {
    Fd fresh(::epoll_create1(EPOLL_CLOEXEC));
    if (fresh.get() < 0) return static_cast<int>(outcome(-1));
    for (size_t fd = 0; fd < table_.size(); ++fd) {
      const Registration& registration = table_[fd];
      if (registration.events == 0 || registration.always_ready) continue;
      const int result = control(fresh.get(), EPOLL_CTL_ADD, static_cast<int>(fd), registration.events, registration.generation);
      // Those that are no more, or are files by now, were closed behind our back.
      if (result < 0 && result != -EBADF && result != -EPERM) return result;
    }
    // dup3 puts the new set under the old number, so that who holds fileno() keeps what they asked for.
    return static_cast<int>(std::min<int64_t>(outcome(::dup3(fresh.get(), epoll_.get(), O_CLOEXEC)), 0));
  }

  Fd epoll_;
  bool has_pwait2_ = true;
  std::vector<int> always_ready_;
  epoll_event events_[kMaxReady];
};

}  // namespace

std::unique_ptr<Poller> make_epoll_poller(TraceSlotRef trace, int* error) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (epoll.get() < 0) {
    *error = static_cast<int>(outcome(-1));
    return nullptr;
  }
  return std::make_unique<EpollPoller>(std::move(trace), std::move(epoll));
}

}  // namespace onewait
