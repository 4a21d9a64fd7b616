// When the machine took a core away: a hypervisor that let somebody else run, an interrupt that took its time. After jHiccup (Gil Tene,
// https://github.com/giltene/jHiccup), but on the very core.
//
// On each core that is watched a thread which the scheduler prefers to all others there (SCHED_FIFO, sched(7)) asks to be woken every 500 us. The
// server cannot keep it from running, which it preempts; the kernel on the server's behalf can, where it does not reschedule: with small messages for
// 0.2 ms at the most, with large ones for longer, so they are not for this. What kept it from running for a millisecond kept the server from running
// as well (half of what took three quarters of one is noticed, too). Whoever is measured, it takes the core some per cent of its time: a timer is
// dear under a hypervisor.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <deque>
#include <thread>
#include <vector>

#include "clock.h"

class Hiccups {
 public:
  ~Hiccups() { stop(); }

  /** Watches these cores from now on. False, and nothing is watched, where that takes a privilege that is missing (CAP_SYS_NICE). */
  bool watch(const std::vector<int>& cores) {
    for (const int core : cores) {
      watchers_.emplace_back();
      watchers_.back().thread = std::thread([this, core, &watcher = watchers_.back()] { watch(core, watcher); });
    }
    while (started_ < watchers_.size()) std::this_thread::yield();
    if (!refused_ && !watchers_.empty()) return true;
    stop();
    watchers_.clear();
    return false;
  }

  /** Ends it. What follows may be asked then. */
  void stop() {
    stopping_ = true;
    for (Watcher& watcher : watchers_) {
      if (watcher.thread.joinable()) watcher.thread.join();
    }
  }

  /**
   * Whether a message that was meant to leave at `moment` must have met one: half a millisecond before it, during it, or after it for three times as
   * long, which a server that is three quarters busy takes to do what it could not. How long the message took must not count: a server that
   * stalls for long would meet one for sure, and what it did would be the machine's fault.
   */
  bool meets(uint64_t moment) const {
    for (const Watcher& watcher : watchers_) {
      for (const Hiccup& hiccup : watcher.hiccups) {
        if (moment + kHiccup >= hiccup.begin && moment < hiccup.end + 3 * (hiccup.end - hiccup.begin)) return true;
      }
    }
    return false;
  }

 private:
  static constexpr uint64_t kPeriod = 500'000;
  static constexpr uint64_t kHiccup = 500'000;

  struct Hiccup {
    uint64_t begin, end;  // from when the thread last ran, at the earliest
  };
  struct Watcher {
    std::thread thread;
    std::vector<Hiccup> hiccups;
  };

  void watch(int core, Watcher& watcher) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<size_t>(core), &cores);
    sched_param parameters{};
    parameters.sched_priority = 50;
    const bool allowed = pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0 &&
                         pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters) == 0;
    if (!allowed) refused_ = true;
    ++started_;
    for (uint64_t last = now(); allowed && !stopping_;) {
      const uint64_t due = last + kPeriod;
      const timespec moment{static_cast<time_t>(due / 1'000'000'000), static_cast<long>(due % 1'000'000'000)};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, nullptr);
      const uint64_t time = now();
      if (time > due + kHiccup) watcher.hiccups.push_back({last, time});
      last = time;
    }
  }

  std::deque<Watcher> watchers_;  // whose places do not move
  std::atomic<size_t> started_ = 0;
  std::atomic<bool> refused_ = false;
  std::atomic<bool> stopping_ = false;
};
