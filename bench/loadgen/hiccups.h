// When the machine took a core away: a hypervisor that let somebody else run, an interrupt that took its time, another process. After jHiccup
// (Gil Tene, https://github.com/giltene/jHiccup), but on the very core.
//
// On each core that is watched a thread which the scheduler prefers to all others there (SCHED_FIFO, sched(7)) asks to be woken every 500 us. The
// server cannot keep it from running, which it preempts; the kernel on the server's behalf can, where it does not reschedule: with small messages for
// 0.2 ms at the most, with large ones for longer, so they are not for this. What kept it from running for a millisecond kept the server from running
// as well (half of what took three quarters of one is noticed, too). Whoever is measured, it takes the core some per cent of its time: a timer is
// dear under a hypervisor.
//
// Another process such a thread preempts as well, so of those the kernel has to tell (switches.h), where it may. All but the server and the generator
// are others, and the kernel's threads, too; but not ksoftirqd, which hands over what the two send each other.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "clock.h"
#include "switches.h"

class Hiccups {
 public:
  ~Hiccups() { stop(); }

  /**
   * Watches these cores from now on, also for processes other than this one and `server` with its children, if that is not 0. False, and nothing
   * is watched, where that takes a privilege that is missing (CAP_SYS_NICE).
   */
  bool watch(const std::vector<int>& cores, pid_t server) {
    for (const int core : cores) {
      watchers_.emplace_back();
      watchers_.back().thread = std::thread([this, core, server, &watcher = watchers_.back()] { watch(core, server, watcher); });
    }
    while (started_ < watchers_.size()) std::this_thread::yield();
    if (!refused_ && !watchers_.empty()) return true;
    stop();
    watchers_.clear();
    return false;
  }

  /** Whether the kernel tells of other processes, on all the cores. Without it a hiccup is what keeps the watching threads from running. */
  bool sees_processes() const { return sees_processes_; }

  /** Ends it. What follows may be asked then. */
  void stop() {
    stopping_ = true;
    for (Watcher& watcher : watchers_) {
      if (!watcher.thread.joinable()) continue;
      watcher.thread.join();
      std::erase_if(watcher.hiccups, [](const Hiccup& hiccup) { return hiccup.length < kShortest; });
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
        if (moment + kBefore >= hiccup.begin && moment < hiccup.end) return true;
      }
    }
    return false;
  }

 private:
  static constexpr uint64_t kPeriod = 500'000;
  static constexpr uint64_t kLate = 500'000;
  static constexpr uint64_t kShortest = 100'000;
  static constexpr uint64_t kBefore = 500'000;  // messages that were under way when it began
  static constexpr uint64_t kAfter = 3;         // times its length, until what it held up is done

  struct Hiccup {
    uint64_t begin;
    uint64_t length;  // of those that came before the one before them was over, together
    uint64_t end;     // of what it led to
  };
  struct Watcher {
    std::thread thread;
    std::deque<Hiccup> hiccups;

    void add(uint64_t begin, uint64_t end) {
      const uint64_t length = end - begin;
      if (hiccups.empty() || hiccups.back().end < begin) hiccups.push_back({begin, 0, begin});
      hiccups.back().length += length;
      hiccups.back().end += (1 + kAfter) * length;
    }
  };

  void watch(int core, pid_t server, Watcher& watcher) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<size_t>(core), &cores);
    sched_param parameters{};
    parameters.sched_priority = 50;
    const bool allowed = pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0 &&
                         pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters) == 0;
    if (!allowed) refused_ = true;
    const std::unique_ptr<Switches> switches = allowed && server != 0 ? Switches::of(core) : nullptr;
    if (switches == nullptr) sees_processes_ = false;
    std::set<pid_t> ours{0, getpid(), soft_interrupts_of(core)};
    for (const pid_t member : family_of(server)) ours.insert(member);
    uint64_t taken = 0;  // since when another process has had the core
    ++started_;
    for (uint64_t last = now(); allowed && !stopping_;) {
      const uint64_t due = last + kPeriod;
      const timespec moment{static_cast<time_t>(due / 1'000'000'000), static_cast<long>(due % 1'000'000'000)};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, nullptr);
      const uint64_t time = now();
      if (time > due + kLate) watcher.add(last, time);
      last = time;
      if (switches == nullptr) continue;
      switches->take([&](pid_t process, uint64_t begin) {
        if (taken != 0) watcher.add(taken, begin);
        taken = ours.contains(process) ? 0 : begin;
      });
    }
  }

  /** The kernel's thread for what interrupts have left to do on a core; 0 if it has none of that name. */
  static pid_t soft_interrupts_of(int core) {
    const std::string wanted = "ksoftirqd/" + std::to_string(core);
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", none)) {
      std::string name;
      if (std::getline(std::ifstream(entry.path() / "comm"), name) && name == wanted) return std::stoi(entry.path().filename());
    }
    return 0;
  }

  std::deque<Watcher> watchers_;  // whose places do not move
  std::atomic<size_t> started_ = 0;
  std::atomic<bool> refused_ = false;
  std::atomic<bool> sees_processes_ = true;
  std::atomic<bool> stopping_ = false;
};
