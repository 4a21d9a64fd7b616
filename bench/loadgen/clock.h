// The clocks of a measurement: wall time, and the CPU time of a whole process, its ended threads included.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

inline uint64_t nanoseconds(clockid_t clock) {
  timespec now{};
  if (clock_gettime(clock, &now) < 0) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t now() { return nanoseconds(CLOCK_MONOTONIC); }

/** A process and its children (proc_tid_children(5)), for some servers are several. */
inline std::vector<pid_t> family_of(pid_t process) {
  std::vector<pid_t> family{process};
  const std::string name = std::to_string(process);
  std::ifstream children("/proc/" + name + "/task/" + name + "/children");
  for (pid_t child; children >> child;) family.push_back(child);
  return family;
}

/**
 * CPU time in nanoseconds of another process (clock_getcpuclockid(3)) and of its children.
 * /proc/PID/stat has the same figure, but in ticks of 10 ms, which is one per cent of a window of a second.
 */
inline uint64_t cpu_time(pid_t process) {
  if (process == 0) return 0;
  uint64_t sum = 0;
  for (const pid_t member : family_of(process)) {
    clockid_t clock;
    if (clock_getcpuclockid(member, &clock) == 0) sum += nanoseconds(clock);
  }
  return sum;
}

/** All the clocks at one moment. A window is the difference of two of these. */
struct Moment {
  uint64_t wall;
  uint64_t server_cpu;
  uint64_t own_cpu;

  // The wall clock last: reading the CPU clock of a process with thousands of threads takes milliseconds, at both ends alike.
  static Moment of(pid_t server) {
    Moment moment{};
    moment.server_cpu = cpu_time(server);
    moment.own_cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    moment.wall = now();
    return moment;
  }
};
