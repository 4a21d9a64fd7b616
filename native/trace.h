// The trace: what happened to every descriptor and every task, in order, as fixed-size records in a bounded ring.
//
// The loop's thread is the only producer and a writer thread the only consumer. The producer never waits: when the ring
// is full the record is counted as lost, and the count is itself written as a record as soon as there is room.
//
// File format (little-endian, native alignment): one FileHeader, then Records of 48 bytes in order of time of recording.
// A kText record carries `result` bytes of UTF-8, which follow it in ceil(result / 48) slots. src/trace/record.ts reads it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "syscalls.h"

namespace onewait {

enum class Kind : uint8_t {
  kWait = 1,     // code: Syscall; arg: timeout asked in ns (-1: none); result: ready count or -errno; duration: time blocked
  kControl,      // code: EPOLL_CTL_*; arg: epoll events; result
  kReady,        // mask: kRead | kWrite
  kSyscall,      // code: Syscall; arg: bytes asked; result: the return value or -errno; duration
  kSpawn,        // task; arg: parent task; a kText with its name comes before
  kSuspend,      // task; code: WaitKind; fd and mask, or arg, say on what
  kResume,       // task; code: WaitKind; arg: ns between ready and resume
  kEnd,          // task; code: 0 value, 1 error, 2 cancelled
  kTimer,        // task; arg: how late the timer fired, in ns
  kHost,         // a turn given to libuv; arg: 1 when its descriptor was ready
  kOpen,         // fd, generation; code: 0 accepted, 1 connected, 2 listening; a kText with its name comes before
  kClose,        // fd, generation: the descriptor's track ends
  kLost,         // result: how many records did not fit into the ring
  kText,         // code: TextKind; task or fd and generation: whose; result: length in bytes
};

enum class TextKind : uint8_t { kTaskName = 1, kDescriptorName, kWaitName, kError };

enum class Syscall : uint8_t {
  kEpollWait = 1, kEpollPwait2, kPpoll, kPselect6, kRead, kWrite, kRecv, kSend, kAccept4, kConnect, kShutdown, kClose, kSocket, kBind, kListen,
};

struct Record {
  uint64_t t;  // ns since the trace began
  uint8_t kind;
  uint8_t code;
  uint16_t mask;
  int32_t fd;
  uint32_t generation;
  uint32_t task;
  int64_t result;
  uint64_t duration;  // ns
  int64_t arg;
};
static_assert(sizeof(Record) == 48);

struct FileHeader {
  char magic[8];           // "1WAITTRC"
  uint32_t version;
  uint32_t record_size;
  uint64_t wall_clock_ns;  // CLOCK_REALTIME at t = 0
  uint64_t monotonic_ns;   // CLOCK_MONOTONIC at t = 0
  uint32_t pid;
  uint32_t thread;
  uint64_t reserved;
};
static_assert(sizeof(FileHeader) == 48);

class Trace {
 public:
  static constexpr uint32_t kVersion = 1;

  /** Creates `path` with mode 0600 and starts the writer. A symbolic link, a directory or a FIFO is refused: null, and `error` is the negative errno. */
  static std::unique_ptr<Trace> open(const char* path, size_t ring_records, int* error);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /** Whom the records that follow concern, where they do not say so themselves. */
  void set_task(uint32_t task) { task_ = task; }

  void wait(uint64_t start, Syscall call, int64_t timeout_ns, int64_t result);
  void control(uint64_t start, int op, int fd, uint32_t generation, uint32_t mask, int64_t result);
  void ready(int fd, uint32_t generation, uint32_t events);
  void syscall(uint64_t start, Syscall call, int fd, uint32_t generation, int64_t asked, int64_t result, uint32_t task);
  void syscall(uint64_t start, Syscall call, int fd, int64_t asked, int64_t result) { syscall(start, call, fd, 0, asked, result, task_); }
  void host(bool ready);
  void event(Kind kind, uint8_t code, uint32_t task, int fd, uint32_t generation, uint32_t mask, int64_t arg);
  void text(TextKind what, uint32_t task, int fd, uint32_t generation, std::string_view text);

  /** Has the writer take what there is, soon: before a wait that only a signal may end, for instance. */
  void hand_over() { wake_.notify_one(); }

  uint64_t lost() const { return lost_total_.load(std::memory_order_relaxed); }

 private:
  Trace(Fd file, size_t ring_records);
  uint64_t since_start(uint64_t now) const { return now > origin_ ? now - origin_ : 0; }
  bool reserve(size_t slots);
  Record& at(uint64_t index) { return ring_[index & (ring_.size() - 1)]; }
  void push(const Record& record);
  void drain();
  void write_loop();

  Fd file_;
  uint64_t origin_;
  uint32_t task_ = 0;
  std::vector<Record> ring_;  // a power of two of them
  std::atomic<uint64_t> head_{0};
  std::atomic<uint64_t> tail_{0};
  uint64_t lost_pending_ = 0;
  std::atomic<uint64_t> lost_total_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread writer_;
};

/** Where an environment keeps its trace: pollers and turns look here, and null is the whole cost of tracing that is off. */
struct TraceSlot {
  Trace* active = nullptr;
};
using TraceSlotRef = std::shared_ptr<TraceSlot>;

}  // namespace onewait
