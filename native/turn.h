// One turn of the loop below JavaScript: flush queued writes, wait, read for the suspended readers. One native call for all of it.
//
// JavaScript queues submissions in shared memory (no call), the turn carries them out, and what happened comes back as
// completions in the same memory. The coroutine still suspends on its descriptor; only who issues the non-blocking
// system call moves, and with it the price of a call per read and per write.
//
// - A READ submission arms its descriptor once: the first readiness after it is consumed by recv(2) right here.
//   Readiness without an armed read is reported as such: that is how a bare `readable(fd)` is woken. Where the descriptor is registered
//   with kEdge it is remembered instead, and the next armed read is tried without waiting. A read that filled what it was given, or that came
//   with a hang-up, leaves the descriptor remembered as readable; a short one has drained it (epoll(7), "Do I need to continuously read/write").
// - Bytes land in JavaScript's own memory. Small reads pass through the slab and are packed into a page, so that a chunk somebody
//   keeps holds kilobytes, not the whole slab; large ones stay where the kernel put them. Nothing is rewound: a page or slab that
//   is used up is replaced by JavaScript, never written again. When there is no room left the remaining descriptors
//   simply stay ready, and the next turn, with fresh memory, reads them.
// - A loop that is behind does not always ask. When a round of waits has brought all they might, each of them, and readers of small messages only, those
//   that have waited longest are read for without a wait, for two milliseconds, as long as nearly all of them have something; then comes another round,
//   in which whatever is ready has its turn. What is saved is what the kernel takes to report each of them, a twentieth of a small echo, and a system call:
//   these reads are known before the writes are made, and leave with them. Nobody is read for who does not wait, and for whom nothing has come waits on.
//   (A number that was closed behind our back, and names another socket by now, is not told from that of the reader.)
// - All reads of a turn are collected, then made, then settled, and its writes likewise. Where the kernel isolates its page tables, or trusts no
//   processor, each system call costs the caller its TLB entries: between two of them only the loop, a list and the bytes are touched.
// - Where the kernel has io_uring, four or more are made in one system call (native/call_ring.h). Where the bytes of a read may go is known when the one
//   before it has its, so each of those gets a place of kPlace; a descriptor that fills its place is expected to have more, and is read alone for a while.
// - Small writes are copied and leave at the start of a turn; large ones stay where they are, and leave when all tasks have run (`send`).
// - A write that the kernel takes whole needs no completion. What it does not take is reported, and every later write
//   of the same flush on that descriptor is reported untouched, so bytes never overtake each other.
//
// Plain C++; it knows nothing of Node. native/addon.cc gives it memory, native/host.cc gives it libuv.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "call_ring.h"
#include "poller.h"
#include "syscalls.h"
#include "trace.h"

namespace onewait {

struct Submission {
  static constexpr int32_t kRead = 1;   // length: at most this many bytes; 0 disarms
  static constexpr int32_t kWrite = 2;  // offset, length: bytes in the out area
  // 0: dropped, for its descriptor is no more
  int32_t op, fd, offset, length, task;
};

/** A write of memory that JavaScript holds: too much to be copied. */
struct Send {
  int32_t fd, task;
  int32_t result;  // bytes written, 0 when the kernel takes none, or -errno
};

struct Completion {
  static constexpr int32_t kReady = 1;      // result: events
  static constexpr int32_t kReadPage = 2;   // result: bytes, 0 at the end, or -errno; offset: in the page
  static constexpr int32_t kReadSlab = 3;   // the same in the slab
  static constexpr int32_t kUnwritten = 4;  // result: bytes written, or -errno; offset, length: the submission's
  int32_t kind, fd, generation, result, offset, length;
};

/** The head of the shared memory. src/driver.ts mirrors it field by field. */
struct SharedHead {
  double deadline;            // JS -> native: when the next timer is due, ms on `now`'s clock; Infinity: never
  double now;                 // native -> JS: the time after the last wait, or after the reads of a turn without one, ms
  int32_t submissions;        // JS -> native: how many; native sets it to 0
  int32_t completions;        // native -> JS
  int32_t unwritten;          // native -> JS
  int32_t runnable;           // JS -> native: 1 when tasks are ready to run: do not block
  int32_t page_cursor;        // both
  int32_t slab_cursor;        // both
  int32_t reserved[6];
};

/** When the last turn ended, and JavaScript had its turn: ns of CLOCK_MONOTONIC; 0 while a turn goes on. Another thread may look at it. */
struct Pulse {
  std::atomic<uint64_t> returned_ns = 0;
};
using PulseRef = std::shared_ptr<Pulse>;

class Turn {
 public:
  /**
   * What a wait should bring at the most. What was touched for a read, in the kernel and here, is then still in the cache when the answer is sent.
   * And the kernel gives the buffers of what was received back to the core that sent it, by an interrupt when 32 have come together
   * (skb_attempt_defer_free in net/core/skbuff.c): with 24 they are fetched before, when that core sends again. Measured with 64 connections, CPU
   * per round trip: 16 and 32 are 1 % dearer, 64 is 4 %.
   */
  static constexpr size_t kBatch = 24;
  /**
   * And no more of large messages than this, if the next are as large as the last ones were: the buffers that the kernel has them in and those that they
   * are copied to share the core's own cache with what is sent. Measured with 16 KiB, CPU per round trip: 3 % less for `yield`, the same for `await`.
   */
  static constexpr size_t kBatchBytes = 192 * 1024;
  static constexpr size_t kSubmissions = 4096;
  static constexpr size_t kOutBytes = 256 * 1024;
  static constexpr size_t kSends = 1024;
  /** So many writes or reads at least are made in one system call; fewer are made one by one. */
  static constexpr size_t kWorthARing = 4;
  /** After a round of waits turns go without one for as long as this: others are to be served, too. */
  static constexpr double kUnaskedMs = 2;
  /** And not if more of them miss than one of so many. */
  static constexpr size_t kTriesPerMiss = 8;
  /** So many of the readers that were armed last are known in their order, a power of two. */
  static constexpr uint32_t kQueue = 1024;
  /** What each of the reads of one system call gets to read into. */
  static constexpr size_t kPlace = 2048;
  /** After a read that filled its place, or would have, so many of its descriptor are made alone, with room for kReadBytes. */
  static constexpr uint32_t kReadsAlone = 16;
  /** What the slots may grow to for writes: those on larger numbers leave one by one. */
  static constexpr size_t kDescriptors = 1 << 20;
  /** A read never gets less room than this in the slab. */
  static constexpr size_t kReadBytes = 64 * 1024;
  /** Reads smaller than this are packed into the page. */
  static constexpr size_t kSmall = 4096;

  /** All memory shared with JavaScript, in one block that outlives both sides' last use of it. */
  struct Shared {
    SharedHead head;
    Submission submissions[kSubmissions];
    Completion completions[Poller::kMaxReady];
    Completion unwritten[kSubmissions];
    Send sends[kSends];
    uint8_t out[kOutBytes];
  };

  /** Memory that JavaScript owns; it is looked up anew for every turn, since JavaScript may have detached it. */
  struct Area {
    uint8_t* data = nullptr;
    size_t length = 0;
  };

  /** `ring`: by which the writes of a turn may be made in one system call, and its reads; null: one by one. */
  Turn(Poller* poller, TraceSlotRef trace, PulseRef pulse, std::shared_ptr<LazyCallRing> ring);

  std::shared_ptr<Shared> shared() const { return shared_; }
  void set_areas(Area page, Area slab) {
    page_ = page;
    slab_ = slab;
  }
  /** libuv's backend descriptor: its readiness is not a completion, it ends the turn. */
  int watch_host(int fd);
  void unwatch_host();

  /** Makes the queued writes and arms the queued reads. Returns how many writes were left unfinished. */
  int flush();
  /** Issues a write of `data[i]` for each of `Shared::sends`, of which there are as many. What came of it is in their results. */
  void send(std::span<const Area> data);
  /**
   * A turn: flushes; blocks until something is ready, a timer of the loop is due or `limit_ns` are over (kForever: no limit), or not at all when there is
   * something to do; then reads for the armed. Returns the number of completions, or -errno (-EINTR).
   */
  int run(int64_t limit_ns);
  bool host_ready() const { return host_ready_; }
  /** Something was to be read, and there was no memory for it: JavaScript has to give some. */
  bool starved() const { return starved_; }
  bool deadline_due() const { return shared_->head.deadline <= now_ms(); }
  double now_ms() const { return static_cast<double>(monotonic_ns() - origin_) / 1e6; }
  /** Forgets an armed read; every close of a descriptor passes here. */
  void forget(int fd);

 private:
  struct Slot {
    int32_t armed = 0;     // bytes wanted by the suspended reader, 0: none
    int32_t task = 0;
    uint32_t readable = 0; // edge-triggered only: the generation that is known to be readable
    uint32_t hangup = 0;   // the generation whose end is known to have come: a short read does not drain it
    uint32_t blocked = 0;  // the flush in which the kernel stopped taking bytes
    uint32_t batch = 0;    // the last batch of sends that it was in
    uint32_t alone = 0;    // so many of its reads are to be made alone
    uint32_t place = 0;    // in the queue of readers, when it was armed last
    uint32_t round = 0;    // the last round of waits that reported it
  };

  Slot& slot(int fd) {
    if (static_cast<size_t>(fd) >= slots_.size()) slots_.resize(static_cast<size_t>(fd) + 1);
    return slots_[fd];
  }
  /** In `Ready::events`, here only: its reader is served in this turn; it was remembered, and is registered otherwise by now. */
  static constexpr uint32_t kTaken = 1u << 16;
  static constexpr uint32_t kStale = 1u << 17;

  /** A read or a write of this turn. */
  struct Transfer {
    enum Made : uint8_t { kNot, kAlone, kTogether };
    int fd;
    int32_t task;
    uint8_t* data;
    size_t length;
    int64_t result;  // bytes, or -errno
    uint64_t end;    // when the call was over, in ticks of batch_clock_; 0: not known
    Made made;       // whether, and how
    int32_t armed;   // of a read: as much as its reader wants
  };

  int take_turn(int64_t limit_ns);
  void begin_transfers() { transfer_count_ = write_count_ = made_early_ = 0; }
  void add_transfer(const Transfer& transfer) { transfers_[transfer_count_++] = transfer; }
  std::span<Transfer> writes() { return {transfers_.get(), write_count_}; }
  std::span<Transfer> reads() { return {transfers_.get() + write_count_, transfer_count_ - write_count_}; }
  void collect_submissions();
  int64_t timeout_ns(int64_t limit_ns) const;
  void arm(const Submission& submission);
  bool guess();
  void note_wait(bool full, size_t known);
  bool transmit_all();
  bool overtakes(const Transfer& write) const;
  void transmit_one(Transfer& write);
  size_t transmit_together(std::span<Transfer> writes);
  void add_receives_behind(CallRing& ring);
  void record_writes();
  void report_unwritten();
  void collect_reads(size_t known);
  size_t receive_all();
  size_t receive_together(std::span<Transfer> reads, uint8_t* to, size_t room);
  void add_receives(CallRing& ring, std::span<Transfer> reads, uint8_t* to, size_t room);
  void take_received(const CallRing& ring, uint32_t first, std::span<Transfer> reads);
  void receive_one(Transfer& read, uint8_t* to, size_t room);
  bool settle_read(const Transfer& read, const Ready& ready, uint32_t news, Slot& slot);
  void complete(int32_t kind, const Ready& ready, int32_t result, int32_t offset);

  Poller* poller_;
  TraceSlotRef trace_;
  PulseRef pulse_;
  std::shared_ptr<LazyCallRing> ring_;
  std::shared_ptr<Shared> shared_;
  Area page_;
  Area slab_;
  uint64_t origin_;
  int host_fd_ = -1;
  bool host_ready_ = false;
  bool starved_ = false;
  uint32_t flushes_ = 0;
  uint32_t batches_ = 0;  // of sends in one call
  std::vector<Slot> slots_;
  std::unique_ptr<Transfer[]> transfers_ = std::make_unique_for_overwrite<Transfer[]>(kSubmissions + Poller::kMaxReady);
  size_t transfer_count_ = 0;
  size_t write_count_ = 0;  // of them; the others, behind these, are reads
  size_t made_early_ = 0;   // so many reads have been made with the writes
  size_t batch_ = kBatch;  // what the next wait should bring
  uint32_t round_ = 1;          // of waits, each of which brought all it might; it is over when one of them reports what another has
  uint32_t round_reports_ = 0;  // so much did they report until now
  bool round_mixed_ = false;    // some of it was for others than readers of small messages
  double unasked_until_ms_ = 0; // until then turns go without a wait; 0: none does
  std::unique_ptr<int[]> queue_ = std::make_unique<int[]>(kQueue);  // readers in the order in which they were armed, by their place modulo kQueue
  uint32_t queue_begin_ = 0;    // places; modulo 2^32
  uint32_t queue_end_ = 0;
  BatchClock batch_clock_;  // in which they were made, while tracing
  std::vector<Ready> ready_;
  std::vector<Ready> remembered_;  // armed, and known to be readable without waiting
};

}  // namespace onewait
