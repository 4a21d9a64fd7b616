// epoll, and how the generator waits. With --spin it polls instead of sleeping. To wake a sleeping generator costs the server's
// write(2) a good microsecond, which over a real network it would not pay, and which falls on slow servers only: a fast one never
// lets it sleep.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <span>

#include "clock.h"
#include "failure.h"

/** A server that says nothing for so long, although it owes something, has failed: the program ends. */
constexpr uint64_t kStallNanos = 10'000'000'000u;

/**
 * The time that a polling generator has left over: polls that found nothing, pauses that it could have used. What is left of the CPU
 * time that it had is its work, and the share of that says how much more it could have done. A poll takes a microsecond, a pause
 * twenty; if one has lasted longer somebody else had the core, and that time was not the generator's.
 */
class SpareTime {
 public:
  void add(uint64_t nanos) {
    if (nanos < kInterrupted) total_ += nanos;
  }
  void clear() { total_ = 0; }
  uint64_t total() const { return total_; }

 private:
  static constexpr uint64_t kInterrupted = 50'000;
  uint64_t total_ = 0;
};

class Poller {
 public:
  /** No more than so many events at a time. */
  static constexpr size_t kBatch = 256;

  explicit Poller(size_t batch = kBatch) : batch_(batch) {
    if (fd_ < 0) fail(kSystem, "epoll_create1: %s", std::strerror(errno));
  }
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
  ~Poller() { close(fd_); }

  int fd() const { return fd_; }

  void watch(int fd, size_t place, uint32_t interest) { control(EPOLL_CTL_ADD, fd, place, interest); }
  void watch_again(int fd, size_t place, uint32_t interest) { control(EPOLL_CTL_MOD, fd, place, interest); }

  void unwatch(int fd) { control(EPOLL_CTL_DEL, fd, 0, 0); }

  /** What is ready now. */
  std::span<const epoll_event> poll() { return wait_millis(0); }

  /** What is ready at the latest `until`, a moment of now(). */
  std::span<const epoll_event> wait(uint64_t until) {
    const uint64_t time = now();
    return wait_millis(until > time ? static_cast<int>((until - time + 999'999) / 1'000'000) : 0);
  }

  /** Sleeps until one of several has something ready, or until a moment that is more exact than epoll's milliseconds. */
  static void sleep(std::initializer_list<const Poller*> pollers, uint64_t until) {
    static const int exact = prctl(PR_SET_TIMERSLACK, 1ul);  // The kernel's default may add 50 microseconds.
    static_cast<void>(exact);
    std::array<pollfd, 2> watched{};
    size_t count = 0;
    for (const Poller* poller : pollers) watched[count++] = {poller->fd_, POLLIN, 0};
    const uint64_t time = now();
    const uint64_t left = until > time ? until - time : 0;
    const timespec timeout{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    if (ppoll(watched.data(), count, &timeout, nullptr) < 0 && errno != EINTR) fail(kSystem, "ppoll: %s", std::strerror(errno));
  }

 private:
  void control(int operation, int fd, size_t place, uint32_t interest) {
    epoll_event event{};
    event.events = interest;
    event.data.u64 = place;
    if (epoll_ctl(fd_, operation, fd, &event) < 0) fail(kSystem, "epoll_ctl: %s", std::strerror(errno));
  }

  std::span<const epoll_event> wait_millis(int millis) {
    const int ready = epoll_wait(fd_, events_.data(), static_cast<int>(batch_), millis);
    if (ready < 0 && errno != EINTR) fail(kSystem, "epoll_wait: %s", std::strerror(errno));
    return {events_.data(), static_cast<size_t>(std::max(ready, 0))};
  }

  int fd_ = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, kBatch> events_{};
  size_t batch_;
};
