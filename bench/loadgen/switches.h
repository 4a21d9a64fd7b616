// Who had a core, and from when: the kernel's own record of each time that a core went from one thread to another (PERF_RECORD_SWITCH_CPU_WIDE,
// perf_event_open(2)). Costs the core a fraction of a microsecond for each.
//
// Deliberately absent: a tracepoint with a filter, which would have to know threads by their names; here the kernel says the process.
#pragma once

#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>

class Switches {
 public:
  /** Those of `core` from now on; null where that takes a privilege that is missing (CAP_PERFMON), or where the kernel is not allowed to. */
  static std::unique_ptr<Switches> of(int core) {
    std::unique_ptr<Switches> switches(new Switches);
    return switches->open(core) ? std::move(switches) : nullptr;
  }
  Switches(const Switches&) = delete;
  Switches& operator=(const Switches&) = delete;

  ~Switches() {
    if (memory_ != MAP_FAILED) munmap(memory_, page_ + kBytes);
    if (fd_ >= 0) close(fd_);
  }

  /**
   * Hands over what happened since the last time: `each` gets a process (0 is none) and the nanoseconds of CLOCK_MONOTONIC at which a thread of it
   * got the core. As a rule twice: the thread that leaves reports it and so does the one that comes, and either may be hidden from us. What follows
   * 4,096 switches that nobody has asked for is lost.
   */
  template <typename Each>
  void take(const Each& each) {
    auto* const page = static_cast<perf_event_mmap_page*>(memory_);
    const uint64_t head = std::atomic_ref(page->data_head).load(std::memory_order_acquire);
    for (uint64_t tail = page->data_tail; tail < head;) {
      Record record;
      copy(tail, &record.header, sizeof record.header);
      if (record.header.type == PERF_RECORD_SWITCH_CPU_WIDE) {
        copy(tail, &record, sizeof record);
        const bool leaves = record.header.misc & PERF_RECORD_MISC_SWITCH_OUT;
        each(static_cast<pid_t>(leaves ? record.other_process : record.process), record.time);
      }
      tail += record.header.size;
    }
    std::atomic_ref(page->data_tail).store(head, std::memory_order_release);
  }

 private:
  static constexpr size_t kBytes = 256 * 1024;  // two records of 32 bytes for each switch

  struct Record {
    perf_event_header header;
    uint32_t other_process, other_thread;  // who comes after this one, or came before it
    uint32_t process, thread;
    uint64_t time;
  };

  Switches() = default;

  bool open(int core) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME;
    attributes.sample_id_all = 1;
    attributes.context_switch = 1;
    attributes.use_clockid = 1;
    attributes.clockid = CLOCK_MONOTONIC;
    fd_ = static_cast<int>(syscall(SYS_perf_event_open, &attributes, -1, core, -1, PERF_FLAG_FD_CLOEXEC));
    if (fd_ < 0) return false;
    memory_ = mmap(nullptr, page_ + kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    return memory_ != MAP_FAILED;
  }

  /** A record may lie at the end of the ring and go on at its beginning. */
  void copy(uint64_t from, void* to, size_t size) const {
    const char* const ring = static_cast<const char*>(memory_) + page_;
    const size_t begin = from % kBytes;
    const size_t first = std::min(size, kBytes - begin);
    std::memcpy(to, ring + begin, first);
    std::memcpy(static_cast<char*>(to) + first, ring, size - first);
  }

  const size_t page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  int fd_ = -1;
  void* memory_ = MAP_FAILED;
};
