// The contract of the three pollers. test/selectors.test.ts runs one list of scenarios on all of them.
//
// - Level-triggered: readiness is reported on every wait until it is consumed or no longer asked for.
// - A registration is (fd, generation). `wait` reports a registration only while it is current: an event that the
//   kernel still holds for a removed or replaced registration is dropped here and never reaches JavaScript.
// - HUP and ERR wake whatever the registration asked for, reading and writing alike, so no waiter sleeps through them. (select(2) has no HUP
//   for writing. It makes no difference where anything can be written: sockets say OUT with it, and the write end of a pipe says ERR.)
// - Files that the kernel cannot poll (regular files, directories, /dev/null) are always ready.
// - A number that is not an open descriptor is -EBADF in `add` and `modify`, on every poller.
// - A descriptor closed behind our back stops being reported; `remove` still works on it, whatever its number means now. `modify` answers
//   -ENOENT where the kernel tells (epoll) that the number names another file by now: remove it, and add it under a new generation.
// - `wait` is the only call in the program that blocks. It returns -EINTR when a signal interrupts it: the caller
//   owns the deadline and recomputes it. It never returns before the timeout for lack of resolution: it rounds up.
//
// - kEdge with kRead alone asks for less: readiness may be reported only when it is new, and whoever asks remembers it. epoll then need not
//   look at the descriptor again on the next wait, which saves a tenth of the kernel's work per echo; poll and select have nothing like it
//   and report as always (`edges` says which). Only the turn's armed reads use it: learners meet level-triggered readiness everywhere else.
//
// Deliberately absent: any knowledge of Node.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "trace.h"

namespace onewait {

inline constexpr uint32_t kRead = 1;
inline constexpr uint32_t kWrite = 2;
/** In `add` and `modify`: report new readiness only. In `Ready`, with kRead: that is what was done. */
inline constexpr uint32_t kEdge = 4;
/** In `Ready`: the other side has shut down, the connection failed, or urgent data is there: a short read may not be the last. */
inline constexpr uint32_t kHangup = 8;

struct Ready {
  int fd;
  uint32_t generation;
  uint32_t events;
};

class Poller {
 public:
  /** More ready descriptors than this are reported by the next wait: a bound on the work of one turn. */
  static constexpr int kMaxReady = 1024;
  /** `timeout_ns` for a wait without end. */
  static constexpr int64_t kForever = -1;

  virtual ~Poller() = default;
  virtual int add(int fd, uint32_t events, uint32_t generation) = 0;
  virtual int modify(int fd, uint32_t events) = 0;
  virtual int remove(int fd) = 0;
  /**
   * Blocks until something is ready or the timeout has passed; appends to `ready` and returns how many, or -errno. `most` is how many the
   * caller would like at a time, where that costs nothing (epoll); others are reported by the next wait.
   */
  virtual int wait(int64_t timeout_ns, int most, std::vector<Ready>& ready) = 0;
  /**
   * The caller had no room for this one, which is ready, nor for those after it: the next wait begins with it. Nothing to do where
   * the turn remembers them itself (kEdge).
   */
  virtual void continue_at(int /* fd */) {}
  /** Whether kEdge means anything here. */
  virtual bool edges() const { return false; }
  /** The descriptor of the poller itself (epoll), or -1. */
  virtual int fileno() const { return -1; }
  /** Gives that descriptor back, whoever still holds the poller. */
  virtual void close() {}

  /** The current registration's generation if it is edge-triggered here, or 0. */
  uint32_t edge_generation(int fd) const { return has(fd) && edges() && (table_[fd].events & kEdge) ? table_[fd].generation : 0; }
  /** How many descriptors are registered. */
  size_t size() const {
    return static_cast<size_t>(std::ranges::count_if(table_, [](const Registration& registration) { return registration.events != 0; }));
  }
  bool has(int fd) const { return fd >= 0 && static_cast<size_t>(fd) < table_.size() && table_[fd].events != 0; }

 protected:
  explicit Poller(TraceSlotRef trace) : trace_(std::move(trace)) {}

  struct Registration {
    uint32_t generation = 0;
    uint32_t events = 0;          // 0: no registration
    bool always_ready = false;    // the kernel cannot poll this file
  };

  Registration& slot(int fd) {
    if (static_cast<size_t>(fd) >= table_.size()) table_.resize(static_cast<size_t>(fd) + 1);
    return table_[fd];
  }
  Trace* trace() const { return trace_->active; }

  std::vector<Registration> table_;  // indexed by fd: numbers are small and dense (POSIX hands out the lowest free one)

 private:
  TraceSlotRef trace_;
};

std::unique_ptr<Poller> make_epoll_poller(TraceSlotRef trace, int* error);
std::unique_ptr<Poller> make_poll_poller(TraceSlotRef trace);
std::unique_ptr<Poller> make_select_poller(TraceSlotRef trace);

/** The largest descriptor number select(2) can hold is FD_SETSIZE - 1. */
inline constexpr int kSelectMaxFd = 1023;

}  // namespace onewait
