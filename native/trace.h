// The trace: what happened to every descriptor and every task, in order, as fixed-size records in a bounded ring.
//
// The ring's memory is shared with JavaScript, which writes records of its own into it (src/trace/ring.ts), in the same thread: so there is one
// producer, and no call per record. The consumer is a writer thread, which appends to the file. The producer never waits: when the ring is
// full the record is counted as lost, and the count is itself written as a record as soon as there is room.
// A flight recorder has no consumer: its oldest records give way, and `dump` writes what there is.
//
// Several threads of a program have a ring each and append to one file in batches, under flock(2); a kThread record before each batch says
// whose it is. The first to open the file begins it anew, the others join: its header knows the process and how many are at it.
//
// File format (little-endian, native alignment): one FileHeader, then Records of 48 bytes. A text comes in pieces of 24 bytes, each a record,
// which follow each other. src/trace/record.ts mirrors it.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "syscalls.h"

namespace onewait {

enum class Kind : uint8_t {
  kWait = 1,     // code: Syscall; arg: timeout asked in ns (-1: none); result: ready count or -errno; duration: time blocked
  kControl,      // code: EPOLL_CTL_*; arg: epoll events; result
  kReady,        // mask: kRead | kWrite
  kSyscall,      // code: Syscall; arg: bytes asked; result: the return value or -errno; duration; mask: was ready, and is read for that, or 0
  kSpawn,        // task; arg: parent task; a kText with its name comes before
  kSuspend,      // task; code: WaitKind; fd and mask, or a kText before it, say on what; result: which wait of the loop it is, 1, 2, 3, ...;
                 // arg: for how many ns it had not run, if it is an async function, which V8 suspends when others have run
  kResume,       // task; code: WaitKind; fd, mask and result as in its suspend; arg: ns between ready and resume
  kEnd,          // task; code: 0 value, 1 error, 2 cancelled
  kTimer,        // task; arg: how late the timer fired, in ns
  kHost,         // a turn given to libuv
  kOpen,         // fd; task; code: 0 accepted, 1 connected, 2 listening, 3 found; a kText with its name comes before
  kClose,        // fd, generation: the descriptor's track ends
  kLost,         // result: how many records did not fit into the ring
  kText,         // code: TextKind; task or fd: whose; mask: bytes in this piece, and the flags of Text
  kThread,       // fd: number of the thread, 0 for the main one; arg: its id with the kernel. Records that follow are its; none do, and it is over,
                 // if result is 1
};

enum class TextKind : uint8_t { kTaskName = 1, kDescriptorName, kWaitName, kError, kPayload, kLocalAddress };

enum class Syscall : uint8_t {
  kEpollWait = 1, kEpollPwait2, kPpoll, kPselect6, kRead, kWrite, kRecv, kSend, kAccept4, kConnect, kShutdown, kClose, kSocket, kBind, kListen,
  kRingSend, kRingRecv,
};

/** Numbers are doubles, for JavaScript writes them too; nanoseconds stay exact for a hundred days. */
struct Record {
  double t;  // ns since the trace began
  Kind kind;
  uint8_t code;
  uint16_t mask;
  int32_t fd;
  uint32_t generation;
  uint32_t task;
  double result;
  double duration;  // ns
  double arg;
};
static_assert(sizeof(Record) == 48);

struct Piece {
  static constexpr size_t kBytes = 24;
  static constexpr uint16_t kMore = 0x8000;       // the text goes on in the next record
  static constexpr uint16_t kContinues = 0x4000;  // and this is not its beginning
};

struct FileHeader {
  char magic[8];  // "1WAITTRC"
  uint32_t version;
  uint16_t record_size;
  uint16_t writers;        // threads that are at it
  uint64_t wall_clock_ns;  // CLOCK_REALTIME at t = 0
  uint64_t monotonic_ns;   // CLOCK_MONOTONIC at t = 0
  uint32_t pid;
  uint32_t missing;        // records that the disk had no room for
  uint64_t started;        // when the process was, in ticks since the boot (proc_pid_stat(5)): numbers of processes are used again
};
static_assert(sizeof(FileHeader) == 48);

/** The head of the ring's memory; the records follow it. src/trace/ring.ts mirrors it field by field. */
struct TraceHead {
  // Of the producer, native and JavaScript:
  double clock;       // the time that was read last
  uint32_t written;   // records so far, modulo 2^32
  uint32_t limit;     // there is room while `written` is not this
  uint32_t capacity;  // records that the ring holds, a power of two
  uint32_t task;      // on whose behalf system calls are made
  uint32_t lost;      // records that did not fit since the last that did
  uint32_t reserved;
  double turn;        // how long the longest turn took since JavaScript looked, from the return of a wait to the next one; ns
  uint64_t reserved_too[3];
  // Between producer and consumer, a cache line each:
  alignas(64) std::atomic<uint32_t> published;  // records that the consumer may take
  alignas(64) std::atomic<uint32_t> taken;      // records that it has taken
};
static_assert(sizeof(TraceHead) == 192);

struct TraceOptions {
  size_t ring_records = 1 << 18;
  bool flight = false;
  uint32_t thread = 0;         // number of the thread
  uint32_t payload_bytes = 0;  // of every transfer that are recorded
};

class Trace {
 public:
  static constexpr uint32_t kVersion = 2;
  static constexpr size_t kMaxText = 480;
  static constexpr size_t kMaxPayload = 4096;

  /**
   * Begins to record into `path`, or into nothing but the ring when `options.flight`. The file gets mode 0600. A symbolic link, a directory, a FIFO or
   * the file of another process that is at it is refused: null, and `error` is the negative errno.
   */
  static std::unique_ptr<Trace> open(const char* path, const TraceOptions& options, int* error);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /** The memory shared with JavaScript: TraceHead, then `capacity` records. It outlives the trace. */
  std::shared_ptr<uint8_t[]> memory() const { return memory_; }
  size_t memory_bytes() const { return sizeof(TraceHead) + static_cast<size_t>(head_->capacity) * sizeof(Record); }

  /** Reads the clock: ns since the trace began. A reading costs more than a record, so who has just had one passes it on. */
  double now() { return head_->clock = static_cast<double>(monotonic_ns() - origin_); }
  /** The last reading. */
  double last() const { return head_->clock; }
  /** Whether another record fits, for JavaScript, which has found the ring full. */
  bool room();
  /** Lets the consumer have what there is. */
  void publish() { head_->published.store(head_->written, std::memory_order_release); }

  // `start` is a reading of the clock; those that read it again return the time at which the call was over.
  void wait(double start, Syscall call, int64_t timeout_ns, int64_t result);
  void control(double start, int op, int fd, uint32_t generation, uint32_t mask, int64_t result);
  void ready(int fd, uint32_t generation, uint32_t events);
  double syscall(double start, Syscall call, int fd, int64_t asked, int64_t result);
  /** A call that was over at `end` on CLOCK_MONOTONIC, and began when the one before it was over. */
  void passed(uint64_t end, Syscall call, int fd, uint32_t generation, uint32_t events, int64_t asked, int64_t result, uint32_t task);
  void host();
  /** A descriptor that was there already. */
  void found(int fd, std::string_view name);
  void text(TextKind what, uint32_t task, int fd, std::string_view text);
  /** What was sent or received, as much of it as was asked for, to come before its system call. */
  void payload(const uint8_t* data, int64_t length) {
    if (payload_bytes_ > 0 && length > 0) text(TextKind::kPayload, 0, -1, {reinterpret_cast<const char*>(data), static_cast<size_t>(length)});
  }

  /** Has the writer take what there is, soon: before a wait that only a signal may end, for instance. */
  void hand_over() {
    publish();
    wake_.notify_one();
  }

  /**
   * Writes what the flight recorder has to a new file. 0 or -errno; -EEXIST when `keep_others`, and there is a trace of another process there, one
   * that lives or that was started after this recording: a child may have inherited the name.
   */
  int dump(const char* path, bool keep_others);

  /** Ends it: everything is in the file when this returns. How many records are missing there. */
  uint64_t finish();

 private:
  Trace(const TraceOptions& options);
  int begin_file(const char* path, bool keep_others);
  void rebase(uint64_t origin);
  void end_file(bool is_over);
  uint32_t write_batch(uint32_t from, uint32_t count);
  Record* claim();
  void drain();
  void write_loop();

  Fd file_;
  uint64_t origin_;
  const bool flight_;
  const uint32_t thread_;
  const uint32_t tid_;
  const uint32_t payload_bytes_;
  std::shared_ptr<uint8_t[]> memory_;
  TraceHead* head_;
  Record* ring_;
  uint64_t lost_total_ = 0;          // of the producer
  double waited_ = 0;                // when the last wait returned
  uint64_t unwritten_ = 0;           // of the consumer: what a full disk cost
  std::atomic<bool> failed_{false};  // no room on the disk: from there on records are counted, not kept
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  pthread_t writer_;
  bool writes_ = false;  // a file, by a thread of its own
};

/** Where an environment keeps its trace: pollers and turns look here, and null is the whole cost of tracing that is off. */
struct TraceSlot {
  Trace* active = nullptr;
};
using TraceSlotRef = std::shared_ptr<TraceSlot>;

}  // namespace onewait
