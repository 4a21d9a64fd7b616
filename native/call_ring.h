// io_uring as one system call for many sends and receives. Nothing more of it: no polling by the kernel, no completions later, no work for its
// threads.
//
// A turn's reads and writes are of different sockets, and of the older system calls each names one. io_uring_enter(2) takes them all; as each of them has
// MSG_DONTWAIT it is carried out, or refused, before the call returns. So it is what a loop over send(2) and recv(2) would be, in one entry into the kernel.
//
// Where a sandbox (seccomp), an administrator (kernel.io_uring_disabled) or a limit refuses it, the turn makes them one by one. Plain C++; one thread
// at a time.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "syscalls.h"

namespace onewait {

class CallRing {
 public:
  /** Sends and receives per call. */
  static constexpr uint32_t kEntries = 64;

  /** Null where there is none; whether to ask again `later`, for it was a limit. */
  static std::unique_ptr<CallRing> open(bool* later);
  CallRing(const CallRing&) = delete;
  CallRing& operator=(const CallRing&) = delete;
  ~CallRing();

  uint32_t size() const { return size_; }
  bool full() const { return size_ == kEntries; }
  /** Adds a send, of at most 2 GiB like those of send(2). */
  void add_send(int fd, const void* data, size_t length) { add(IORING_OP_SEND, fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL); }
  /** Adds a receive, likewise. */
  void add_receive(int fd, void* data, size_t length) { add(IORING_OP_RECV, fd, data, length, MSG_DONTWAIT); }
  /** Forgets what was added. */
  void clear() { size_ = 0; }
  /** Makes what was added, in order, as far as the kernel has memory for it; the rest is forgotten. Returns how many were made. */
  uint32_t submit();
  /** Of the last `submit`: bytes, or -errno. */
  int32_t result(uint32_t index) const { return results_[index]; }
  /** It is of no more use: somebody closed its descriptor, or a sandbox allows no more than to open one. */
  bool broken() const { return broken_; }

 private:
  CallRing() = default;
  void add(uint8_t operation, int fd, const void* data, size_t length, uint32_t flags);
  int64_t set_up(uint32_t flags);
  bool map(const io_uring_params& parameters);
  bool enter(uint32_t count, uint32_t wanted);
  void give_up(bool lost);
  uint32_t reap();

  Fd fd_;
  uint8_t* queues_ = nullptr;  // both, shared with the kernel (IORING_FEAT_SINGLE_MMAP)
  size_t queue_bytes_ = 0;
  io_uring_sqe* entries_ = nullptr;
  uint32_t* head_ = nullptr;  // of the submissions: the kernel's
  uint32_t* tail_ = nullptr;
  uint32_t* completed_head_ = nullptr;
  uint32_t* completed_tail_ = nullptr;  // the kernel's
  const io_uring_cqe* completions_ = nullptr;
  uint32_t completions_mask_ = 0;
  uint32_t size_ = 0;
  bool broken_ = false;
  int32_t results_[kEntries];
};

/** The ring of a thread, for all its turns: opened when the first of them has use for it. */
class LazyCallRing {
 public:
  /** Null where there is none. */
  CallRing* get();

 private:
  static constexpr uint32_t kPatience = 1000;

  std::unique_ptr<CallRing> ring_;
  uint32_t asks_until_next_ = 1;  // 0: never again
};

}  // namespace onewait
